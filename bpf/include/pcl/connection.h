/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A packet of a known connection, of one that must be decided anew, and of a new one.
 *
 * A known packet costs one lookup: its entry holds the devices and MACs of both sides, so it
 * also proves that the sender is who it was when the verdict was made.
 */
#ifndef PCL_CONNECTION_H
#define PCL_CONNECTION_H

#include "pcl/conntrack.h"
#include "pcl/dsr.h"
#include "pcl/forward.h"
#include "pcl/nat.h"
#include "pcl/policy.h"
#include "pcl/rewrite.h"
#include "pcl/route.h"
#include "pcl/scratch.h"
#include "pcl/service.h"

#undef PCL_FILE
#define PCL_FILE PCL_FILE_CONNECTION

/* Whether this object has connections with two entries at all. */
static __always_inline bool pcl_translates(void)
{
	return pcl_config.services || pcl_config.masquerade;
}

static __always_inline bool pcl_side_is_current(const struct pcl_side *side)
{
	return side->epoch == pcl_epoch(side->slot);
}

/* The device that this side's packets come from is the one at hand, and so is its MAC. */
static __always_inline bool pcl_side_sent(const struct pcl_side *side, struct __sk_buff *skb,
					  const enum pcl_hook hook)
{
	const struct ethhdr *eth = pcl_data(skb);

	if (hook != PCL_HOOK_RX)
		return side->ifindex == 0;
	if ((void *)(eth + 1) > pcl_data_end(skb))
		return false;
	return side->ifindex == skb->ifindex && pcl_mac_equal(eth->h_source, side->mac);
}

static __always_inline __u32 pcl_entry_backend_state(const struct pcl_ct_entry *entry)
{
	__u32 index = entry->backend_index;
	const struct pcl_backend *backend = bpf_map_lookup_elem(&pcl_backends, &index);

	return backend && backend->id == entry->backend_id ? backend->state : PCL_BACKEND_GONE;
}

/*
 * A connection stays with its backend while that is in service. The client of one that has left
 * is sent to another: a datagram is served there, a segment is refused by a reset.
 */
static __always_inline int pcl_match_backend(const struct pcl_ct_entry *entry,
					     const struct pcl_packet *packet, bool from_opener)
{
	__u32 state = pcl_entry_backend_state(entry);
	bool syn = pcl_is_syn(packet);

	if (pcl_backend_keeps(state))
		return syn && from_opener && state != PCL_BACKEND_ACTIVE ? PCL_UNKNOWN : PCL_OK;
	return from_opener || syn ? PCL_UNKNOWN : PCL_DROP(PCL_DROP_BACKEND_GONE);
}

/* At a device of the node: whether the packet is one that this entry was made for. */
static __always_inline bool pcl_comes_in(__u32 flags, bool from_opener)
{
	if (!(flags & PCL_CT_OUTSIDE))
		return false;
	return from_opener == !!(flags & PCL_CT_FRONT) || flags & PCL_CT_DSR;
}

/* The entry, whether it still holds for this packet, and who sent it. */
struct pcl_match {
	struct pcl_ct_entry *entry;
	bool from_opener;
};

static __always_inline int pcl_match(struct __sk_buff *skb, const struct pcl_packet *packet,
				     const enum pcl_hook hook, const int family,
				     struct pcl_match *match)
{
	struct pcl_ct_entry *entry;
	__u32 flags;

