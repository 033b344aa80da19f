/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The end of every program: what happened is counted, told, and made an action. */
#ifndef PCL_FINISH_H
#define PCL_FINISH_H

#include <linux/pkt_cls.h>

#include "pcl/config.h"
#include "pcl/event.h"
#include "pcl/packet.h"
#include "pcl/trace.h"

/* Nothing is dropped anywhere else: the reason is counted and, unless it is noise, told. */
__noinline int pcl_drop(struct __sk_buff *skb, const struct pcl_packet *packet, int family,
			int code)
{
	if (!packet)
		return TC_ACT_SHOT;
	pcl_count(skb, PCL_DROP_REASON(code));
	pcl_trace_step(PCL_STEP_VERDICT, PCL_DROP_REASON(code), PCL_DROP_FILE(code),
		       PCL_DROP_LINE(code), 0);
	if (pcl_config.events >= PCL_EVENTS_DROPS &&
	    PCL_DROP_REASON(code) != PCL_DROP_NEIGHBOUR_NOISE)
		pcl_emit(skb, packet, family, PCL_EVENT_DROP, code);
	return TC_ACT_SHOT;
}

__noinline int pcl_tell(struct __sk_buff *skb, const struct pcl_packet *packet, int family)
{
	if (packet)
		pcl_emit(skb, packet, family, packet->kind ? packet->kind : PCL_EVENT_VERDICT, 0);
	return 0;
}

static __always_inline int pcl_finish(struct __sk_buff *skb, const struct pcl_packet *packet,
				      const enum pcl_hook hook, const int family, int outcome)
{
	__u32 reason = PCL_FORWARDED;

	if (outcome < 0) {
		pcl_drop(skb, packet, family, outcome);
		return TC_ACT_SHOT;
	}
	if (packet->kind)
		reason = PCL_AUDITED;
	else if (outcome == PCL_PASS && hook == PCL_HOOK_RX)
		reason = PCL_TO_STACK;
	else if (outcome == PCL_ANSWERED)
		reason = PCL_NEIGHBOUR_REPLY;
	pcl_count(skb, reason);
	pcl_trace_step(PCL_STEP_VERDICT, reason, 0, 0, 0);
	if (pcl_config.events >= PCL_EVENTS_VERDICTS && packet->decided)
		pcl_tell(skb, packet, family);
	/* TC_ACT_UNSPEC: other programs on the hook have their turn. */
	return outcome == PCL_PASS ? TC_ACT_UNSPEC : TC_ACT_REDIRECT;
}

#endif /* PCL_FINISH_H */
