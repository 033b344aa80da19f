/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * From bytes to struct pcl_packet. A packet is refused unless its L4 header is where the
 * receiver's stack will look for it: what is decided is what is delivered.
 */
#ifndef PCL_PARSE_H
#define PCL_PARSE_H

#include <linux/icmpv6.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include "pcl/fragment.h"
#include "pcl/packet.h"
#include "pcl/protocol.h"

#undef PCL_FILE
#define PCL_FILE PCL_FILE_PARSE

#define PCL_L3_OFFSET sizeof(struct ethhdr)
#define PCL_IPV6_EXTENSIONS 6
#define PCL_LAST_L4 900 /* offset; beyond it lies no packet that means well */

/*
 * verifier: 6.1 forgets the bounds of what was stored or compared in 32 bits, and the compiler
 * leaves out a mask that it finds needless. No header ends beyond 1023.
 */
static __always_inline __u64 pcl_bound(__u32 offset)
{
	__u64 bounded = offset;

	asm volatile("%0 &= 0x3ff" : "+r"(bounded));
	return bounded;
}

/* The headers must lie in the linear part; only a rare packet needs the copy. */
static __always_inline int pcl_pull(struct __sk_buff *skb, __u32 length)
{
	__u64 bounded = pcl_bound(length);

	if (pcl_data(skb) + bounded <= pcl_data_end(skb))
		return PCL_OK;
	if (skb->len < length || bpf_skb_pull_data(skb, length))
		return PCL_DROP(PCL_DROP_INVALID);
	return PCL_OK;
}

static __always_inline bool pcl_is_icmp(__u8 protocol)
{
	return protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6;
}

static __always_inline bool pcl_is_icmp_error(__u8 type, const int family)
{
	if (family == 6)
		return type < 128;
	return type == ICMP_DEST_UNREACH || type == ICMP_TIME_EXCEEDED ||
	       type == ICMP_PARAMETERPROB || type == ICMP_SOURCE_QUENCH;
}

/* RFC 3810: every host reports its groups, and nobody here asks. */
static __always_inline bool pcl_is_multicast_listener(__u8 type)
{
	return (type >= 130 && type <= 132) || type == 143;
}

static __always_inline int pcl_parse_icmp(struct pcl_packet *packet, const __u8 *l4,
					  const int family)
{
	__u8 type = l4[0];
	bool echo = family == 4 ? type == ICMP_ECHO || type == ICMP_ECHOREPLY
				: type == ICMPV6_ECHO_REQUEST || type == ICMPV6_ECHO_REPLY;

	packet->policy_port_be = bpf_htons(type);
	if (echo) {
		packet->tuple.sport_be = *(__be16 *)(l4 + 4);
		packet->tuple.dport_be = packet->tuple.sport_be;
		return PCL_OK;
	}
	packet->icmp_error = pcl_is_icmp_error(type, family);
	if (packet->icmp_error)
		return PCL_OK;
	if (family == 4)
		return PCL_DROP(PCL_DROP_L4_PROTOCOL);
	return pcl_is_multicast_listener(type) ? PCL_DROP(PCL_DROP_NEIGHBOUR_NOISE)
					       : PCL_DROP(PCL_DROP_ICMPV6);
}

/* length: what the IP header says is left for L4, or ~0 for a packet longer than it can say. */
static __always_inline int pcl_parse_l4(struct __sk_buff *skb, struct pcl_packet *packet,
					const int family, __u32 length)
{
	__u64 offset = pcl_bound(packet->l4_offset);
	const __u8 *l4;

	switch (packet->tuple.protocol) {
	case IPPROTO_TCP:
		l4 = pcl_data(skb) + offset;
		if ((void *)(l4 + sizeof(struct tcphdr)) > pcl_data_end(skb) ||
		    length < sizeof(struct tcphdr))
			return PCL_DROP(PCL_DROP_INVALID);
		packet->tcp_flags = l4[13];
		packet->tcp_header = (l4[12] >> 4) * 4;
		if ((l4[12] >> 4) < 5 || (__u32)(l4[12] >> 4) * 4 > length)
			return PCL_DROP(PCL_DROP_INVALID);
		break;
	case IPPROTO_UDP:
		l4 = pcl_data(skb) + offset;
		if ((void *)(l4 + sizeof(struct udphdr)) > pcl_data_end(skb) ||
		    length < sizeof(struct udphdr))
			return PCL_DROP(PCL_DROP_INVALID);
		break;
	case IPPROTO_SCTP:
		l4 = pcl_data(skb) + offset;
		if ((void *)(l4 + 12) > pcl_data_end(skb) || length < 12)
			return PCL_DROP(PCL_DROP_INVALID);
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		l4 = pcl_data(skb) + offset;
		if ((packet->tuple.protocol == IPPROTO_ICMP) != (family == 4))
			return PCL_DROP(PCL_DROP_L4_PROTOCOL);
		if ((void *)(l4 + 8) > pcl_data_end(skb) || length < 8)
			return PCL_DROP(PCL_DROP_INVALID);
		return pcl_parse_icmp(packet, l4, family);
	default:
		return PCL_DROP(PCL_DROP_L4_PROTOCOL);
	}
	packet->tuple.sport_be = *(__be16 *)l4;
	packet->tuple.dport_be = *(__be16 *)(l4 + 2);
	packet->policy_port_be = packet->tuple.dport_be;
	return PCL_OK;
}