	entry = pcl_ct_find(&packet->tuple, family, &match->from_opener);
	if (!entry)
		return PCL_UNKNOWN;
	match->entry = entry;
	flags = entry->flags;
	if (hook == PCL_HOOK_IN && !pcl_comes_in(flags, match->from_opener))
		return PCL_PASS;
	if (pcl_ct_expired(entry, packet->tuple.protocol))
		return PCL_UNKNOWN;
	if (pcl_config.services && entry->service) {
		int result = pcl_match_backend(entry, packet, match->from_opener);

		if (result)
			return result;
	}
	if (!pcl_side_sent(&entry->sides[!match->from_opener], skb, hook))
		return PCL_UNKNOWN;
	if (hook == PCL_HOOK_TX && entry->sides[match->from_opener].ifindex != skb->ifindex)
		return PCL_UNKNOWN;
	if (pcl_is_syn(packet)) {
		/* A port used again, or a direct connection on a translated one's tuple. */
		if (flags & (PCL_CT_CLOSING_OPENER | PCL_CT_CLOSING_RESPONDER))
			return PCL_UNKNOWN;
		if (flags & PCL_CT_TRANSLATED && match->from_opener == !(flags & PCL_CT_FRONT) &&
		    !(hook == PCL_HOOK_TX && flags & PCL_CT_OUTSIDE))
			return PCL_UNKNOWN;
	}
	if (!pcl_side_is_current(&entry->sides[0]) || !pcl_side_is_current(&entry->sides[1]))
		return PCL_STALE;
	return PCL_OK;
}

/* The tuple that a packet has after it was rewritten. */
static __always_inline void pcl_rewritten(const struct pcl_packet *packet,
					  const struct pcl_rewrite *rewrite,
					  struct pcl_tuple *tuple)
{
	tuple->src = rewrite->src;
	tuple->dst = rewrite->dst;
	tuple->sport_be = rewrite->sport_be;
	tuple->dport_be = rewrite->dport_be;
	tuple->protocol = packet->tuple.protocol;
}

/*
 * One direction finds one entry of a translated connection, the other direction the other: each
 * is told once a second that its twin lives, and at once that it ends.
 */
__noinline int pcl_tell_twin(const struct pcl_packet *packet, const struct pcl_rewrite *rewrite,
			     struct pcl_ct_entry *entry, __u32 family)
{
	const __u32 both = PCL_CT_CLOSING_OPENER | PCL_CT_CLOSING_RESPONDER | PCL_CT_REPLIED;
	struct pcl_tuple tuple = {};
	struct pcl_ct_entry *twin;
	bool from_opener;
	__u32 flags;

	if (!packet || !rewrite || !entry)
		return 0;
	pcl_rewritten(packet, rewrite, &tuple);
	twin = family == 4 ? pcl_ct_find(&tuple, 4, &from_opener)
			   : pcl_ct_find(&tuple, 6, &from_opener);
	entry->twin_seen = entry->last_seen;
	if (!twin || twin->backend_id != entry->backend_id ||
	    !((twin->flags ^ entry->flags) & PCL_CT_FRONT))
		return 0;
	twin->last_seen = entry->last_seen;
	flags = (twin->flags | entry->flags) & both;
	__sync_fetch_and_or(&twin->flags, flags);
	__sync_fetch_and_or(&entry->flags, flags);
	return 0;
}

static __always_inline void pcl_keep_twin(const struct pcl_packet *packet,
					  const struct pcl_rewrite *rewrite,
					  struct pcl_ct_entry *entry, const int family)
{
	if (entry->last_seen - entry->twin_seen >= pcl_config.second ||
	    packet->tcp_flags & (PCL_TCP_FIN | PCL_TCP_RST))
		pcl_tell_twin(packet, rewrite, entry, family);
}

static __always_inline bool pcl_is_routed(const struct pcl_ct_entry *entry, bool from_opener,
					  const enum pcl_hook hook)
{
	__u32 flag = from_opener ? PCL_CT_ROUTE_RESPONDER : PCL_CT_ROUTE_OPENER;

	return pcl_config.devices && hook != PCL_HOOK_TX && entry->flags & flag &&
	       !entry->sides[from_opener].ifindex;
}

/* Too big for the way out, as the endpoint wrote it: the stack tells it so and sends nothing. */
static __always_inline bool pcl_leave_to_stack(struct __sk_buff *skb, int result,
					       const enum pcl_hook hook, const int family)
{
	const struct iphdr *ip = pcl_data(skb) + PCL_L3_OFFSET;

	if (hook != PCL_HOOK_RX || PCL_DROP_REASON(result) != PCL_DROP_TOO_BIG)
		return false;
	if (family == 6)
		return true;
	return (void *)(ip + 1) <= pcl_data_end(skb) && ip->frag_off & bpf_htons(0x4000);
}

