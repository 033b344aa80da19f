/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The steps of one decision, for explain(). Without pcl_config.trace it is no code at all. */
#ifndef PCL_TRACE_H
#define PCL_TRACE_H

#include "pcl/config.h"
#include "pcl/maps.h"
#include "pcl/packet.h"

static __always_inline void pcl_trace_at(enum pcl_step step, __u32 a, __u32 b, __u32 c, __u32 d,
					 const union pcl_addr *addr)
{
	struct pcl_trace_record record = {};

	if (!pcl_config.trace)
		return;
	record.step = step;
	record.a = a;
	record.b = b;
	record.c = c;
	record.d = d;
	if (addr)
		record.addr = *addr;
	bpf_ringbuf_output(&pcl_trace, &record, sizeof(record), 0);
}

static __always_inline void pcl_trace_step(enum pcl_step step, __u32 a, __u32 b, __u32 c, __u32 d)
{
	pcl_trace_at(step, a, b, c, d, NULL);
}

#endif /* PCL_TRACE_H */
