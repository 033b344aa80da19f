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
	if (hook == PCL_HOOK_RX	  ? reporter->ifindex != skb->ifindex
	    : hook == PCL_HOOK_TX ? receiver->ifindex != skb->ifindex
				  : !pcl_comes_in(match->entry->flags, !match->from_opener))
		return PCL_DROP(PCL_DROP_ICMP_UNRELATED);
	if (pcl_config.services && match->entry->service &&
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

/* One end of the packet that is quoted. */
static __always_inline int pcl_quote_end(struct __sk_buff *skb, const struct pcl_packet *outer,
					 const struct pcl_quote *quote, const bool source,
					 const union pcl_addr *to, __be16 port_be, const int family)
{
	const struct pcl_tuple *tuple = &quote->packet.tuple;
	const union pcl_addr *from = source ? &tuple->src : &tuple->dst;
	__be16 from_port = source ? tuple->sport_be : tuple->dport_be;
	__u32 port_at = quote->packet.l4_offset + (pcl_is_icmp(tuple->protocol) ? 4
						   : source			? 0
										: 2);
	__u32 at =
	    family == 4
		? (source ? offsetof(struct iphdr, saddr) : offsetof(struct iphdr, daddr))
		: (source ? offsetof(struct ipv6hdr, saddr) : offsetof(struct ipv6hdr, daddr));
	int result = pcl_quote_address(skb, outer, quote, at, from, to, family);

	return result ? result : pcl_quote_port(skb, outer, port_at, from_port, port_be);
}

/*
 * Back entry: the backend's side quotes what it was sent (opener to backend); the opener must
 * read of the frontend and of itself. Front entry: the opener quotes what it was sent (frontend
 * to opener); the backend must read of itself and of who the opener is there.
 */
static __always_inline int pcl_untranslate(struct __sk_buff *skb, const struct pcl_packet *outer,
					   const struct pcl_quote *quote,
					   const struct pcl_match *match, struct pcl_rewrite *to,
					   const int family)
{
	const struct pcl_ct_entry *entry = match->entry;
	const bool front = entry->flags & PCL_CT_FRONT;
	union pcl_addr addr;
	__be16 port_be;
	int result;

	if (entry->flags & PCL_CT_HAIRPIN || match->from_opener == front)
		return PCL_DROP(PCL_DROP_ICMP_UNRELATED);
	addr = front ? entry->backend : entry->frontend;
	if (front)
		to->dst = addr;
	else if (pcl_addr_equal(&outer->tuple.src, &entry->backend, family))
		to->src = addr;
	port_be = front ? entry->backend_port_be : entry->frontend_port_be;
	if (pcl_is_icmp(quote->packet.tuple.protocol)) /* it goes with the opener */
		port_be = quote->packet.tuple.sport_be;
	result = pcl_quote_end(skb, outer, quote, front, &addr, port_be, family);
	if (!result && pcl_config.devices && entry->flags & PCL_CT_SOURCE) {
		addr = entry->source;
		if (!front)
			to->dst = addr;
		else
			to->src = addr;
		/* The router may be the client's own, which takes nothing from its own address. */
		if (!front && entry->service)
			to->src = entry->frontend;
		result =
		    pcl_quote_end(skb, outer, quote, !front, &addr, entry->source_port_be, family);
	}
	return result ? result : pcl_outer_addresses(skb, outer, to, family);
}

/* Finds the connection that an error is about. */
static __always_inline int pcl_icmp_match(struct __sk_buff *skb, const struct pcl_packet *packet,
					  struct pcl_quote *quote, const enum pcl_hook hook,
					  const int family, struct pcl_match *match)
{
	int result = pcl_check_opener(skb, packet, hook, family);

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
	return pcl_quote_match(skb, quote, hook, family, match);
}

/* At a device of the node, what is about no connection of ours is the stack's. */
static __always_inline int pcl_icmp_error(struct __sk_buff *skb, struct pcl_packet *packet,
					  const enum pcl_hook hook, const int family)
{
	struct pcl_scratch *scratch = pcl_scratch();
	struct pcl_match match = {};
	struct pcl_rewrite *to;
	bool to_responder;
	__u32 peer;
	int result;

	if (!scratch)
		return PCL_DROP(PCL_DROP_INVALID);
	result = pcl_icmp_match(skb, packet, &scratch->quote, hook, family, &match);
	if (result)
		return hook == PCL_HOOK_IN ? PCL_PASS : result;
	to_responder = !match.from_opener;
	pcl_note_decision(packet, match.entry, to_responder);
	to = &scratch->rewrite;
	to->src = packet->tuple.src;
	to->dst = packet->tuple.dst;
	if (pcl_translates() && match.entry->flags & PCL_CT_TRANSLATED &&
	    !(hook == PCL_HOOK_TX && match.entry->flags & PCL_CT_OUTSIDE)) {
		result = pcl_untranslate(skb, packet, &scratch->quote, &match, to, family);
		if (result)
			return result;
	}
	if (pcl_is_routed(match.entry, to_responder, hook)) {
		result = pcl_route_find(skb, packet, to, family);
		return result ? result : pcl_route(skb, family);
	}
	peer = to_responder ? PCL_CT_PEER_RESPONDER : PCL_CT_PEER_OPENER;
	return pcl_forward(skb, &match.entry->sides[to_responder], match.entry->flags & peer, hook,
			   family);
}

PCL_SLOW_EACH(pcl_icmp_error)

#endif /* PCL_ICMP_H */
