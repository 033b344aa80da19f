/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The node's devices that face other nodes and the world. What is no service's and no answer to
 * what left under the node's address is not touched, and not counted: it is the stack's.
 */
#ifndef PCL_DEVICE_H
#define PCL_DEVICE_H

#include "pcl/connection.h"
#include "pcl/finish.h"
#include "pcl/icmp.h"

#undef PCL_FILE
#define PCL_FILE PCL_FILE_DEVICE

static __always_inline int pcl_enter(struct __sk_buff *skb, struct pcl_packet *packet,
				     const int family)
{
	int result;

	if (!(family == 4 ? pcl_config.ipv4 : pcl_config.ipv6))
		return PCL_PASS;
	result = pcl_parse(skb, packet, family);
	pcl_trace_at(PCL_STEP_PARSE, packet->tuple.protocol, bpf_ntohs(packet->tuple.sport_be),
		     bpf_ntohs(packet->policy_port_be), result < 0, &packet->tuple.dst);
	if (result)
		return PCL_PASS;
	if (packet->icmp_error)
		return PCL_SLOW_CALL(pcl_icmp_error, PCL_HOOK_IN, family, skb, packet);
	return pcl_connection(skb, packet, PCL_HOOK_IN, family);
}

static __always_inline int pcl_from_device(struct __sk_buff *skb, const int family)
{
	struct pcl_packet packet = {};
	int outcome = pcl_enter(skb, &packet, family);

	if (outcome == PCL_PASS && !packet.service) {
		pcl_trace_step(PCL_STEP_VERDICT, PCL_TO_STACK, 0, 0, 0);
		return TC_ACT_UNSPEC;
	}
	return pcl_finish(skb, &packet, PCL_HOOK_IN, family, outcome);
}

/* The host's answer as a backend: it comes from the frontend. */
static __always_inline int pcl_leave(struct __sk_buff *skb, struct pcl_packet *packet,
				     const int family)
{
	struct pcl_rewrite rewrite;
	struct pcl_ct_entry *entry;
	bool from_opener = true;
	int result;

	if (pcl_parse(skb, packet, family) || packet->icmp_error)
		return PCL_PASS;
	entry = pcl_ct_find(&packet->tuple, family, &from_opener);
	if (!entry || from_opener || !(entry->flags & PCL_CT_OUTSIDE) ||
	    entry->flags & PCL_CT_FRONT || entry->sides[1].ifindex ||
	    pcl_ct_expired(entry, packet->tuple.protocol))
		return PCL_PASS;
	if (!pcl_backend_keeps(pcl_entry_backend_state(entry)))
		return PCL_DROP(PCL_DROP_BACKEND_GONE);
	pcl_ct_touch(entry, packet->tcp_flags, false);
	pcl_fragment_remember(packet, family);
	result = pcl_translate(entry, packet, false, family, &rewrite);
	if (result)
		return result;
	pcl_keep_twin(packet, &rewrite, entry, family);
	result = pcl_rewrite(skb, packet, &rewrite, family);
	return result ? result : PCL_PASS;
}

static __always_inline int pcl_to_device(struct __sk_buff *skb, const int family)
{
	struct pcl_packet packet = {};
	int outcome = pcl_leave(skb, &packet, family);

	return outcome < 0 ? pcl_drop(skb, &packet, family, outcome) : TC_ACT_UNSPEC;
}

#endif /* PCL_DEVICE_H */
