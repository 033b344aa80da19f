/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the balancer's stages know of one packet, and the codes that they return. */
#ifndef PCL_XDP_PACKET_H
#define PCL_XDP_PACKET_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "pcl/xdp_types.h"

/*
 * A stage returns 0 to go on, or a code with reason, file and line that ends the packet. Every
 * header sets PCL_FILE before its first function; the macro takes it from there.
 */
#define PCL_XDP_END(reason) ((int)(1u << 30 | __LINE__ << 16 | PCL_FILE << 8 | (reason)))

#define PCL_XDP_LINE(code) ((__u32)(code) >> 16 & 0x3fff)
#define PCL_XDP_FILE(code) ((__u32)(code) >> 8 & 0xff)
#define PCL_XDP_REASON(code) ((__u32)(code) & 0xff)

#define PCL_XDP_L3 sizeof(struct ethhdr)

/* One member per family; the other is never looked at. */
struct pcl_xdp_packet {
	struct pcl_xdp_flow4 flow4;
	struct pcl_xdp_flow6 flow6;
	__u32 length; /* of the IP packet */
	bool syn;
	bool icmp; /* to the backend of the flow that it quotes */
};

static __always_inline void *pcl_xdp_data(const struct xdp_md *ctx)
{
	return (void *)(long)ctx->data;
}

static __always_inline void *pcl_xdp_end(const struct xdp_md *ctx)
{
	return (void *)(long)ctx->data_end;
}

/* verifier: 6.1 forgets the bounds of what was swapped or compared in 32 bits. */
static __always_inline bool pcl_xdp_ends_within(const struct xdp_md *ctx, const void *start,
						__u32 length)
{
	__u64 bounded = length;

	asm volatile("%0 &= 0xffff" : "+r"(bounded));
	return start + bounded <= pcl_xdp_end(ctx);
}

static __always_inline __u16 pcl_xdp_fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

#endif /* PCL_XDP_PACKET_H */
