/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which VIP a packet is for, and which backend a new flow goes to. */
#ifndef PCL_XDP_VIP_H
#define PCL_XDP_VIP_H

#include "pcl/xdp_maps.h"
#include "pcl/xdp_packet.h"

#undef PCL_FILE
#define PCL_FILE PCL_XDP_FILE_XDP_VIP

static __always_inline void pcl_xdp_key(const struct pcl_xdp_packet *packet,
					struct pcl_xdp_vip_key *key, const int family)
{
	key->family = family;
	if (family == 4)
		key->addr.v4 = packet->flow4.dst;
	else
		key->addr = packet->flow6.dst;
}

/* What is known of the destination address; NULL: it is none of ours. */
static __always_inline struct pcl_xdp_vip *pcl_xdp_address(const struct pcl_xdp_packet *packet,
							   const int family)
{
	struct pcl_xdp_vip_key key = {};

	pcl_xdp_key(packet, &key, family);
	return bpf_map_lookup_elem(&pcl_xdp_vips, &key);
}

/* A packet without ports that can be read: refused for a VIP, the stack's business otherwise. */
static __always_inline int pcl_xdp_refuse(const struct pcl_xdp_packet *packet, const int family,
					  int code)
{
	return pcl_xdp_address(packet, family) ? code : PCL_XDP_END(PCL_XDP_PASS_NOT_VIP);
}

static __always_inline __u32 pcl_xdp_any_flag(__u32 protocol)
{
	if (protocol == IPPROTO_TCP)
		return PCL_XDP_VIP_ANY_TCP;
	return protocol == IPPROTO_UDP ? PCL_XDP_VIP_ANY_UDP : PCL_XDP_VIP_ANY_SCTP;
}

/* The port's VIP, else the one for every port, else the reason why there is none. */
static __always_inline int pcl_xdp_find_vip(const struct pcl_xdp_packet *packet, const int family,
					    struct pcl_xdp_vip **vip)
{
	__u32 protocol = family == 4 ? packet->flow4.protocol : packet->flow6.protocol;
	struct pcl_xdp_vip_key key = {};
	struct pcl_xdp_vip *address;

	pcl_xdp_key(packet, &key, family);
	key.protocol = protocol;
	key.port_be = family == 4 ? packet->flow4.dport_be : packet->flow6.dport_be;
	*vip = bpf_map_lookup_elem(&pcl_xdp_vips, &key);
	if (*vip)
		return 0;
	address = pcl_xdp_address(packet, family);
	if (!address)
		return PCL_XDP_END(PCL_XDP_PASS_NOT_VIP);
	if (address->flags & pcl_xdp_any_flag(protocol)) {
		key.port_be = 0;
		*vip = bpf_map_lookup_elem(&pcl_xdp_vips, &key);
		if (*vip)
			return 0;
	}
	return address->flags & PCL_XDP_VIP_PASS_UNKNOWN ? PCL_XDP_END(PCL_XDP_PASS_PORT)
							 : PCL_XDP_END(PCL_XDP_DROP_PORT);
}

static __always_inline __u64 pcl_xdp_mix(__u64 hash, __u64 word)
{
	hash = (hash ^ word) * 0x9e3779b97f4a7c15ULL;
	return hash ^ hash >> 32;
}

/* Of the client's address and port and the VIP's: the same on every balancer with this seed. */
static __always_inline __u32 pcl_xdp_hash(const struct pcl_xdp_packet *packet, const int family,
					  bool by_source)
{
	__u64 hash = pcl_xdp_config.seed, ports;

	if (family == 4) {
		ports = (__u64)packet->flow4.protocol << 32 | (__u32)packet->flow4.dport_be << 16 |
			(by_source ? 0 : packet->flow4.sport_be);
		hash = pcl_xdp_mix(hash, (__u64)packet->flow4.src << 32 | packet->flow4.dst);
	} else {
		ports = (__u64)packet->flow6.protocol << 32 | (__u32)packet->flow6.dport_be << 16 |
			(by_source ? 0 : packet->flow6.sport_be);
		hash = pcl_xdp_mix(hash, packet->flow6.src.quads[0]);
		hash = pcl_xdp_mix(hash, packet->flow6.src.quads[1]);
		hash = pcl_xdp_mix(hash, packet->flow6.dst.quads[0]);
		hash = pcl_xdp_mix(hash, packet->flow6.dst.quads[1]);
	}
	return pcl_xdp_mix(pcl_xdp_mix(hash, ports), 0) >> 32;
}