/* Along an entry whose verdict holds. */
static __always_inline int pcl_follow(struct __sk_buff *skb, const struct pcl_packet *packet,
				      struct pcl_ct_entry *entry, bool from_opener,
				      const enum pcl_hook hook, const int family)
{
	const struct pcl_side *to = &entry->sides[from_opener];
	__u32 peer = from_opener ? PCL_CT_PEER_RESPONDER : PCL_CT_PEER_OPENER;
	const bool routed = pcl_is_routed(entry, from_opener, hook);
	struct pcl_rewrite rewrite;
	int result;

	pcl_fragment_remember(packet, family);
	if (pcl_translates() && entry->flags & PCL_CT_TRANSLATED) {
		result = pcl_translate(entry, packet, from_opener, family, &rewrite);
		if (result)
			return result;
		pcl_keep_twin(packet, &rewrite, entry, family);
		if (routed) {
			result = pcl_route_find(skb, packet, &rewrite, family);
			if (result)
				return pcl_leave_to_stack(skb, result, hook, family) ? PCL_PASS
										     : result;
		}
		result = pcl_rewrite(skb, packet, &rewrite, family);
		if (result)
			return result;
		if (pcl_config.devices && hook == PCL_HOOK_IN && entry->flags & PCL_CT_DSR &&
		    entry->flags & PCL_CT_FRONT && pcl_dsr_tells(packet)) {
			result = pcl_dsr_insert(skb, entry, family);
			if (result)
				return result;
		}
		if (routed)
			return pcl_route(skb, family);
	}
	return pcl_forward(skb, to, entry->flags & peer, hook, family);
}

/* Fills a side from the address that it has now; a packet from the stack has no device. */
static __always_inline void pcl_resolve_side(struct pcl_ct_entry *entry, const int index,
					     const union pcl_addr *addr, const int family,
					     bool through_stack)
{
	const __u32 peer = index ? PCL_CT_PEER_RESPONDER : PCL_CT_PEER_OPENER;
	struct pcl_side *side = &entry->sides[index];
	const struct pcl_endpoint *endpoint;
	__u32 ifindex = 0;

	entry->flags &= ~peer;
	endpoint = pcl_endpoint_of(addr, family, &ifindex);
	if (endpoint && !through_stack) {
		pcl_local_side(side, ifindex, endpoint, family);
		entry->flags |= endpoint->peer_redirect ? peer : 0;
	} else {
		pcl_stack_side(side, endpoint, addr, family);
	}
	pcl_trace_step(index ? PCL_STEP_DESTINATION : PCL_STEP_SOURCE, side->identity,
		       endpoint ? endpoint->id : 0, side->slot, 0);
}

static __always_inline void pcl_note_decision(struct pcl_packet *packet,
					      const struct pcl_ct_entry *entry, bool from_opener)
{
	packet->src_identity = entry->sides[!from_opener].identity;
	packet->dst_identity = entry->sides[from_opener].identity;
	packet->egress_rule = entry->sides[0].rule;
	packet->ingress_rule = entry->sides[1].rule;
	if (entry->service) {
		packet->service = entry->service;
		packet->backend = entry->backend;
		packet->backend_port_be = entry->backend_port_be;
	}
}

/*
 * A verdict whose epochs have passed. The connection keeps its opener, so a reply is judged
 * by the rules that let the connection open: what is revoked stops in both directions.
 */