/* Bytes of L4 that a first fragment must hold, so that no later one can rewrite its header. */
static __always_inline __u32 pcl_l4_minimum(__u8 protocol)
{
	return protocol == IPPROTO_TCP ? sizeof(struct tcphdr) : 8;
}

/* offset: of this fragment, in bytes; more: whether others follow. */
static __always_inline int pcl_parse_fragment(struct __sk_buff *skb, struct pcl_packet *packet,
					      const int family, __be32 id_be, __u32 offset,
					      bool more, __u32 length)
{
	if (offset) {
		if (offset < pcl_l4_minimum(packet->tuple.protocol))
			return PCL_DROP(PCL_DROP_FRAGMENT_TINY);
		packet->later_fragment = true;
		return pcl_fragment_find(packet, family, id_be);
	}
	if (length < pcl_l4_minimum(packet->tuple.protocol))
		return PCL_DROP(PCL_DROP_FRAGMENT_TINY);
	if (pcl_pull(skb, packet->l4_offset + pcl_l4_minimum(packet->tuple.protocol)))
		return PCL_DROP(PCL_DROP_INVALID);
	packet->first_fragment = more;
	packet->fragment_id_be = id_be;
	return pcl_parse_l4(skb, packet, family, length);
}

static __always_inline int pcl_parse_ipv4(struct __sk_buff *skb, struct pcl_packet *packet)
{
	__u32 header, total, fragment, room = skb->len - PCL_L3_OFFSET;
	const struct iphdr *ip;
	int result;

	result = pcl_pull(skb, PCL_L3_OFFSET + sizeof(*ip));
	if (result)
		return result;
	ip = pcl_data(skb) + PCL_L3_OFFSET;
	if ((void *)(ip + 1) > pcl_data_end(skb))
		return PCL_DROP(PCL_DROP_INVALID);
	header = ip->ihl * 4;
	total = bpf_ntohs(ip->tot_len);
	if (!total && skb->gso_size)
		total = room; /* BIG TCP */
	if (ip->version != 4 || header < sizeof(*ip) || total < header || total > room)
		return PCL_DROP(PCL_DROP_INVALID);
	packet->tuple.src.v4 = ip->saddr;
	packet->tuple.dst.v4 = ip->daddr;
	packet->tuple.protocol = ip->protocol;
	packet->l4_offset = PCL_L3_OFFSET + header;
	fragment = bpf_ntohs(ip->frag_off) & 0x3fff;
	if (fragment)
		return pcl_parse_fragment(skb, packet, 4, ip->id, (fragment & 0x1fff) * 8,
					  fragment & 0x2000, total - header);
	result = pcl_pull(skb, PCL_L3_OFFSET + header + pcl_l4_minimum(packet->tuple.protocol));
	if (result)
		return result;
	return pcl_parse_l4(skb, packet, 4, total - header);
}

static __always_inline bool pcl_is_ipv6_extension(__u8 protocol)
{
	return protocol == IPPROTO_HOPOPTS || protocol == IPPROTO_ROUTING ||
	       protocol == IPPROTO_DSTOPTS || protocol == IPPROTO_FRAGMENT;
}

struct pcl_ipv6_walk {
	__u32 offset;
	__u32 end; /* where the packet ends by its own length */
	__be32 id_be;
	__u32 fragment_offset;
	bool fragmented;
	bool more;
	__u8 next;
};

