// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The load balancer in front of the network stack. A packet of a known flow costs one hash
 * lookup: the flow names its backend and the generation for which it holds, and the backend's
 * place in two arrays has everything else. A new flow asks for its VIP and the VIP's ring.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "pcl/xdp_icmp.h"
#include "pcl/xdp_maps.h"
#include "pcl/xdp_packet.h"
#include "pcl/xdp_parse.h"
#include "pcl/xdp_send.h"
#include "pcl/xdp_vip.h"

#undef PCL_FILE
#define PCL_FILE PCL_XDP_FILE_XDP

static __always_inline void pcl_xdp_count(__u32 length, int code)
{
	__u32 reason = PCL_XDP_REASON(code);
	struct pcl_xdp_counter *counter = bpf_map_lookup_elem(&pcl_xdp_counters, &reason);

	if (!counter)
		return;
	counter->packets++;
	counter->bytes += length;
	counter->line = PCL_XDP_LINE(code);
	counter->file = PCL_XDP_FILE(code);
}

static __always_inline int pcl_xdp_action(int code)
{
	switch (PCL_XDP_REASON(code)) {
	case PCL_XDP_ECHO_REPLY:
	case PCL_XDP_SENT_TOO_BIG:
		return XDP_TX;
	case PCL_XDP_PASS_NOT_IP:
	case PCL_XDP_PASS_NOT_VIP:
	case PCL_XDP_PASS_RESOLVE:
	case PCL_XDP_PASS_FRAGMENT:
	case PCL_XDP_PASS_PORT:
		return XDP_PASS;
	default:
		return XDP_DROP;
	}
}

/* Nothing leaves uncounted: an action was counted with its backend, a code is counted here. */
static __always_inline int pcl_xdp_finish(struct xdp_md *ctx, int outcome)
{
	if (outcome <= XDP_REDIRECT)
		return outcome;
	pcl_xdp_count(pcl_xdp_end(ctx) - pcl_xdp_data(ctx), outcome);
	return pcl_xdp_action(outcome);
}

static __always_inline int pcl_xdp_balance(struct xdp_md *ctx, const int family)
{
	struct pcl_xdp_packet packet = {};
	struct pcl_xdp_backend *backend;
	struct pcl_xdp_target target;
	int result;

	result = family == 4 ? pcl_xdp_parse4(ctx, &packet) : pcl_xdp_parse6(ctx, &packet);
	if (result)
		return result;
	result = pcl_xdp_select(&packet, family, &target, &backend);
	if (result)
		return result;
	return pcl_xdp_send(ctx, &packet, &target, backend, family);
}

SEC("xdp")
int balance(struct xdp_md *ctx)
{
	const struct ethhdr *eth = pcl_xdp_data(ctx);

	if ((void *)(eth + 1) > pcl_xdp_end(ctx))
		return pcl_xdp_finish(ctx, PCL_XDP_END(PCL_XDP_DROP_INVALID));
	switch (eth->h_proto) {
	case bpf_htons(ETH_P_IP):
		return pcl_xdp_finish(ctx, pcl_xdp_balance(ctx, 4));
	case bpf_htons(ETH_P_IPV6):
		return pcl_xdp_finish(ctx, pcl_xdp_balance(ctx, 6));
	default:
		return pcl_xdp_finish(ctx, PCL_XDP_END(PCL_XDP_PASS_NOT_IP));
	}
}

char _license[] SEC("license") = "Dual BSD/GPL";