static __always_inline int pcl_decide_anew(struct __sk_buff *skb, struct pcl_packet *packet,
					   const enum pcl_hook hook, const int family)
{
	struct pcl_scratch *scratch = pcl_scratch();
	struct pcl_ct_entry *entry, *fresh;
	bool from_opener = false, hairpin;
	const union pcl_addr *opener, *responder;
	__be16 port_be;
	int result;

	entry = pcl_ct_find(&packet->tuple, family, &from_opener);
	if (!scratch || !entry)
		return PCL_DROP(PCL_DROP_CT_CREATE);
	fresh = &scratch->entry;
	*fresh = *entry;
	hairpin = fresh->flags & PCL_CT_HAIRPIN;
	opener = from_opener ? &packet->tuple.src : &packet->tuple.dst;
	responder = from_opener ? &packet->tuple.dst : &packet->tuple.src;
	port_be = from_opener ? packet->tuple.dport_be : packet->tuple.sport_be;
	if (packet->tuple.protocol == IPPROTO_ICMP || packet->tuple.protocol == IPPROTO_ICMPV6)
		port_be = bpf_htons(family == 4 ? ICMP_ECHO : ICMPV6_ECHO_REQUEST);
	if (fresh->flags & PCL_CT_TRANSLATED) {
		responder = &fresh->backend;
		port_be = fresh->backend_port_be;
	}
	if (hairpin)
		opener = &fresh->backend;
	if (fresh->flags & PCL_CT_SOURCE && !(fresh->flags & PCL_CT_FRONT))
		opener = &fresh->source;
	pcl_resolve_side(fresh, 0, opener, family, !fresh->sides[0].ifindex);
	pcl_resolve_side(fresh, 1, responder, family, false);
	/* An address that is another device's now has no connection yet, whoever sends. */
	if (fresh->sides[0].ifindex != entry->sides[0].ifindex ||
	    fresh->sides[1].ifindex != entry->sides[1].ifindex)
		return PCL_UNKNOWN;
	result = hairpin ? PCL_OK : pcl_policy_decide(packet, fresh, port_be);
	pcl_note_decision(packet, fresh, from_opener);
	packet->decided = true;
	if (result)
		return result;
	entry->sides[0] = fresh->sides[0];
	entry->sides[1] = fresh->sides[1];
	pcl_ct_touch(entry, packet->tcp_flags, from_opener);
	return pcl_follow(skb, packet, entry, from_opener, hook, family);
}

/* An endpoint sends with its own MAC and its own address, or not at all. */
static __always_inline int pcl_check_sender(struct __sk_buff *skb, const struct pcl_packet *packet,
					    const int family)
{
	const struct ethhdr *eth = pcl_data(skb);
	const struct pcl_endpoint *endpoint;
	__u32 ifindex = skb->ifindex;

	endpoint = bpf_map_lookup_elem(&pcl_endpoints, &ifindex);
	if (!endpoint)
		return PCL_DROP(PCL_DROP_ENDPOINT_UNKNOWN);
	if ((void *)(eth + 1) > pcl_data_end(skb))
		return PCL_DROP(PCL_DROP_INVALID);
	if (!pcl_mac_equal(eth->h_source, endpoint->mac))
		return PCL_DROP(PCL_DROP_SOURCE_MAC);
	if (family == 4 ? endpoint->ipv4 != packet->tuple.src.v4 || !endpoint->ipv4
			: !pcl_addr_equal(&endpoint->ipv6, &packet->tuple.src, 6) ||
			      !(endpoint->ipv6.quads[0] | endpoint->ipv6.quads[1]))
		return PCL_DROP(PCL_DROP_SOURCE_IP);
	return PCL_OK;
}

/* What comes through the stack with an endpoint's address must have come from its device. */
static __always_inline int pcl_check_forwarded(struct __sk_buff *skb,
					       const struct pcl_packet *packet, const int family)
{
	__u32 ifindex = 0;

	if (pcl_endpoint_of(&packet->tuple.src, family, &ifindex) &&
	    skb->ingress_ifindex != ifindex)
		return PCL_DROP(PCL_DROP_SOURCE_IP);
	return PCL_OK;
}

