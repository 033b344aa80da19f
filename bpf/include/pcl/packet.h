/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the stages know of one packet, and the codes that they return. */
#ifndef PCL_PACKET_H
#define PCL_PACKET_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "pcl/types.h"

/*
 * A stage returns PCL_OK to go on, a positive PCL_* to end with that outcome, or a
 * negative code with reason, file and line of a drop.
 */
enum pcl_outcome {
	PCL_OK = 0,
	PCL_PASS = 1,	    /* to the next program or the stack */
	PCL_REDIRECTED = 2, /* bpf_redirect*() has been called */
	PCL_ANSWERED = 3,   /* turned into its own answer and sent back */
	PCL_STALE = 4,	    /* the connection must be decided anew */
	PCL_UNKNOWN = 5,    /* no such connection */
};

/* Every header sets PCL_FILE before its first function; the macro takes it from there. */
#define PCL_DROP(reason) (-(int)((__LINE__ << 16) | (PCL_FILE << 8) | (reason)))

#define PCL_DROP_LINE(code) ((__u32)(-(code)) >> 16)
#define PCL_DROP_FILE(code) (((__u32)(-(code)) >> 8) & 0xff)
#define PCL_DROP_REASON(code) ((__u32)(-(code)) & 0xff)

enum pcl_hook {
	PCL_HOOK_RX, /* from the endpoint */
	PCL_HOOK_TX, /* from the host's stack to the endpoint */
	PCL_HOOK_IN, /* from a device of the node */
};

/* Two ends, in the order of the packet at hand. */
struct pcl_tuple {
	union pcl_addr src;
	union pcl_addr dst;
	__be16 sport_be; /* ICMP echo: the identifier, in both ports */
	__be16 dport_be;
	__u8 protocol;
};

struct pcl_packet {
	struct pcl_tuple tuple;
	__be16 policy_port_be; /* destination port; ICMP: the type */
	__u16 l4_offset;
	__u8 tcp_flags;
	__u8 tcp_header; /* bytes */
	bool icmp_error;
	bool first_fragment; /* others follow */
	bool later_fragment; /* no L4 header in this packet */
	__be32 fragment_id_be;
	/* filled on the way, for events */
	__u32 src_identity;
	__u32 dst_identity;
	__u32 egress_rule;
	__u32 ingress_rule;
	__u32 service;
	union pcl_addr backend;
	__be16 backend_port_be;
	bool decided; /* a verdict was made for this packet, not found */
	__u8 kind;    /* of that verdict's event, 0: PCL_EVENT_VERDICT */
};

static __always_inline bool pcl_addr_equal(const union pcl_addr *a, const union pcl_addr *b,
					   const int family)
{
	if (family == 4)
		return a->v4 == b->v4;
	return a->quads[0] == b->quads[0] && a->quads[1] == b->quads[1];
}

static __always_inline bool pcl_is_syn(const struct pcl_packet *packet)
{
	return packet->tuple.protocol == 6 && (packet->tcp_flags & 0x12) == 0x02;
}

static __always_inline void *pcl_data(const struct __sk_buff *skb)
{
	return (void *)(long)skb->data;
}

static __always_inline void *pcl_data_end(const struct __sk_buff *skb)
{
	return (void *)(long)skb->data_end;
}

#endif /* PCL_PACKET_H */
