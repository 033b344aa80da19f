/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ICMP to and from a VIP: a ping is answered, an error goes to the backend of the flow that it
 * quotes, and a client whose packets are too big for the tunnel is told so.
 */
#ifndef PCL_XDP_ICMP_H
#define PCL_XDP_ICMP_H

#include <linux/icmpv6.h>

#include "pcl/protocol.h"
#include "pcl/xdp_vip.h"

#undef PCL_FILE
#define PCL_FILE PCL_XDP_FILE_XDP_ICMP

#define PCL_ICMP_FRAG_NEEDED 4
#define PCL_ICMPV6_NEIGHBOUR_FIRST 133
#define PCL_ICMPV6_NEIGHBOUR_LAST 137

struct pcl_xdp_icmp {
	__u8 type;
	__u8 code;
	__be16 check;
	__be32 rest;
};

/* An IP header and the first eight bytes of what it carries: what an error must quote. */
struct pcl_xdp_quote4 {
	struct iphdr ip;
	__be16 sport_be;
	__be16 dport_be;
	__be32 rest;
};

struct pcl_xdp_quote6 {
	struct ipv6hdr ip;
	__be16 sport_be;
	__be16 dport_be;
	__be32 rest;
};

struct pcl_xdp_error4 {
	struct ethhdr eth;
	struct iphdr ip;
	struct pcl_xdp_icmp icmp;
	struct pcl_xdp_quote4 quote;
} __attribute__((packed));

struct pcl_xdp_error6 {
	struct ethhdr eth;
	struct ipv6hdr ip;
	struct pcl_xdp_icmp icmp;
	struct pcl_xdp_quote6 quote;
} __attribute__((packed));

static __always_inline void pcl_xdp_swap_macs(struct ethhdr *eth)
{
	__u8 mac[ETH_ALEN];

	__builtin_memcpy(mac, eth->h_dest, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, mac, ETH_ALEN);
}

static __always_inline __u16 pcl_xdp_sum(const void *start, const __u32 bytes, __u64 sum)
{
	const __u16 *halves = start;

	for (__u32 i = 0; i < bytes / 2; i++)
		sum += halves[i];
	return ~pcl_xdp_fold(sum);
}

/* Grown at the front, cut at the back: what is left is the quote. The new eth is the old one. */
static __always_inline int pcl_xdp_make_room(struct xdp_md *ctx, const __u32 head,
					     const __u32 whole)
{
	long length = pcl_xdp_end(ctx) - pcl_xdp_data(ctx);
	struct ethhdr *eth;

	if (bpf_xdp_adjust_head(ctx, -(int)head))
		return PCL_XDP_END(PCL_XDP_DROP_WRITE);
	eth = pcl_xdp_data(ctx);
	if ((void *)eth + head + sizeof(*eth) > pcl_xdp_end(ctx))
		return PCL_XDP_END(PCL_XDP_DROP_WRITE);
	*eth = *(struct ethhdr *)((void *)eth + head);
	pcl_xdp_swap_macs(eth);
	if (bpf_xdp_adjust_tail(ctx, (int)(whole - head - length)))
		return PCL_XDP_END(PCL_XDP_DROP_WRITE);
	return 0;
}

/* RFC 1191 */
static __noinline int pcl_xdp_send_too_big4(struct xdp_md *ctx, __u32 mtu)
{
	struct pcl_xdp_error4 *error;
	int result;

	result = pcl_xdp_make_room(ctx, sizeof(error->ip) + sizeof(error->icmp), sizeof(*error));
	if (result)
		return result;
	error = pcl_xdp_data(ctx);
	if ((void *)(error + 1) > pcl_xdp_end(ctx))
		return PCL_XDP_END(PCL_XDP_DROP_WRITE);
	__builtin_memset(&error->ip, 0, sizeof(error->ip));
	error->ip.version = 4;
	error->ip.ihl = 5;
	error->ip.tot_len = bpf_htons(sizeof(*error) - sizeof(error->eth));
	error->ip.ttl = pcl_xdp_config.ttl;
	error->ip.protocol = IPPROTO_ICMP;
	error->ip.saddr = error->quote.ip.daddr;
	error->ip.daddr = error->quote.ip.saddr;
	error->ip.check = pcl_xdp_sum(&error->ip, sizeof(error->ip), 0);
	error->icmp.type = ICMP_DEST_UNREACH;
	error->icmp.code = PCL_ICMP_FRAG_NEEDED;
	error->icmp.check = 0;
	error->icmp.rest = bpf_htonl(mtu & 0xffff);
	error->icmp.check =
	    pcl_xdp_sum(&error->icmp, sizeof(error->icmp) + sizeof(error->quote), 0);
	return PCL_XDP_END(PCL_XDP_SENT_TOO_BIG);
}

