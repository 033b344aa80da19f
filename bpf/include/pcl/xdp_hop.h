/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The way to a backend: asked of the routing table once in a while, and kept for each CPU. */
#ifndef PCL_XDP_HOP_H
#define PCL_XDP_HOP_H

#include "pcl/xdp_maps.h"
#include "pcl/xdp_packet.h"

#undef PCL_FILE
#define PCL_FILE PCL_XDP_FILE_XDP_HOP

#define PCL_AF_INET 2
#define PCL_AF_INET6 10

static __always_inline bool pcl_xdp_has_gateway(void)
{
	const volatile __u8 *mac = pcl_xdp_config.gateway;

	return mac[0] | mac[1] | mac[2] | mac[3] | mac[4] | mac[5];
}

/* One router does all the routing: back through the device, to its MAC. */
static __always_inline int pcl_xdp_use_gateway(struct xdp_md *ctx, struct pcl_xdp_hop *hop)
{
	const struct ethhdr *eth = pcl_xdp_data(ctx);

	if ((void *)(eth + 1) > pcl_xdp_end(ctx))
		return PCL_XDP_END(PCL_XDP_DROP_INVALID);
	for (int i = 0; i < ETH_ALEN; i++)
		hop->mac[i] = pcl_xdp_config.gateway[i];
	__builtin_memcpy(hop->own_mac, eth->h_dest, ETH_ALEN);
	hop->ifindex = ctx->ingress_ifindex;
	hop->mtu = pcl_xdp_config.gateway_mtu;
	return 0;
}

static __always_inline int pcl_xdp_route(struct xdp_md *ctx, const struct pcl_xdp_backend *backend,
					 struct pcl_xdp_hop *hop)
{
	struct bpf_fib_lookup way = {.ifindex = ctx->ingress_ifindex};
	long result;

	if (backend->family == 4) {
		way.family = PCL_AF_INET;
		way.ipv4_dst = backend->addr.v4;
	} else {
		way.family = PCL_AF_INET6;
		__builtin_memcpy(way.ipv6_dst, &backend->addr, 16);
	}
	result = bpf_fib_lookup(ctx, &way, sizeof(way), 0);
	if (result == BPF_FIB_LKUP_RET_NO_NEIGH)
		return PCL_XDP_END(PCL_XDP_PASS_RESOLVE);
	if (result)
		return PCL_XDP_END(PCL_XDP_DROP_NO_ROUTE);
	__builtin_memcpy(hop->mac, way.dmac, ETH_ALEN);
	__builtin_memcpy(hop->own_mac, way.smac, ETH_ALEN);
	hop->ifindex = way.ifindex;
	hop->mtu = way.mtu_result;
	return 0;
}

static __noinline int pcl_xdp_look_up(struct xdp_md *ctx, const struct pcl_xdp_backend *backend,
				      struct pcl_xdp_hop *hop)
{
	int result = pcl_xdp_has_gateway() ? pcl_xdp_use_gateway(ctx, hop)
					   : pcl_xdp_route(ctx, backend, hop);

	if (result)
		return result;
	hop->generation = backend->generation;
	hop->expires = bpf_jiffies64() + pcl_xdp_config.hop_lifetime;
	return 0;
}

static __always_inline int pcl_xdp_find_hop(struct xdp_md *ctx, const struct pcl_xdp_target *target,
					    const struct pcl_xdp_backend *backend,
					    struct pcl_xdp_hop **hop)
{
	*hop = bpf_map_lookup_elem(&pcl_xdp_hops, &target->backend);
	if (!*hop)
		return PCL_XDP_END(PCL_XDP_DROP_TARGET_GONE);
	if ((*hop)->generation == target->generation && (*hop)->expires > bpf_jiffies64())
		return 0;
	return pcl_xdp_look_up(ctx, backend, *hop);
}

#endif /* PCL_XDP_HOP_H */