/* One extension header. Routing type 0 (RFC 5095) and a second fragment header are refused. */
static __always_inline int pcl_ipv6_extension(struct __sk_buff *skb, struct pcl_ipv6_walk *walk)
{
	const __u8 *header;

	if (walk->offset > 400)
		return PCL_DROP(PCL_DROP_IPV6_EXTENSION);
	header = pcl_data(skb) + walk->offset;
	if ((void *)(header + 8) > pcl_data_end(skb) || walk->offset + 8 > walk->end)
		return PCL_DROP(PCL_DROP_IPV6_EXTENSION);
	if (walk->next == IPPROTO_ROUTING && header[2] == 0)
		return PCL_DROP(PCL_DROP_IPV6_EXTENSION);
	if (walk->next == IPPROTO_FRAGMENT) {
		__u16 field = bpf_ntohs(*(__be16 *)(header + 2));

		if (walk->fragmented)
			return PCL_DROP(PCL_DROP_IPV6_EXTENSION);
		walk->fragmented = true;
		walk->fragment_offset = field & 0xfff8;
		walk->more = field & 1;
		walk->id_be = *(__be32 *)(header + 4);
		walk->offset += 8;
	} else {
		walk->offset += (header[1] + 1) * 8;
	}
	walk->next = header[0];
	return PCL_OK;
}

static __always_inline int pcl_walk_ipv6(struct __sk_buff *skb, struct pcl_ipv6_walk *walk)
{
	int result;

	/* Headers beyond the linear part: one copy, so that the walk sees them. */
	if (skb->len > PCL_L3_OFFSET + 128)
		result = pcl_pull(skb, PCL_L3_OFFSET + 128);
	else
		result = pcl_pull(skb, skb->len);
	if (result)
		return result;
	for (int i = 0; i < PCL_IPV6_EXTENSIONS; i++) {
		if (!pcl_is_ipv6_extension(walk->next))
			return PCL_OK;
		if (walk->fragment_offset)
			return PCL_OK;
		result = pcl_ipv6_extension(skb, walk);
		if (result)
			return result;
	}
	return pcl_is_ipv6_extension(walk->next) ? PCL_DROP(PCL_DROP_IPV6_EXTENSION) : PCL_OK;
}

static __always_inline int pcl_parse_ipv6(struct __sk_buff *skb, struct pcl_packet *packet)
{
	__u32 payload, room = skb->len - PCL_L3_OFFSET;
	struct pcl_ipv6_walk walk = {};
	const struct ipv6hdr *ip;
	int result;

	result = pcl_pull(skb, PCL_L3_OFFSET + sizeof(*ip));
	if (result)
		return result;
	ip = pcl_data(skb) + PCL_L3_OFFSET;
	if ((void *)(ip + 1) > pcl_data_end(skb))
		return PCL_DROP(PCL_DROP_INVALID);
	payload = bpf_ntohs(ip->payload_len);
	if (!payload && skb->gso_size)
		payload = room - sizeof(*ip); /* BIG TCP */
	if (ip->version != 6 || payload + sizeof(*ip) > room)
		return PCL_DROP(PCL_DROP_INVALID);
	__builtin_memcpy(&packet->tuple.src, &ip->saddr, 16);
	__builtin_memcpy(&packet->tuple.dst, &ip->daddr, 16);
	walk.next = ip->nexthdr;
	walk.offset = PCL_L3_OFFSET + sizeof(*ip);
	walk.end = walk.offset + payload;
	if (pcl_is_ipv6_extension(walk.next)) {
		result = pcl_walk_ipv6(skb, &walk);
		if (result)
			return result;
	}
	packet->tuple.protocol = walk.next;
	packet->l4_offset = walk.offset;
	if (walk.offset > walk.end || walk.offset > PCL_LAST_L4)
		return PCL_DROP(PCL_DROP_IPV6_EXTENSION);
	if (walk.fragmented)
		return pcl_parse_fragment(skb, packet, 6, walk.id_be, walk.fragment_offset,
					  walk.more, walk.end - walk.offset);
	result = pcl_pull(skb, walk.offset + pcl_l4_minimum(packet->tuple.protocol));
	if (result)
		return result;
	return pcl_parse_l4(skb, packet, 6, walk.end - walk.offset);
}

static __always_inline int pcl_parse(struct __sk_buff *skb, struct pcl_packet *packet,
				     const int family)
{
	return family == 4 ? pcl_parse_ipv4(skb, packet) : pcl_parse_ipv6(skb, packet);
}

#endif /* PCL_PARSE_H */
