/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* On to another host by the routing table, past the host's own stack. */
#ifndef PCL_ROUTE_H
#define PCL_ROUTE_H

#include <linux/bpf.h>
#include <linux/in.h>

#include "pcl/forward.h"
#include "pcl/packet.h"
#include "pcl/rewrite.h"
#include "pcl/trace.h"

#undef PCL_FILE
#define PCL_FILE PCL_FILE_ROUTE

#define PCL_AF_INET 2
#define PCL_AF_INET6 10

/* The way that was found for the packet at hand. Too large for the stack. */
struct pcl_way {
	struct bpf_fib_lookup fib;
	__s32 answer; /* BPF_FIB_LKUP_RET_* */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct pcl_way);
	__uint(max_entries, 1);
} pcl_ways SEC(".maps");

static __always_inline struct pcl_way *pcl_way(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&pcl_ways, &zero);
}

/* Of what a device sends at once, without Ethernet's header: a segment, where there are many. */
static __always_inline __u32 pcl_length(const struct __sk_buff *skb,
					const struct pcl_packet *packet)
{
	if (!skb->gso_size)
		return skb->len - PCL_L3_OFFSET;
	return packet->l4_offset - PCL_L3_OFFSET + skb->gso_size +
	       (packet->tuple.protocol == IPPROTO_TCP ? packet->tcp_header : 8);
}

/* bpf_fib_lookup for a packet from here, as it enters; length 0: whatever fits. */
static __always_inline int pcl_find_way(struct __sk_buff *skb, const union pcl_addr *src,
					const union pcl_addr *dst, __u8 protocol, __u32 length,
					const int family, struct pcl_way *way)
{
	struct bpf_fib_lookup *fib = &way->fib;

	__builtin_memset(fib, 0, sizeof(*fib));
	fib->family = family == 4 ? PCL_AF_INET : PCL_AF_INET6;
	fib->l4_protocol = protocol;
	fib->ifindex = skb->ifindex;
	fib->tot_len = length > 65535 ? 65535 : length;
	if (family == 4) {
		fib->ipv4_src = src->v4;
		fib->ipv4_dst = dst->v4;
	} else {
		__builtin_memcpy(fib->ipv6_src, src, 16);
		__builtin_memcpy(fib->ipv6_dst, dst, 16);
	}
	way->answer = bpf_fib_lookup(skb, fib, sizeof(*fib), 0);
	pcl_trace_step(PCL_STEP_ROUTE, way->answer, fib->ifindex, 0, 0);
	switch (way->answer) {
	case BPF_FIB_LKUP_RET_SUCCESS:
	case BPF_FIB_LKUP_RET_NO_NEIGH:
		return PCL_OK;
	case BPF_FIB_LKUP_RET_FRAG_NEEDED:
		return PCL_DROP(PCL_DROP_TOO_BIG);
	default:
		return PCL_DROP(PCL_DROP_NO_ROUTE);
	}
}

/* Where a packet will go with its new ends, before it has them. */
__noinline int pcl_route_find(struct __sk_buff *skb, const struct pcl_packet *packet,
			      const struct pcl_rewrite *ends, __u32 family)
{
	struct pcl_way *way = pcl_way();

	if (!packet || !ends || !way)
		return PCL_DROP(PCL_DROP_NO_ROUTE);
	return family == 4 ? pcl_find_way(skb, &ends->src, &ends->dst, packet->tuple.protocol,
					  pcl_length(skb, packet), 4, way)
			   : pcl_find_way(skb, &ends->src, &ends->dst, packet->tuple.protocol,
					  pcl_length(skb, packet), 6, way);
}

/* The neighbour is not known yet: the kernel asks for it and keeps the packet meanwhile. */
static __always_inline long pcl_redirect_neigh(const struct bpf_fib_lookup *fib)
{
	struct bpf_redir_neigh next = {.nh_family = fib->family};

	__builtin_memcpy(next.ipv6_nh, fib->ipv6_dst, 16);
	return bpf_redirect_neigh(fib->ifindex, &next, sizeof(next), 0);
}

static __always_inline int pcl_route_by(struct __sk_buff *skb, const struct pcl_way *way,
					const int family)
{
	struct ethhdr *eth = pcl_data(skb);
	void *l3 = eth + 1;
	int result;

	if (l3 + (family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr)) > pcl_data_end(skb))
		return PCL_DROP(PCL_DROP_INVALID);
	result = pcl_decrement_ttl(l3, l3, family);
	if (result)
		return result;
	if (way->answer == BPF_FIB_LKUP_RET_NO_NEIGH) {
		pcl_redirect_neigh(&way->fib);
		return PCL_REDIRECTED;
	}
	__builtin_memcpy(eth->h_dest, way->fib.dmac, ETH_ALEN);
	__builtin_memcpy(eth->h_source, way->fib.smac, ETH_ALEN);
	bpf_redirect(way->fib.ifindex, 0);
	return PCL_REDIRECTED;
}

/* Along the way that pcl_route_find() found. */
__noinline int pcl_route(struct __sk_buff *skb, __u32 family)
{
	const struct pcl_way *way = pcl_way();

	if (!way)
		return PCL_DROP(PCL_DROP_NO_ROUTE);
	return family == 4 ? pcl_route_by(skb, way, 4) : pcl_route_by(skb, way, 6);
}

#endif /* PCL_ROUTE_H */