/* The device is that of the destination, and its endpoint is known. */
static __always_inline int pcl_check_receiver(struct __sk_buff *skb,
					      const struct pcl_packet *packet, const int family)
{
	__u32 ifindex = 0, device = skb->ifindex;

	if (!bpf_map_lookup_elem(&pcl_endpoints, &device))
		return PCL_DROP(PCL_DROP_ENDPOINT_UNKNOWN);
	if (!pcl_endpoint_of(&packet->tuple.dst, family, &ifindex) || ifindex != device)
		return PCL_DROP(PCL_DROP_WRONG_DEVICE);
	return pcl_check_forwarded(skb, packet, family);
}

static __always_inline bool pcl_is_multicast(const union pcl_addr *addr, const int family)
{
	if (family == 4)
		return (addr->bytes[0] & 0xf0) == 0xe0 || addr->v4 == 0xffffffff;
	return addr->bytes[0] == 0xff;
}

/*
 * The two entries of a translated connection, the back one first: a reply must find it. Of one
 * whose opener is replaced, the back one takes a port that is free.
 */
static __always_inline int pcl_create_translated(struct pcl_packet *packet, const int family,
						 struct pcl_scratch *scratch)
{
	struct pcl_rewrite *rewrite = &scratch->rewrite;
	struct pcl_ct_entry *entry = &scratch->entry;
	struct pcl_tuple *tuple = &scratch->tuple;
	int result;

	entry->flags |= PCL_CT_FRONT;
	result = pcl_translate(entry, packet, true, family, rewrite);
	if (result)
		return result;
	/* Of direct server return each node has the half that passes by it. */
	if (pcl_config.devices && entry->flags & PCL_CT_DSR) {
		if (!entry->service)
			entry->flags &= ~PCL_CT_FRONT;
		return pcl_ct_create(&packet->tuple, family);
	}
	pcl_rewritten(packet, rewrite, tuple);
	entry->flags &= ~PCL_CT_FRONT;
	if (pcl_config.devices && entry->flags & PCL_CT_SOURCE) {
		entry->source = packet->tuple.src;
		entry->source_port_be = packet->tuple.sport_be;
		result = pcl_nat_create(tuple, family);
		entry->source = tuple->src;
		entry->source_port_be = tuple->sport_be;
	} else {
		result = pcl_ct_create(tuple, family);
	}
	if (result)
		return result;
	entry->flags |= PCL_CT_FRONT;
	return pcl_ct_create(&packet->tuple, family);
}

/* FIN and RST open nothing: they pass by policy and leave no entry. */
static __always_inline int pcl_create(struct pcl_packet *packet, const int family)
{
	struct pcl_scratch *scratch = pcl_scratch();
	const struct pcl_ct_entry *entry;

	if (!scratch)
		return PCL_DROP(PCL_DROP_CT_CREATE);
	entry = &scratch->entry;
	if (packet->tuple.protocol == IPPROTO_TCP &&
	    packet->tcp_flags & (PCL_TCP_FIN | PCL_TCP_RST))
		return entry->flags & PCL_CT_TRANSLATED ? PCL_DROP(PCL_DROP_INVALID) : PCL_OK;
	if (pcl_translates() && entry->flags & PCL_CT_TRANSLATED)
		return pcl_create_translated(packet, family, scratch);
	return pcl_ct_create(&packet->tuple, family);
}

__noinline int pcl_create4(struct pcl_packet *packet)
{
	return packet ? pcl_create(packet, 4) : PCL_DROP(PCL_DROP_INVALID);
}

__noinline int pcl_create6(struct pcl_packet *packet)
{
	return packet ? pcl_create(packet, 6) : PCL_DROP(PCL_DROP_INVALID);
}

