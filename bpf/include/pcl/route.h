/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* On to another host by the routing table, past the host's own stack. */
#ifndef PCL_ROUTE_H
#define PCL_ROUTE_H

#include <linux/bpf.h>

#include "pcl/forward.h"
#include "pcl/packet.h"
#include "pcl/rewrite.h"
#include "pcl/trace.h"

#undef PCL_FILE
#define PCL_FILE PCL_FILE_ROUTE

#define PCL_AF_INET 2
#define PCL_AF_INET6 10

/* Too large for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct bpf_fib_lookup);
	__uint(max_entries, 1);
} pcl_fibs SEC(".maps");

static __always_inline struct bpf_fib_lookup *pcl_fib(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&pcl_fibs, &zero);
}

/* bpf_fib_lookup's answer for a packet from here, as it enters. */
static __always_inline long pcl_find_route(struct __sk_buff *skb, const union pcl_addr *src,
					   const union pcl_addr *dst, __u8 protocol,
					   const int family, struct bpf_fib_lookup *fib)
{
	__builtin_memset(fib, 0, sizeof(*fib));
	fib->family = family == 4 ? PCL_AF_INET : PCL_AF_INET6;
	fib->l4_protocol = protocol;
	fib->ifindex = skb->ifindex;
	if (family == 4) {
		fib->ipv4_src = src->v4;
		fib->ipv4_dst = dst->v4;
	} else {
		__builtin_memcpy(fib->ipv6_src, src, 16);
		__builtin_memcpy(fib->ipv6_dst, dst, 16);
	}
	return bpf_fib_lookup(skb, fib, sizeof(*fib), 0);
}

static __always_inline bool pcl_route_leads_out(long answer)
{
	return answer == BPF_FIB_LKUP_RET_SUCCESS || answer == BPF_FIB_LKUP_RET_NO_NEIGH ||
	       answer == BPF_FIB_LKUP_RET_FRAG_NEEDED;
}

/* The neighbour is not known yet: the kernel asks for it and keeps the packet meanwhile. */
static __always_inline long pcl_redirect_neigh(const struct bpf_fib_lookup *fib)
{
	struct bpf_redir_neigh next = {.nh_family = fib->family};

	__builtin_memcpy(next.ipv6_nh, fib->ipv6_dst, 16);
	return bpf_redirect_neigh(fib->ifindex, &next, sizeof(next), 0);
}

/* The packet has its new ends already. */
static __always_inline int pcl_route_on(struct __sk_buff *skb, const struct pcl_rewrite *ends,
					__u8 protocol, const int family)
{
	struct bpf_fib_lookup *fib = pcl_fib();
	struct ethhdr *eth;
	long answer;
	int result;

	if (!fib)
		return PCL_DROP(PCL_DROP_NO_ROUTE);
	answer = pcl_find_route(skb, &ends->src, &ends->dst, protocol, family, fib);
	pcl_trace_step(PCL_STEP_ROUTE, answer, fib->ifindex, 0, 0);
	if (answer == BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return PCL_DROP(PCL_DROP_TOO_BIG);
	if (!pcl_route_leads_out(answer))
		return PCL_DROP(PCL_DROP_NO_ROUTE);
	eth = pcl_data(skb);
	if ((void *)(eth + 1) + (family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr)) >
	    pcl_data_end(skb))
		return PCL_DROP(PCL_DROP_INVALID);
	result = pcl_decrement_ttl((void *)(eth + 1), (void *)(eth + 1), family);
	if (result)
		return result;
	if (answer == BPF_FIB_LKUP_RET_NO_NEIGH) {
		pcl_redirect_neigh(fib);
		return PCL_REDIRECTED;
	}
	__builtin_memcpy(eth->h_dest, fib->dmac, ETH_ALEN);
	__builtin_memcpy(eth->h_source, fib->smac, ETH_ALEN);
	bpf_redirect(fib->ifindex, 0);
	return PCL_REDIRECTED;
}

__noinline int pcl_route(struct __sk_buff *skb, const struct pcl_rewrite *ends, __u32 protocol,
			 __u32 family)
{
	if (!ends)
		return PCL_DROP(PCL_DROP_INVALID);
	return family == 4 ? pcl_route_on(skb, ends, protocol, 4)
			   : pcl_route_on(skb, ends, protocol, 6);
}

#endif /* PCL_ROUTE_H */
