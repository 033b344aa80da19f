/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Who the two sides are, and what their policy sets say. */
#ifndef PCL_POLICY_H
#define PCL_POLICY_H

#include "pcl/conntrack.h"
#include "pcl/maps.h"
#include "pcl/packet.h"
#include "pcl/trace.h"

#undef PCL_FILE
#define PCL_FILE PCL_FILE_POLICY

static __always_inline __u32 pcl_epoch(__u32 slot)
{
	const volatile __u32 *epoch = bpf_map_lookup_elem(&pcl_epochs, &slot);

	return epoch ? *epoch : 0;
}

static __always_inline struct pcl_endpoint *pcl_endpoint_of(const union pcl_addr *addr,
							    const int family, __u32 *ifindex)
{
	struct pcl_address_key key = {.family = family};
	const __u32 *found;

	if (family == 4)
		key.addr.v4 = addr->v4;
	else
		key.addr = *addr;
	found = bpf_map_lookup_elem(&pcl_addresses, &key);
	if (!found)
		return NULL;
	*ifindex = *found;
	return bpf_map_lookup_elem(&pcl_endpoints, ifindex);
}

/* What no prefix names is the world. */
static __always_inline __u32 pcl_identity_of(const union pcl_addr *addr, const int family)
{
	struct pcl_ipcache_key key = {.family = family};
	const struct pcl_ipcache_value *value;

	key.prefixlen = PCL_IPCACHE_STATIC_BITS + (family == 4 ? 32 : 128);
	if (family == 4)
		key.addr.v4 = addr->v4;
	else
		key.addr = *addr;
	value = bpf_map_lookup_elem(&pcl_ipcache, &key);
	return value ? value->identity : PCL_IDENTITY_WORLD;
}

static __always_inline __u32 pcl_endpoint_identity(const struct pcl_endpoint *endpoint,
						   const int family)
{
	return family == 4 ? endpoint->ipv4_identity : endpoint->ipv6_identity;
}

static __always_inline void pcl_local_side(struct pcl_side *side, __u32 ifindex,
					   const struct pcl_endpoint *endpoint, const int family)
{
	side->ifindex = ifindex;
	side->slot = endpoint->policy_slot;
	side->epoch = pcl_epoch(side->slot);
	side->identity = pcl_endpoint_identity(endpoint, family);
	__builtin_memcpy(side->mac, endpoint->mac, 6);
	__builtin_memcpy(side->host_mac, endpoint->host_mac, 6);
}

/* An address reached through the stack. The epoch is read before what it guards. */
static __always_inline void pcl_stack_side(struct pcl_side *side,
					   const struct pcl_endpoint *endpoint,
					   const union pcl_addr *addr, const int family)
{
	side->ifindex = 0;
	side->slot = 0;
	side->epoch = pcl_epoch(0);
	side->identity =
	    endpoint ? pcl_endpoint_identity(endpoint, family) : pcl_identity_of(addr, family);
}

/*
 * Exact identity first: its entries already hold what the wildcard says of it. What audit mode
 * lets through is noted in the packet, the first direction that would deny it.
 */
static __always_inline int pcl_policy_check(struct pcl_packet *packet, struct pcl_side *side,
					    __u32 peer, enum pcl_direction direction,
					    __be16 port_be)
{
	struct pcl_policy_key key = {
	    .prefixlen = PCL_POLICY_FULL_BITS,
	    .identity = peer,
	    .direction = direction,
	    .protocol = packet->tuple.protocol,
	    .port_be = port_be,
	};
	const struct pcl_policy_value *value;
	__u32 slot = side->slot, verdict = PCL_POLICY_NONE;
	void *set;

	set = bpf_map_lookup_elem(&pcl_policies, &slot);
	if (!set)
		return PCL_DROP(PCL_DROP_POLICY_NOT_READY);
	value = bpf_map_lookup_elem(set, &key);
	if (!value) {
		key.identity = 0;
		value = bpf_map_lookup_elem(set, &key);
	}
	side->rule = 0;
	if (value) {
		verdict = value->verdict;
		side->rule = value->rule;
	}
	pcl_trace_step(PCL_STEP_POLICY, direction, verdict, side->rule, peer);
	if (verdict == PCL_POLICY_ALLOW)
		return PCL_OK;
	if (verdict == PCL_POLICY_AUDIT) {
		if (!packet->kind)
			packet->kind = direction == PCL_EGRESS ? PCL_EVENT_AUDIT_EGRESS
							       : PCL_EVENT_AUDIT_INGRESS;
		return PCL_OK;
	}
	if (verdict == PCL_POLICY_REDIRECT)
		return PCL_DROP(PCL_DROP_PROXY_NOT_READY);
	return verdict == PCL_POLICY_DENY ? PCL_DROP(PCL_DROP_POLICY_DENY)
					  : PCL_DROP(PCL_DROP_POLICY);
}

/*
 * The verdict on a connection, whoever sent the packet at hand: egress of the opener and
 * ingress of the responder, each where it is local.
 */
static __always_inline int pcl_policy_decide(struct pcl_packet *packet, struct pcl_ct_entry *entry,
					     __be16 port_be)
{
	struct pcl_side *opener = &entry->sides[0], *responder = &entry->sides[1];
	int result;

	if (opener->ifindex) {
		result = pcl_policy_check(packet, opener, responder->identity, PCL_EGRESS, port_be);
		if (result)
			return result;
	}
	if (responder->ifindex)
		return pcl_policy_check(packet, responder, opener->identity, PCL_INGRESS, port_be);
	return PCL_OK;
}

#endif /* PCL_POLICY_H */