/* A service's packet: its backend becomes the responder. PCL_UNKNOWN: it is no service's. */
static __always_inline int pcl_open_service(struct pcl_packet *packet, const enum pcl_hook hook,
					    const int family, struct pcl_ct_entry *entry)
{
	const bool outside = hook == PCL_HOOK_IN;
	struct pcl_backend *backend = NULL;
	__u32 flags = 0;
	int result = pcl_service_select(packet, outside, family, &flags, &backend);

	if (result)
		return result;
	if (!backend)
		return PCL_UNKNOWN;
	entry->backend_index = backend->index;
	entry->backend_id = backend->id;
	entry->flags = PCL_CT_TRANSLATED;
	entry->frontend = packet->tuple.dst;
	entry->frontend_port_be = packet->tuple.dport_be;
	entry->backend = backend->addr;
	entry->backend_port_be = backend->port_be;
	entry->service = packet->service;
	if (outside)
		entry->flags |= PCL_CT_OUTSIDE | PCL_CT_ROUTE_OPENER |
				(pcl_dsr_is_meant(flags, packet->tuple.protocol) ? PCL_CT_DSR : 0);
	else if (pcl_addr_equal(&entry->backend, &packet->tuple.src, family))
		entry->flags |= PCL_CT_HAIRPIN;
	return PCL_OK;
}

/* A packet for an endpoint here that another node has taken in: its answer goes past that. */
static __always_inline int pcl_open_return(struct __sk_buff *skb, struct pcl_packet *packet,
					   const int family, struct pcl_ct_entry *entry)
{
	if (!pcl_config.devices || !pcl_dsr_accept(skb, packet, family, entry))
		return PCL_UNKNOWN;
	entry->flags = PCL_CT_TRANSLATED | PCL_CT_OUTSIDE | PCL_CT_ROUTE_OPENER | PCL_CT_DSR;
	entry->backend = packet->tuple.dst;
	entry->backend_port_be = packet->tuple.dport_be;
	return PCL_OK;
}

/* To a backend elsewhere: under the node's address, so that the answer comes back here. */
static __always_inline int pcl_open_elsewhere(struct __sk_buff *skb,
					      const struct pcl_packet *packet, const int family,
					      struct pcl_ct_entry *entry)
{
	int result;

	if (!entry->service) /* it came by way of another node */
		return entry->sides[1].ifindex ? PCL_OK : PCL_PASS;
	if (entry->sides[1].ifindex || pcl_is_node(&entry->backend, family)) {
		entry->flags &= ~PCL_CT_DSR;
		return PCL_OK;
	}
	entry->flags |= PCL_CT_ROUTE_RESPONDER;
	if (entry->flags & PCL_CT_DSR)
		return PCL_OK;
	entry->flags |= PCL_CT_SOURCE;
	entry->source_port_be = packet->tuple.sport_be;
	result = pcl_nat_source(skb, &packet->tuple.src, &entry->backend, packet->tuple.protocol,
				family, &entry->source);
	return result == PCL_UNKNOWN ? PCL_DROP(PCL_DROP_NO_ROUTE) : result;
}

/* An endpoint's packet that leaves by one of the node's devices, if it is to hide its address. */
static __always_inline int pcl_open_masquerade(struct __sk_buff *skb,
					       const struct pcl_packet *packet, const int family,
					       struct pcl_ct_entry *entry)
{
	bool translated = entry->flags & PCL_CT_TRANSLATED;
	const union pcl_addr *to = translated ? &entry->backend : &packet->tuple.dst;
	int result;

	if (entry->sides[1].ifindex || pcl_is_node(to, family) || pcl_is_unmasked(to, family))
		return PCL_OK;
	result = pcl_nat_source(skb, &packet->tuple.src, to, packet->tuple.protocol, family,
				&entry->source);
	if (result) /* without a way out it is the stack's to say so */
		return PCL_OK;
	entry->source_port_be = packet->tuple.sport_be;
	entry->flags |= PCL_CT_TRANSLATED | PCL_CT_SOURCE | PCL_CT_OUTSIDE | PCL_CT_ROUTE_RESPONDER;
	if (translated)
		return PCL_OK;
	entry->frontend = entry->backend = packet->tuple.dst;
	entry->frontend_port_be = entry->backend_port_be = packet->tuple.dport_be;
	return PCL_OK;
}

