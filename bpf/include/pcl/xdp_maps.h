/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The maps and the configuration of the XDP load balancer. Sizes are defaults. */
#ifndef PCL_XDP_MAPS_H
#define PCL_XDP_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "pcl/xdp_types.h"

const volatile struct pcl_xdp_config pcl_xdp_config = {
    .hop_lifetime = 250,
    .ttl = 64,
    .source4 = 0x000010ac,	  /* 172.16.0.0/16 */
    .source6 = {.bytes = {0x01}}, /* 0100::/64, RFC 6666 */
    .gateway_mtu = 1500,
};

/* Never read: it keeps the types that only user space uses in the object's BTF. */
const volatile struct pcl_xdp_contract pcl_xdp_contract = {};

/* Written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct pcl_xdp_vip_key);
	__type(value, struct pcl_xdp_vip);
	__uint(max_entries, 16384);
} pcl_xdp_vips SEC(".maps");

/* Every VIP's Maglev table. Written by user space, through shared memory. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct pcl_xdp_target);
	__uint(max_entries, 1 << 22);
	__uint(map_flags, BPF_F_MMAPABLE);
} pcl_xdp_rings SEC(".maps");

/* Written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct pcl_xdp_backend);
	__uint(max_entries, 16384);
} pcl_xdp_backends SEC(".maps");

/* Backend -> the way to it and its counters. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct pcl_xdp_hop);
	__uint(max_entries, 16384);
} pcl_xdp_hops SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct pcl_xdp_flow4);
	__type(value, struct pcl_xdp_target);
	__uint(max_entries, 262144);
} pcl_xdp_flows4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct pcl_xdp_flow6);
	__type(value, struct pcl_xdp_target);
	__uint(max_entries, 131072);
} pcl_xdp_flows6 SEC(".maps");

/* enum pcl_xdp_reason -> packets and bytes; what was forwarded is counted in pcl_xdp_hops. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct pcl_xdp_counter);
	__uint(max_entries, PCL_XDP_REASON_MAX);
} pcl_xdp_counters SEC(".maps");

/* [0] how many new flows this CPU has remembered in this jiffy. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct pcl_xdp_budget);
	__uint(max_entries, 1);
} pcl_xdp_budgets SEC(".maps");

#endif /* PCL_XDP_MAPS_H */