/* RFC 4443, 3.2 */
static __noinline int pcl_xdp_send_too_big6(struct xdp_md *ctx, __u32 mtu)
{
	const __u32 payload = sizeof(struct pcl_xdp_icmp) + sizeof(struct pcl_xdp_quote6);
	struct pcl_xdp_error6 *error;
	int result;

	result = pcl_xdp_make_room(ctx, sizeof(error->ip) + sizeof(error->icmp), sizeof(*error));
	if (result)
		return result;
	error = pcl_xdp_data(ctx);
	if ((void *)(error + 1) > pcl_xdp_end(ctx))
		return PCL_XDP_END(PCL_XDP_DROP_WRITE);
	__builtin_memset(&error->ip, 0, sizeof(error->ip));
	error->ip.version = 6;
	error->ip.payload_len = bpf_htons(payload);
	error->ip.nexthdr = IPPROTO_ICMPV6;
	error->ip.hop_limit = pcl_xdp_config.ttl;
	error->ip.saddr = error->quote.ip.daddr;
	error->ip.daddr = error->quote.ip.saddr;
	error->icmp.type = ICMPV6_PKT_TOOBIG;
	error->icmp.code = 0;
	error->icmp.check = 0;
	error->icmp.rest = bpf_htonl(mtu);
	/* The pseudo header's length and protocol, then addresses and payload, which adjoin. */
	error->icmp.check = pcl_xdp_sum(&error->ip.saddr, 2 * sizeof(error->ip.saddr) + payload,
					bpf_htons(payload) + bpf_htons(IPPROTO_ICMPV6));
	return PCL_XDP_END(PCL_XDP_SENT_TOO_BIG);
}

static __noinline int pcl_xdp_echo4(struct xdp_md *ctx)
{
	struct pcl_xdp_error4 *echo = pcl_xdp_data(ctx);
	__be32 address;

	if ((void *)&echo->quote > pcl_xdp_end(ctx))
		return PCL_XDP_END(PCL_XDP_DROP_INVALID);
	pcl_xdp_swap_macs(&echo->eth);
	address = echo->ip.saddr;
	echo->ip.saddr = echo->ip.daddr;
	echo->ip.daddr = address;
	echo->ip.ttl = pcl_xdp_config.ttl;
	echo->ip.check = 0;
	echo->ip.check = pcl_xdp_sum(&echo->ip, sizeof(echo->ip), 0);
	echo->icmp.type = ICMP_ECHOREPLY;
	echo->icmp.check =
	    pcl_xdp_fold((__u32)echo->icmp.check + bpf_htons((ICMP_ECHO - ICMP_ECHOREPLY) << 8));
	return PCL_XDP_END(PCL_XDP_ECHO_REPLY);
}

static __noinline int pcl_xdp_echo6(struct xdp_md *ctx)
{
	struct pcl_xdp_error6 *echo = pcl_xdp_data(ctx);
	struct in6_addr address;

	if ((void *)&echo->quote > pcl_xdp_end(ctx))
		return PCL_XDP_END(PCL_XDP_DROP_INVALID);
	pcl_xdp_swap_macs(&echo->eth);
	address = echo->ip.saddr;
	echo->ip.saddr = echo->ip.daddr;
	echo->ip.daddr = address;
	echo->ip.hop_limit = pcl_xdp_config.ttl;
	echo->icmp.type = ICMPV6_ECHO_REPLY;
	/* One more in the high byte of a word, so one less in the complement of the sum. */
	echo->icmp.check = pcl_xdp_fold((__u32)echo->icmp.check + (__u16)~bpf_htons(0x0100));
	return PCL_XDP_END(PCL_XDP_ECHO_REPLY);
}

