/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Counters, which are always on, and events, which the configuration gates. */
#ifndef PCL_EVENT_H
#define PCL_EVENT_H

#include "pcl/config.h"
#include "pcl/maps.h"
#include "pcl/packet.h"

static __always_inline void pcl_count(const struct __sk_buff *skb, __u32 reason)
{
	struct pcl_counter *counter = bpf_map_lookup_elem(&pcl_counters, &reason);

	if (!counter)
		return;
	counter->packets++;
	counter->bytes += skb->len;
}

static __always_inline void pcl_count_event(__u32 lost)
{
	__u64 *count = bpf_map_lookup_elem(&pcl_event_counts, &lost);

	if (count)
		(*count)++;
}

static __always_inline void pcl_emit(const struct __sk_buff *skb, const struct pcl_packet *packet,
				     int family, enum pcl_event_kind kind, int code)
{
	struct pcl_event *event = bpf_ringbuf_reserve(&pcl_events, sizeof(*event), 0);

	/* verifier: until 6.1 a reservation must be tested before anything else is done with it. */
	if (!event) {
		pcl_count_event(1);
		return;
	}
	event->time_ns = bpf_ktime_get_ns();
	event->kind = kind;
	event->reason = code < 0		    ? PCL_DROP_REASON(code)
			: kind == PCL_EVENT_VERDICT ? PCL_FORWARDED
						    : PCL_AUDITED;
	event->file = code < 0 ? PCL_DROP_FILE(code) : 0;
	event->line = code < 0 ? PCL_DROP_LINE(code) : 0;
	event->family = family;
	event->protocol = packet->tuple.protocol;
	event->tcp_flags = packet->tcp_flags;
	event->src = packet->tuple.src;
	event->dst = packet->tuple.dst;
	event->sport_be = packet->tuple.sport_be;
	event->dport_be = packet->policy_port_be;
	event->ifindex = skb->ifindex;
	event->src_identity = packet->src_identity;
	event->dst_identity = packet->dst_identity;
	event->egress_rule = packet->egress_rule;
	event->ingress_rule = packet->ingress_rule;
	event->backend = packet->backend;
	event->backend_port_be = packet->backend_port_be;
	event->length = skb->len > 65535 ? 65535 : skb->len;
	event->service = packet->service;
	bpf_ringbuf_submit(event, 0);
	pcl_count_event(0);
}

#endif /* PCL_EVENT_H */
