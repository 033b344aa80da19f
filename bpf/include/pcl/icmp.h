/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ICMP errors: one is related if the packet that it quotes belongs to a connection whose
 * verdict holds, and it travels with that connection's translation undone.
 */
#ifndef PCL_ICMP_H
#define PCL_ICMP_H

#include "pcl/connection.h"

#undef PCL_FILE
#define PCL_FILE PCL_FILE_ICMP

static __always_inline int pcl_quote_addresses(struct __sk_buff *skb, struct pcl_quote *quote,
					       const int family)
{
	struct ipv6hdr ip6;
	struct iphdr ip4;

	if (family == 4) {
		if (bpf_skb_load_bytes(skb, quote->l3_offset, &ip4, sizeof(ip4)))
			return PCL_DROP(PCL_DROP_INVALID);
		if (ip4.version != 4 || ip4.ihl < 5 || ip4.frag_off & bpf_htons(0x1fff))
			return PCL_DROP(PCL_DROP_INVALID);
		quote->packet.tuple.src.v4 = ip4.saddr;
		quote->packet.tuple.dst.v4 = ip4.daddr;
		quote->packet.tuple.protocol = ip4.protocol;
		quote->packet.l4_offset = quote->l3_offset + ip4.ihl * 4;
		return PCL_OK;
	}
	if (bpf_skb_load_bytes(skb, quote->l3_offset, &ip6, sizeof(ip6)))
		return PCL_DROP(PCL_DROP_INVALID);
	__builtin_memcpy(&quote->packet.tuple.src, &ip6.saddr, 16);
	__builtin_memcpy(&quote->packet.tuple.dst, &ip6.daddr, 16);
	quote->packet.tuple.protocol = ip6.nexthdr;
	quote->packet.l4_offset = quote->l3_offset + sizeof(ip6);
	return ip6.version == 6 ? PCL_OK : PCL_DROP(PCL_DROP_INVALID);
}

static __always_inline int pcl_quote_ports(struct __sk_buff *skb, struct pcl_packet *packet)
{
	__be16 words[4];

	if (bpf_skb_load_bytes(skb, packet->l4_offset, words, sizeof(words)))
		return PCL_DROP(PCL_DROP_INVALID);
	packet->tuple.sport_be = words[0];
	packet->tuple.dport_be = words[1];
	if (!pcl_is_icmp(packet->tuple.protocol))
		return PCL_OK;
	/* An error about an error is never related (RFC 1122, 3.2.2). */
	packet->tuple.sport_be = words[2];
	packet->tuple.dport_be = words[2];
	switch (*(__u8 *)words) {
	case ICMP_ECHO:
	case ICMP_ECHOREPLY:
	case ICMPV6_ECHO_REQUEST:
	case ICMPV6_ECHO_REPLY:
		return PCL_OK;
	default:
		return PCL_DROP(PCL_DROP_ICMP_UNRELATED);
	}
}

/*
 * The quoted packet went from inner src to inner dst, so the error comes from the side of
 * inner dst. An endpoint reports on its own connections only; routers report on any.
 */
static __always_inline int pcl_quote_match(struct __sk_buff *skb, struct pcl_quote *quote,
					   const enum pcl_hook hook, const int family,
					   struct pcl_match *match)
{
	const struct pcl_side *reporter, *receiver;

	match->entry = pcl_ct_find(&quote->packet.tuple, family, &match->from_opener);
	if (!match->entry)
		return PCL_DROP(PCL_DROP_ICMP_UNRELATED);
	reporter = &match->entry->sides[match->from_opener];
	receiver = &match->entry->sides[!match->from_opener];
	if (hook == PCL_HOOK_RX ? reporter->ifindex != skb->ifindex
				: receiver->ifindex != skb->ifindex)
		return PCL_DROP(PCL_DROP_ICMP_UNRELATED);
	if (pcl_config.services && match->entry->flags & PCL_CT_TRANSLATED &&
	    !pcl_backend_keeps(pcl_entry_backend_state(match->entry)))
		return PCL_DROP(PCL_DROP_ICMP_UNRELATED);
	if (!pcl_side_is_current(reporter) || !pcl_side_is_current(receiver))
		return PCL_DROP(PCL_DROP_ICMP_UNRELATED);
	return PCL_OK;
}

/* Replaces an address in the packet that is quoted; ICMP's checksum covers all of it. */
static __always_inline int pcl_quote_address(struct __sk_buff *skb, const struct pcl_packet *outer,
					     const struct pcl_quote *quote, __u32 field,
					     const union pcl_addr *from, const union pcl_addr *to,
					     const int family)
{
	__u32 at = quote->l3_offset + field;
	long error;

	if (family == 4) {
		error = bpf_l3_csum_replace(skb, quote->l3_offset + offsetof(struct iphdr, check),
					    from->v4, to->v4, 4);
		error |= bpf_skb_store_bytes(skb, at, &to->v4, 4, 0);
		/* The inner header's checksum has changed by as much: ICMP's stays. */
		return error ? PCL_DROP(PCL_DROP_WRITE) : PCL_OK;
	}
	error = bpf_l4_csum_replace(skb, outer->l4_offset + offsetof(struct icmp6hdr, icmp6_cksum),
				    0, bpf_csum_diff((__be32 *)from, 16, (__be32 *)to, 16, 0), 0);
	error |= bpf_skb_store_bytes(skb, at, to, 16, 0);
	return error ? PCL_DROP(PCL_DROP_WRITE) : PCL_OK;
}