/* A flood of new flows must not push out the flows that are known. */
static __always_inline bool pcl_xdp_may_remember(void)
{
	struct pcl_xdp_budget *budget;
	__u64 now = bpf_jiffies64();
	__u32 zero = 0;

	if (!pcl_xdp_config.flows_per_tick)
		return true;
	budget = bpf_map_lookup_elem(&pcl_xdp_budgets, &zero);
	if (!budget)
		return true;
	if (budget->tick != now) {
		budget->tick = now;
		budget->used = 0;
	}
	return budget->used++ < pcl_xdp_config.flows_per_tick;
}

static __always_inline void pcl_xdp_remember(const struct pcl_xdp_packet *packet,
					     const struct pcl_xdp_target *target, const int family)
{
	if (!pcl_xdp_may_remember())
		return;
	/* Without room the ring still gives the same answer. */
	if (family == 4)
		bpf_map_update_elem(&pcl_xdp_flows4, &packet->flow4, target, BPF_ANY);
	else
		bpf_map_update_elem(&pcl_xdp_flows6, &packet->flow6, target, BPF_ANY);
}

static __always_inline struct pcl_xdp_backend *pcl_xdp_live(const struct pcl_xdp_target *target)
{
	struct pcl_xdp_backend *backend;

	backend = bpf_map_lookup_elem(&pcl_xdp_backends, &target->backend);
	return backend && backend->generation == target->generation ? backend : NULL;
}

/* The Maglev table's answer. An ICMP error opens no flow. */
static __always_inline int pcl_xdp_choose(const struct pcl_xdp_packet *packet, const int family,
					  struct pcl_xdp_target *chosen,
					  struct pcl_xdp_backend **backend)
{
	const struct pcl_xdp_target *slot;
	struct pcl_xdp_vip *vip;
	__u32 index;
	int result;

	result = pcl_xdp_find_vip(packet, family, &vip);
	if (result)
		return result;
	if (!vip->size)
		return PCL_XDP_END(PCL_XDP_DROP_NO_BACKEND);
	index =
	    (__u64)pcl_xdp_hash(packet, family, vip->flags & PCL_XDP_VIP_HASH_SOURCE) * vip->size >>
	    32;
	index += vip->first;
	slot = bpf_map_lookup_elem(&pcl_xdp_rings, &index);
	if (!slot)
		return PCL_XDP_END(PCL_XDP_DROP_NO_BACKEND);
	*chosen = *slot;
	*backend = pcl_xdp_live(chosen);
	if (!*backend)
		return PCL_XDP_END(PCL_XDP_DROP_TARGET_GONE);
	if (!packet->icmp && !(vip->flags & PCL_XDP_VIP_NO_FLOWS))
		pcl_xdp_remember(packet, chosen, family);
	return 0;
}

/* A known flow stays where it is as long as its backend is there; a SYN begins a new one. */
static __always_inline int pcl_xdp_select(const struct pcl_xdp_packet *packet, const int family,
					  struct pcl_xdp_target *chosen,
					  struct pcl_xdp_backend **backend)
{
	const struct pcl_xdp_target *known = NULL;

	if (!packet->syn)
		known = family == 4 ? bpf_map_lookup_elem(&pcl_xdp_flows4, &packet->flow4)
				    : bpf_map_lookup_elem(&pcl_xdp_flows6, &packet->flow6);
	if (known) {
		*chosen = *known;
		*backend = pcl_xdp_live(chosen);
		if (*backend)
			return 0;
	}
	return pcl_xdp_choose(packet, family, chosen, backend);
}

#endif /* PCL_XDP_VIP_H */
