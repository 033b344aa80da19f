/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A service's frontend to one of its backends. */
#ifndef PCL_SERVICE_H
#define PCL_SERVICE_H

#include "pcl/maps.h"
#include "pcl/packet.h"
#include "pcl/trace.h"

#undef PCL_FILE
#define PCL_FILE PCL_FILE_SERVICE

static __always_inline __u32 pcl_mix(__u32 hash)
{
	hash ^= hash >> 16;
	hash *= 0x85ebca6b;
	hash ^= hash >> 13;
	hash *= 0xc2b2ae35;
	return hash ^ hash >> 16;
}

/* By the client's tuple: the same connection finds the same backend again. */
static __always_inline __u32 pcl_service_hash(const struct pcl_packet *packet, __u32 service)
{
	__u32 hash = packet->tuple.src.words[0] ^ packet->tuple.src.words[1] ^
		     packet->tuple.src.words[2] ^ packet->tuple.src.words[3];

	return pcl_mix(pcl_mix(hash) ^ ((__u32)packet->tuple.sport_be << 16 | service));
}

/* PCL_OK with *backend set, or a drop: the one that the hash points to. */
static __always_inline int pcl_service_pick(const struct pcl_service_value *service, __u32 hash,
					    const int family, struct pcl_backend **backend)
{
	__u32 slot = service->first + (((__u64)hash * service->count) >> 32);
	const __u32 *index;

	if (!service->count)
		return PCL_DROP(PCL_DROP_NO_BACKEND);
	index = bpf_map_lookup_elem(&pcl_slots, &slot);
	if (!index)
		return PCL_DROP(PCL_DROP_NO_BACKEND);
	slot = *index;
	*backend = bpf_map_lookup_elem(&pcl_backends, &slot);
	if (!*backend || (*backend)->family != family)
		return PCL_DROP(PCL_DROP_NO_BACKEND);
	return PCL_OK;
}

/* PCL_OK with *backend set, PCL_UNKNOWN where the destination is no service, or a drop. */
static __always_inline int pcl_service_select(struct pcl_packet *packet, const int family,
					      struct pcl_backend **backend)
{
	struct pcl_service_key key = {
	    .addr = packet->tuple.dst,
	    .port_be = packet->tuple.dport_be,
	    .protocol = packet->tuple.protocol,
	    .family = family,
	};
	const struct pcl_service_value *service;
	int result;

	if (packet->tuple.protocol != IPPROTO_TCP && packet->tuple.protocol != IPPROTO_UDP)
		return PCL_UNKNOWN;
	service = bpf_map_lookup_elem(&pcl_services, &key);
	pcl_trace_step(PCL_STEP_SERVICE, !!service, service ? service->id : 0,
		       service ? service->count : 0, 0);
	if (!service)
		return PCL_UNKNOWN;
	packet->service = service->id;
	result = pcl_service_pick(service, pcl_service_hash(packet, service->id), family, backend);
	if (result)
		return result;
	pcl_trace_at(PCL_STEP_BACKEND, (*backend)->id, bpf_ntohs((*backend)->port_be), 0, 0,
		     &(*backend)->addr);
	return PCL_OK;
}

#endif /* PCL_SERVICE_H */
