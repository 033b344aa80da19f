/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Address and port translation. L4 checksums go through the helpers: only they know whether
 * the checksum is still to be filled in by the device (CHECKSUM_PARTIAL).
 */
#ifndef PCL_REWRITE_H
#define PCL_REWRITE_H

#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <stddef.h>

#include "pcl/packet.h"
#include "pcl/parse.h"
#include "pcl/scratch.h"

#undef PCL_FILE
#define PCL_FILE PCL_FILE_REWRITE

static __always_inline __u16 pcl_fold(__u64 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* RFC 1624, eqn 3: what a 16-bit checksum becomes when 32 bits that it covers change. */
static __always_inline __sum16 pcl_checksum_replace(__sum16 check, __be32 from, __be32 to)
{
	__u64 sum = (__u16)~check;

	sum += (~from & 0xffff) + (~from >> 16) + (to & 0xffff) + (to >> 16);
	return ~pcl_fold(sum);
}

/* The 32-bit sum of the change of both addresses, as bpf_l4_csum_replace takes it. */
static __always_inline __u32 pcl_address_change(const struct pcl_packet *packet,
						const struct pcl_rewrite *to, const int family)
{
	__s64 change;

	if (family == 4) {
		__u64 sum = (__u64)(__u32)~packet->tuple.src.v4 + to->src.v4 +
			    (__u64)(__u32)~packet->tuple.dst.v4 + to->dst.v4;

		sum = (sum & 0xffffffff) + (sum >> 32);
		return (sum & 0xffffffff) + (sum >> 32);
	}
	change = bpf_csum_diff((__be32 *)&packet->tuple.src, 16, (__be32 *)&to->src, 16, 0);
	return bpf_csum_diff((__be32 *)&packet->tuple.dst, 16, (__be32 *)&to->dst, 16, change);
}

/* The identifier of an echo; ICMPv6's checksum covers the addresses too. */
static __always_inline int pcl_rewrite_echo(struct __sk_buff *skb, const struct pcl_packet *packet,
					    const struct pcl_rewrite *to, const int family)
{
	__u32 check = packet->l4_offset + offsetof(struct icmp6hdr, icmp6_cksum);
	long error = 0;

	if (family == 6)
		error = bpf_l4_csum_replace(skb, check, 0, pcl_address_change(packet, to, 6),
					    BPF_F_PSEUDO_HDR);
	if (packet->tuple.sport_be != to->sport_be) {
		error |= bpf_l4_csum_replace(skb, check, packet->tuple.sport_be, to->sport_be, 2);
		error |= bpf_skb_store_bytes(skb, packet->l4_offset + 4, &to->sport_be, 2, 0);
	}
	return error ? PCL_DROP(PCL_DROP_WRITE) : PCL_OK;
}

static __always_inline int pcl_rewrite_l4(struct __sk_buff *skb, const struct pcl_packet *packet,
					  const struct pcl_rewrite *to, const int family)
{
	const bool tcp = packet->tuple.protocol == IPPROTO_TCP;
	__u32 check = packet->l4_offset +
		      (tcp ? offsetof(struct tcphdr, check) : offsetof(struct udphdr, check));
	__u64 flags = tcp ? 0 : BPF_F_MARK_MANGLED_0;
	__be32 ports_from = packet->tuple.sport_be | (__u32)packet->tuple.dport_be << 16;
	__be32 ports_to = to->sport_be | (__u32)to->dport_be << 16;
	long error;

	if (pcl_config.masquerade && pcl_is_icmp(packet->tuple.protocol))
		return pcl_rewrite_echo(skb, packet, to, family);
	/* SCTP's checksum covers all of its packet, but no address. */
	if (packet->tuple.protocol == IPPROTO_SCTP)
		return ports_from == ports_to ? PCL_OK : PCL_DROP(PCL_DROP_SERVICE_PROTOCOL);
	error = bpf_l4_csum_replace(skb, check, 0, pcl_address_change(packet, to, family),
				    flags | BPF_F_PSEUDO_HDR);
	if (!error && ports_from != ports_to) {
		error = bpf_l4_csum_replace(skb, check, ports_from, ports_to, flags | 4);
		error |= bpf_skb_store_bytes(skb, packet->l4_offset, &ports_to, 4, 0);
	}
	return error ? PCL_DROP(PCL_DROP_WRITE) : PCL_OK;
}

static __always_inline int pcl_rewrite_addresses(struct __sk_buff *skb,
						 const struct pcl_packet *packet,
						 const struct pcl_rewrite *to, const int family)
{
	struct ipv6hdr *ip6 = pcl_data(skb) + PCL_L3_OFFSET;
	struct iphdr *ip4 = pcl_data(skb) + PCL_L3_OFFSET;

	if (family == 4) {
		if ((void *)(ip4 + 1) > pcl_data_end(skb))
			return PCL_DROP(PCL_DROP_WRITE);
		ip4->check = pcl_checksum_replace(ip4->check, packet->tuple.src.v4, to->src.v4);
		ip4->check = pcl_checksum_replace(ip4->check, packet->tuple.dst.v4, to->dst.v4);
		ip4->saddr = to->src.v4;
		ip4->daddr = to->dst.v4;
		return PCL_OK;
	}
	if ((void *)(ip6 + 1) > pcl_data_end(skb))
		return PCL_DROP(PCL_DROP_WRITE);
	__builtin_memcpy(&ip6->saddr, &to->src, 16);
	__builtin_memcpy(&ip6->daddr, &to->dst, 16);
	return PCL_OK;
}

/* L4 first: the helpers invalidate packet pointers. A later fragment has addresses only. */
static __always_inline int pcl_rewrite(struct __sk_buff *skb, const struct pcl_packet *packet,
				       const struct pcl_rewrite *to, const int family)
{
	int result = PCL_OK;

	if (!packet->later_fragment)
		result = pcl_rewrite_l4(skb, packet, to, family);
	return result ? result : pcl_rewrite_addresses(skb, packet, to, family);
}

/* Word by word: a copy that forgets `volatile` would take the value at compile time. */
static __always_inline void pcl_hairpin_ipv6(union pcl_addr *addr)
{
	addr->quads[0] = pcl_config.hairpin_ipv6.quads[0];
	addr->quads[1] = pcl_config.hairpin_ipv6.quads[1];
}

/* What the responder is to see in place of the opener. */
static __always_inline void pcl_replace_opener(const struct pcl_ct_entry *entry, const int family,
					       struct pcl_rewrite *to, __u8 protocol)
{
	if (entry->flags & PCL_CT_HAIRPIN && family == 4)
		to->src.v4 = pcl_config.hairpin_ipv4;
	else if (entry->flags & PCL_CT_HAIRPIN)
		pcl_hairpin_ipv6(&to->src);
	if (!pcl_config.devices || !(entry->flags & PCL_CT_SOURCE))
		return;
	to->src = entry->source;
	to->sport_be = entry->source_port_be;
	if (pcl_is_icmp(protocol))
		to->dport_be = to->sport_be;
}

/* And the other way: the packet goes to whom the responder never saw. */
static __always_inline void pcl_restore_opener(const struct pcl_ct_entry *entry,
					       struct pcl_rewrite *to, __u8 protocol)
{
	if (entry->flags & PCL_CT_HAIRPIN)
		to->dst = entry->backend;
	if (!pcl_config.devices || !(entry->flags & PCL_CT_SOURCE))
		return;
	to->dst = entry->source;
	to->dport_be = entry->source_port_be;
	if (pcl_is_icmp(protocol))
		to->sport_be = to->dport_be;
}

/*
 * Where a translated connection's packet goes. The front entry stands under what the client
 * sees, the back entry under what the backend sees; a hairpin's client is its own backend and
 * appears to it under the hairpin address.
 */
static __always_inline int pcl_translate(const struct pcl_ct_entry *entry,
					 const struct pcl_packet *packet, bool from_opener,
					 const int family, struct pcl_rewrite *to)
{
	const __u8 protocol = packet->tuple.protocol;

	to->src = packet->tuple.src;
	to->dst = packet->tuple.dst;
	to->sport_be = packet->tuple.sport_be;
	to->dport_be = packet->tuple.dport_be;
	if (entry->flags & PCL_CT_FRONT) {
		if (!from_opener)
			return PCL_DROP(PCL_DROP_INVALID);
		to->dst = entry->backend;
		to->dport_be = entry->backend_port_be;
		pcl_replace_opener(entry, family, to, protocol);
		return PCL_OK;
	}
	/* Translated on its way to here. */
	if (from_opener)
		return entry->flags & PCL_CT_OUTSIDE ? PCL_OK : PCL_DROP(PCL_DROP_INVALID);
	to->src = entry->frontend;
	to->sport_be = entry->frontend_port_be;
	pcl_restore_opener(entry, to, protocol);
	return PCL_OK;
}

#endif /* PCL_REWRITE_H */