/* What an endpoint sends is its own, by the device that it came from and not by its address. */
static __always_inline int pcl_resolve_sender(struct __sk_buff *skb, struct pcl_ct_entry *entry,
					      const int family)
{
	__u32 ifindex = skb->ifindex;
	const struct pcl_endpoint *endpoint = bpf_map_lookup_elem(&pcl_endpoints, &ifindex);

	if (!endpoint)
		return PCL_DROP(PCL_DROP_ENDPOINT_UNKNOWN);
	pcl_local_side(&entry->sides[0], ifindex, endpoint, family);
	entry->flags |= endpoint->peer_redirect ? PCL_CT_PEER_OPENER : 0;
	pcl_trace_step(PCL_STEP_SOURCE, entry->sides[0].identity, endpoint->id,
		       endpoint->policy_slot, 0);
	return PCL_OK;
}

static __always_inline int pcl_open_decide(struct __sk_buff *skb, struct pcl_packet *packet,
					   const enum pcl_hook hook, const int family,
					   struct pcl_ct_entry *entry)
{
	bool translated = entry->flags & PCL_CT_TRANSLATED;
	const union pcl_addr *responder = translated ? &entry->backend : &packet->tuple.dst;
	__be16 port_be = translated ? entry->backend_port_be : packet->policy_port_be;
	int result = PCL_OK;

	if (hook == PCL_HOOK_RX)
		result = pcl_resolve_sender(skb, entry, family);
	else
		pcl_resolve_side(entry, 0, &packet->tuple.src, family, true);
	if (result)
		return result;
	pcl_resolve_side(entry, 1, responder, family, false);
	/* An endpoint may always reach itself through a service. */
	if (!(entry->flags & PCL_CT_HAIRPIN))
		result = pcl_policy_decide(packet, entry, port_be);
	pcl_note_decision(packet, entry, true);
	packet->decided = true;
	return result;
}

static __always_inline int pcl_check_opener(struct __sk_buff *skb, const struct pcl_packet *packet,
					    const enum pcl_hook hook, const int family)
{
	if (hook == PCL_HOOK_RX)
		return pcl_check_sender(skb, packet, family);
	if (hook == PCL_HOOK_TX)
		return pcl_check_receiver(skb, packet, family);
	return PCL_OK;
}

/* Beyond what was decided: whose address the responder sees. */
static __always_inline int pcl_open_source(struct __sk_buff *skb, const struct pcl_packet *packet,
					   const enum pcl_hook hook, const int family,
					   struct pcl_ct_entry *entry)
{
	if (pcl_config.devices && hook == PCL_HOOK_IN)
		return pcl_open_elsewhere(skb, packet, family, entry);
	if (pcl_config.masquerade && hook == PCL_HOOK_RX)
		return pcl_open_masquerade(skb, packet, family, entry);
	return PCL_OK;
}

static __always_inline int pcl_open(struct __sk_buff *skb, struct pcl_packet *packet,
				    const enum pcl_hook hook, const int family)
{
	struct pcl_scratch *scratch = pcl_scratch();
	int result;

	if (!scratch)
		return PCL_DROP(PCL_DROP_CT_CREATE);
	result = pcl_check_opener(skb, packet, hook, family);
	if (result)
		return result;
	if (hook != PCL_HOOK_IN && pcl_is_multicast(&packet->tuple.dst, family))
		return PCL_DROP(PCL_DROP_MULTICAST);
	__builtin_memset(&scratch->entry, 0, sizeof(scratch->entry));
	if (hook != PCL_HOOK_TX && pcl_config.services) {
		result = pcl_open_service(packet, hook, family, &scratch->entry);
		if (result < 0)
			return result;
		if (result && hook == PCL_HOOK_IN &&
		    pcl_open_return(skb, packet, family, &scratch->entry))
			return PCL_PASS;
	}
	if (hook == PCL_HOOK_IN && pcl_check_forwarded(skb, packet, family))
		return PCL_DROP(PCL_DROP_SOURCE_IP);
	result = pcl_open_decide(skb, packet, hook, family, &scratch->entry);
	if (result)
		return result;
	return pcl_open_source(skb, packet, hook, family, &scratch->entry);
}

