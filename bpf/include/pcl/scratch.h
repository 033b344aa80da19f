/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What is worked on beside the packet: one for each CPU. */
#ifndef PCL_SCRATCH_H
#define PCL_SCRATCH_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "pcl/packet.h"

/* New ends of a packet; what stays is equal to the old. */
struct pcl_rewrite {
	union pcl_addr src;
	union pcl_addr dst;
	__be16 sport_be;
	__be16 dport_be;
};

/* A packet that an ICMP error quotes: where it lies, and its ends as it was sent. */
struct pcl_quote {
	struct pcl_packet packet;
	__u32 l3_offset;
};

/* What is too large for the stack and not needed on the fast path. */
struct pcl_scratch {
	struct pcl_ct_entry entry;
	struct pcl_rewrite rewrite;
	struct pcl_tuple tuple;
	struct pcl_quote quote;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct pcl_scratch);
	__uint(max_entries, 1);
} pcl_scratches SEC(".maps");

static __always_inline struct pcl_scratch *pcl_scratch(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&pcl_scratches, &zero);
}

#endif /* PCL_SCRATCH_H */