static __always_inline int pcl_quote_port(struct __sk_buff *skb, const struct pcl_packet *outer,
					  __u32 at, __be16 from, __be16 to)
{
	long error = 0;

	if (from != to) {
		error = bpf_l4_csum_replace(skb, outer->l4_offset + 2, from, to, 2);
		error |= bpf_skb_store_bytes(skb, at, &to, 2, 0);
	}
	return error ? PCL_DROP(PCL_DROP_WRITE) : PCL_OK;
}

/* The outer header: IPv4's ICMP checksum does not cover addresses, IPv6's does. */
static __always_inline int pcl_outer_addresses(struct __sk_buff *skb,
					       const struct pcl_packet *outer,
					       const struct pcl_rewrite *to, const int family)
{
	if (family == 6 &&
	    bpf_l4_csum_replace(skb, outer->l4_offset + offsetof(struct icmp6hdr, icmp6_cksum), 0,
				pcl_address_change(outer, to, 6), BPF_F_PSEUDO_HDR))
		return PCL_DROP(PCL_DROP_WRITE);
	return pcl_rewrite_addresses(skb, outer, to, family);
}

/*
 * Back entry: the backend's side quotes what it was sent (client to backend); the client must
 * read of the frontend. Front entry: the client quotes what it was sent (frontend to client);
 * the backend must read of itself.
 */
static __always_inline int pcl_untranslate(struct __sk_buff *skb, const struct pcl_packet *outer,
					   const struct pcl_quote *quote,
					   const struct pcl_match *match, const int family)
{
	const __u32 source =
	    family == 4 ? offsetof(struct iphdr, saddr) : offsetof(struct ipv6hdr, saddr);
	const __u32 target =
	    family == 4 ? offsetof(struct iphdr, daddr) : offsetof(struct ipv6hdr, daddr);
	const struct pcl_ct_entry *entry = match->entry;
	struct pcl_rewrite to = {.src = outer->tuple.src, .dst = outer->tuple.dst};
	union pcl_addr inner;
	int result;

	if (entry->flags & PCL_CT_HAIRPIN)
		return PCL_DROP(PCL_DROP_ICMP_UNRELATED);
	if (entry->flags & PCL_CT_FRONT) {
		if (match->from_opener)
			return PCL_DROP(PCL_DROP_ICMP_UNRELATED);
		inner = entry->backend;
		to.dst = inner;
		result = pcl_quote_address(skb, outer, quote, source, &quote->packet.tuple.src,
					   &inner, family);
		if (!result)
			result =
			    pcl_quote_port(skb, outer, quote->packet.l4_offset,
					   quote->packet.tuple.sport_be, entry->backend_port_be);
	} else {
		if (!match->from_opener)
			return PCL_DROP(PCL_DROP_ICMP_UNRELATED);
		inner = entry->frontend;
		if (pcl_addr_equal(&outer->tuple.src, &entry->backend, family))
			to.src = inner;
		result = pcl_quote_address(skb, outer, quote, target, &quote->packet.tuple.dst,
					   &inner, family);
		if (!result)
			result =
			    pcl_quote_port(skb, outer, quote->packet.l4_offset + 2,
					   quote->packet.tuple.dport_be, entry->frontend_port_be);
	}
	return result ? result : pcl_outer_addresses(skb, outer, &to, family);
}

static __always_inline int pcl_icmp_error(struct __sk_buff *skb, struct pcl_packet *packet,
					  const enum pcl_hook hook, const int family)
{
	struct pcl_scratch *scratch = pcl_scratch();
	struct pcl_match match = {};
	struct pcl_quote *quote;
	__u32 peer;
	int result;

	if (!scratch)
		return PCL_DROP(PCL_DROP_INVALID);
	quote = &scratch->quote;
	result = hook == PCL_HOOK_RX ? pcl_check_sender(skb, packet, family)
				     : pcl_check_receiver(skb, packet, family);
	if (result)
		return result;
	__builtin_memset(quote, 0, sizeof(*quote));
	quote->l3_offset = packet->l4_offset + 8;
	result = pcl_quote_addresses(skb, quote, family);
	if (result)
		return result;
	result = pcl_quote_ports(skb, &quote->packet);
	if (result)
		return result;
	if (!pcl_addr_equal(&quote->packet.tuple.src, &packet->tuple.dst, family))
		return PCL_DROP(PCL_DROP_ICMP_UNRELATED);
	result = pcl_quote_match(skb, quote, hook, family, &match);
	if (result)
		return result;
	pcl_note_decision(packet, match.entry, !match.from_opener);
	if (pcl_config.services && match.entry->flags & PCL_CT_TRANSLATED) {
		result = pcl_untranslate(skb, packet, quote, &match, family);
		if (result)
			return result;
	}
	peer = match.from_opener ? PCL_CT_PEER_OPENER : PCL_CT_PEER_RESPONDER;
	return pcl_forward(skb, &match.entry->sides[!match.from_opener], match.entry->flags & peer,
			   hook, family);
}

PCL_SLOW_EACH(pcl_icmp_error)

#endif /* PCL_ICMP_H */