static __always_inline bool pcl_xdp_is_error4(__u8 type)
{
	return type == ICMP_DEST_UNREACH || type == ICMP_TIME_EXCEEDED ||
	       type == ICMP_PARAMETERPROB;
}

/* The quoted packet went from the VIP to the client: its flow is the other way round. */
static __always_inline int pcl_xdp_icmp4(struct xdp_md *ctx, struct pcl_xdp_packet *packet)
{
	const struct pcl_xdp_error4 *error = pcl_xdp_data(ctx);
	__be32 vip = packet->flow4.dst;

	if ((void *)&error->quote > pcl_xdp_end(ctx))
		return pcl_xdp_refuse(packet, 4, PCL_XDP_END(PCL_XDP_DROP_INVALID));
	if (error->icmp.type == ICMP_ECHO) {
		int known = pcl_xdp_refuse(packet, 4, 0);

		return known ? known : pcl_xdp_echo4(ctx);
	}
	if (!pcl_xdp_is_error4(error->icmp.type))
		return pcl_xdp_refuse(packet, 4, PCL_XDP_END(PCL_XDP_DROP_ICMP_UNRELATED));
	if ((void *)(error + 1) > pcl_xdp_end(ctx))
		return pcl_xdp_refuse(packet, 4, PCL_XDP_END(PCL_XDP_DROP_INVALID));
	if (error->quote.ip.ihl != 5 || error->quote.ip.saddr != vip ||
	    error->quote.ip.frag_off & bpf_htons(0x1fff))
		return pcl_xdp_refuse(packet, 4, PCL_XDP_END(PCL_XDP_DROP_ICMP_UNRELATED));
	packet->icmp = true;
	packet->flow4.src = error->quote.ip.daddr;
	packet->flow4.sport_be = error->quote.dport_be;
	packet->flow4.dport_be = error->quote.sport_be;
	packet->flow4.protocol = error->quote.ip.protocol;
	return 0;
}

static __always_inline int pcl_xdp_icmp6(struct xdp_md *ctx, struct pcl_xdp_packet *packet)
{
	const struct pcl_xdp_error6 *error = pcl_xdp_data(ctx);
	__u8 type;

	if ((void *)&error->quote > pcl_xdp_end(ctx))
		return pcl_xdp_refuse(packet, 6, PCL_XDP_END(PCL_XDP_DROP_INVALID));
	type = error->icmp.type;
	if (type >= PCL_ICMPV6_NEIGHBOUR_FIRST && type <= PCL_ICMPV6_NEIGHBOUR_LAST)
		return PCL_XDP_END(PCL_XDP_PASS_NOT_VIP);
	if (type == ICMPV6_ECHO_REQUEST) {
		int known = pcl_xdp_refuse(packet, 6, 0);

		return known ? known : pcl_xdp_echo6(ctx);
	}
	if (type == 0 || type >= 128)
		return pcl_xdp_refuse(packet, 6, PCL_XDP_END(PCL_XDP_DROP_ICMP_UNRELATED));
	if ((void *)(error + 1) > pcl_xdp_end(ctx))
		return pcl_xdp_refuse(packet, 6, PCL_XDP_END(PCL_XDP_DROP_INVALID));
	if (__builtin_memcmp(&error->quote.ip.saddr, &error->ip.daddr, 16))
		return pcl_xdp_refuse(packet, 6, PCL_XDP_END(PCL_XDP_DROP_ICMP_UNRELATED));
	packet->icmp = true;
	__builtin_memcpy(&packet->flow6.src, &error->quote.ip.daddr, 16);
	packet->flow6.sport_be = error->quote.dport_be;
	packet->flow6.dport_be = error->quote.sport_be;
	packet->flow6.protocol = error->quote.ip.nexthdr;
	return 0;
}

#endif /* PCL_XDP_ICMP_H */
