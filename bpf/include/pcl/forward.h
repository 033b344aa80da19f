/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Delivery: to a local endpoint's device, or on to the host's stack. */
#ifndef PCL_FORWARD_H
#define PCL_FORWARD_H

#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#include "pcl/packet.h"
#include "pcl/parse.h"
#include "pcl/trace.h"

#undef PCL_FILE
#define PCL_FILE PCL_FILE_FORWARD

static __always_inline bool pcl_mac_equal(const __u8 *a, const __u8 *b)
{
	return *(__u32 *)a == *(__u32 *)b && *(__u16 *)(a + 4) == *(__u16 *)(b + 4);
}

static __always_inline void pcl_mac_copy(__u8 *to, const __u8 *from)
{
	*(__u32 *)to = *(__u32 *)from;
	*(__u16 *)(to + 4) = *(__u16 *)(from + 4);
}

/* One hop less, and the IPv4 header checksum with it (RFC 1141). */
static __always_inline int pcl_decrement_ttl(struct iphdr *ip4, struct ipv6hdr *ip6,
					     const int family)
{
	__u32 check;

	if (family == 6) {
		if (ip6->hop_limit <= 1)
			return PCL_DROP(PCL_DROP_TTL);
		ip6->hop_limit--;
		return PCL_OK;
	}
	if (ip4->ttl <= 1)
		return PCL_DROP(PCL_DROP_TTL);
	check = ip4->check;
	check += bpf_htons(0x0100);
	ip4->check = check + (check >= 0xffff);
	ip4->ttl--;
	return PCL_OK;
}

static __always_inline int pcl_deliver(struct __sk_buff *skb, const struct pcl_side *to, bool peer,
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
	pcl_mac_copy(eth->h_dest, to->mac);
	pcl_mac_copy(eth->h_source, to->host_mac);
	pcl_trace_step(PCL_STEP_FORWARD, to->ifindex, peer, 0, 0);
	if (peer)
		bpf_redirect_peer(to->ifindex, 0);
	else
		bpf_redirect(to->ifindex, 0);
	return PCL_REDIRECTED;
}

/* From the stack (tx) a packet is on its way already; from elsewhere it may have to turn. */
static __always_inline int pcl_forward(struct __sk_buff *skb, const struct pcl_side *to, bool peer,
				       const enum pcl_hook hook, const int family)
{
	if (hook != PCL_HOOK_TX && to->ifindex)
		return pcl_deliver(skb, to, peer, family);
	pcl_trace_step(PCL_STEP_FORWARD, hook == PCL_HOOK_TX ? to->ifindex : 0, 0, 0, 0);
	return PCL_PASS;
}

#endif /* PCL_FORWARD_H */