/* The first packet of what was opened and created. */
static __always_inline int pcl_begin(struct __sk_buff *skb, struct pcl_packet *packet,
				     const enum pcl_hook hook, const int family)
{
	struct pcl_scratch *scratch = pcl_scratch();

	if (!scratch)
		return PCL_DROP(PCL_DROP_CT_CREATE);
	if (pcl_config.trace && scratch->entry.flags & PCL_CT_SOURCE)
		pcl_trace_at(PCL_STEP_NAT, bpf_ntohs(scratch->entry.source_port_be), 0, 0, 0,
			     &scratch->entry.source);
	return pcl_follow(skb, packet, &scratch->entry, true, hook, family);
}

/*
 * What is not the fast path is a global function for each hook and family: the verifier
 * proves it once, whoever calls it, and its stack is not the fast path's. A new connection is
 * opened, created and begun by one after the other: nested, they would need too much stack.
 */
#define PCL_SLOW(function, name, hook, family)                                                     \
	__noinline int function##_##name(struct __sk_buff *skb, struct pcl_packet *packet)         \
	{                                                                                          \
		if (!packet)                                                                       \
			return PCL_DROP(PCL_DROP_INVALID);                                         \
		return function(skb, packet, hook, family);                                        \
	}

#define PCL_SLOW_EACH(function)                                                                    \
	PCL_SLOW(function, rx4, PCL_HOOK_RX, 4)                                                    \
	PCL_SLOW(function, rx6, PCL_HOOK_RX, 6)                                                    \
	PCL_SLOW(function, tx4, PCL_HOOK_TX, 4)                                                    \
	PCL_SLOW(function, tx6, PCL_HOOK_TX, 6)                                                    \
	PCL_SLOW(function, in4, PCL_HOOK_IN, 4)                                                    \
	PCL_SLOW(function, in6, PCL_HOOK_IN, 6)

PCL_SLOW_EACH(pcl_open)
PCL_SLOW_EACH(pcl_begin)
PCL_SLOW_EACH(pcl_decide_anew)

#define PCL_SLOW_CALL(function, hook, family, ...)                                                 \
	((hook) == PCL_HOOK_RX                                                                     \
	     ? ((family) == 4 ? function##_rx4(__VA_ARGS__) : function##_rx6(__VA_ARGS__))         \
	 : (hook) == PCL_HOOK_TX                                                                   \
	     ? ((family) == 4 ? function##_tx4(__VA_ARGS__) : function##_tx6(__VA_ARGS__))         \
	     : ((family) == 4 ? function##_in4(__VA_ARGS__) : function##_in6(__VA_ARGS__)))

static __always_inline int pcl_connection(struct __sk_buff *skb, struct pcl_packet *packet,
					  const enum pcl_hook hook, const int family)
{
	struct pcl_match match = {};
	int result = pcl_match(skb, packet, hook, family, &match);

	pcl_trace_step(PCL_STEP_CT, result == PCL_OK ? 1 : result == PCL_STALE ? 2 : 0, 0, 0, 0);
	/* verifier: it cannot know that a match has an entry. */
	if (result == PCL_OK && match.entry) {
		pcl_ct_touch(match.entry, packet->tcp_flags, match.from_opener);
		return pcl_follow(skb, packet, match.entry, match.from_opener, hook, family);
	}
	if (result < 0 || result == PCL_PASS)
		return result;
	if (result == PCL_STALE) {
		result = PCL_SLOW_CALL(pcl_decide_anew, hook, family, skb, packet);
		if (result != PCL_UNKNOWN)
			return result;
	}
	result = PCL_SLOW_CALL(pcl_open, hook, family, skb, packet);
	if (!result)
		result = family == 4 ? pcl_create4(packet) : pcl_create6(packet);
	return result ? result : PCL_SLOW_CALL(pcl_begin, hook, family, skb, packet);
}

#endif /* PCL_CONNECTION_H */
