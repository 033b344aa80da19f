/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* From bytes to a flow. What a VIP cannot take is refused by name; the rest is the stack's. */
#ifndef PCL_XDP_PARSE_H
#define PCL_XDP_PARSE_H

#include <linux/tcp.h>

#include "pcl/xdp_icmp.h"

#undef PCL_FILE
#define PCL_FILE PCL_XDP_FILE_XDP_PARSE

/* Ports lie first in TCP, UDP and SCTP. length: what the IP header leaves for them. */
static __always_inline int pcl_xdp_ports(struct xdp_md *ctx, struct pcl_xdp_packet *packet,
					 const __u32 offset, const int family, __u32 length,
					 __u32 protocol)
{
	const __u8 *l4 = pcl_xdp_data(ctx) + offset;
	const __be16 *ports = (const void *)l4;

	/* verifier: it has not followed that this many bytes are there; the compiler has. */
	asm volatile("" : "+r"(length));
	if (length < 8 || (void *)(l4 + 8) > pcl_xdp_end(ctx))
		return pcl_xdp_refuse(packet, family, PCL_XDP_END(PCL_XDP_DROP_INVALID));
	if (protocol == IPPROTO_TCP) {
		if (length < sizeof(struct tcphdr) ||
		    (void *)(l4 + sizeof(struct tcphdr)) > pcl_xdp_end(ctx))
			return pcl_xdp_refuse(packet, family, PCL_XDP_END(PCL_XDP_DROP_INVALID));
		packet->syn = (l4[13] & 0x12) == 0x02;
	}
	if (family == 4) {
		packet->flow4.sport_be = ports[0];
		packet->flow4.dport_be = ports[1];
	} else {
		packet->flow6.sport_be = ports[0];
		packet->flow6.dport_be = ports[1];
	}
	return 0;
}

static __always_inline int pcl_xdp_parse4(struct xdp_md *ctx, struct pcl_xdp_packet *packet)
{
	const struct iphdr *ip = pcl_xdp_data(ctx) + PCL_XDP_L3;

	if ((void *)(ip + 1) > pcl_xdp_end(ctx) || ip->version != 4 || ip->ihl < 5)
		return PCL_XDP_END(PCL_XDP_DROP_INVALID);
	packet->flow4.src = ip->saddr;
	packet->flow4.dst = ip->daddr;
	packet->flow4.protocol = ip->protocol;
	packet->length = bpf_ntohs(ip->tot_len);
	if (packet->length < sizeof(*ip) || !pcl_xdp_ends_within(ctx, ip, packet->length))
		return pcl_xdp_refuse(packet, 4, PCL_XDP_END(PCL_XDP_DROP_INVALID));
	if (ip->ihl > 5)
		return pcl_xdp_refuse(packet, 4, PCL_XDP_END(PCL_XDP_DROP_IP_OPTIONS));
	if (ip->frag_off & bpf_htons(0x3fff))
		return pcl_xdp_refuse(packet, 4, PCL_XDP_END(PCL_XDP_DROP_FRAGMENT));
	switch (ip->protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
		return pcl_xdp_ports(ctx, packet, PCL_XDP_L3 + sizeof(*ip), 4,
				     packet->length - sizeof(*ip), ip->protocol);
	case IPPROTO_ICMP:
		return pcl_xdp_icmp4(ctx, packet);
	default:
		return pcl_xdp_refuse(packet, 4, PCL_XDP_END(PCL_XDP_DROP_L4_PROTOCOL));
	}
}

static __always_inline int pcl_xdp_other6(const struct pcl_xdp_packet *packet, __u8 next)
{
	switch (next) {
	case IPPROTO_FRAGMENT:
		return pcl_xdp_refuse(packet, 6, PCL_XDP_END(PCL_XDP_DROP_FRAGMENT));
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_DSTOPTS:
	case IPPROTO_AH:
	case IPPROTO_MH:
		return pcl_xdp_refuse(packet, 6, PCL_XDP_END(PCL_XDP_DROP_IPV6_EXTENSION));
	default:
		return pcl_xdp_refuse(packet, 6, PCL_XDP_END(PCL_XDP_DROP_L4_PROTOCOL));
	}
}

static __always_inline int pcl_xdp_parse6(struct xdp_md *ctx, struct pcl_xdp_packet *packet)
{
	const struct ipv6hdr *ip = pcl_xdp_data(ctx) + PCL_XDP_L3;
	__u32 payload;

	if ((void *)(ip + 1) > pcl_xdp_end(ctx) || ip->version != 6)
		return PCL_XDP_END(PCL_XDP_DROP_INVALID);
	__builtin_memcpy(&packet->flow6.src, &ip->saddr, 16);
	__builtin_memcpy(&packet->flow6.dst, &ip->daddr, 16);
	packet->flow6.protocol = ip->nexthdr;
	payload = bpf_ntohs(ip->payload_len);
	packet->length = payload + sizeof(*ip);
	if (!pcl_xdp_ends_within(ctx, ip + 1, payload))
		return pcl_xdp_refuse(packet, 6, PCL_XDP_END(PCL_XDP_DROP_INVALID));
	switch (ip->nexthdr) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
		return pcl_xdp_ports(ctx, packet, PCL_XDP_L3 + sizeof(*ip), 6, payload,
				     ip->nexthdr);
	case IPPROTO_ICMPV6:
		return pcl_xdp_icmp6(ctx, packet);
	default:
		return pcl_xdp_other6(packet, ip->nexthdr);
	}
}

#endif /* PCL_XDP_PARSE_H */
