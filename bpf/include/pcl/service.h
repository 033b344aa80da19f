/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A service's frontend to one of its backends. */
#ifndef PCL_SERVICE_H
#define PCL_SERVICE_H

#include "pcl/config.h"
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

static __always_inline bool pcl_backend_keeps(__u32 state)
{
	return state >= PCL_BACKEND_ACTIVE && state <= PCL_BACKEND_QUARANTINED;
}

/* The backend at an index, if it is this service's and may get a new connection. */
static __always_inline struct pcl_backend *
pcl_service_backend(const struct pcl_service_value *service, __u32 index)
{
	struct pcl_backend *backend = bpf_map_lookup_elem(&pcl_backends, &index);

	if (!backend || backend->service != service->id || backend->state != PCL_BACKEND_ACTIVE)
		return NULL;
	return backend;
}

/*
 * PCL_OK with *backend set, or a drop. The same hash finds the same backend as long as the
 * service's run of slots is the same.
 */
static __always_inline int pcl_service_pick(const struct pcl_service_value *service, __u32 hash,
					    bool outside, const int family,
					    struct pcl_backend **backend)
{
	__u32 first = outside ? service->outside_first : service->first;
	__u32 count = outside ? service->outside_count : service->count;
	__u32 slot = first + (((__u64)hash * count) >> 32);
	const __u32 *index;

	if (!count)
		return PCL_DROP(PCL_DROP_NO_BACKEND);
	index = bpf_map_lookup_elem(&pcl_slots, &slot);
	if (!index)
		return PCL_DROP(PCL_DROP_NO_BACKEND);
	*backend = pcl_service_backend(service, *index);
	if (!*backend || (*backend)->family != family)
		return PCL_DROP(PCL_DROP_NO_BACKEND);
	return PCL_OK;
}

/* The backend that this client had last, if that was not too long ago and it is still active. */
static __always_inline struct pcl_backend *
pcl_affinity_find(const struct pcl_service_value *service, const union pcl_addr *client)
{
	struct pcl_affinity_key key = {.client = *client, .service = service->id};
	const struct pcl_affinity_value *had = bpf_map_lookup_elem(&pcl_affinity, &key);
	struct pcl_backend *backend;

	if (!had || (__u32)bpf_jiffies64() - had->last_used >= service->affinity)
		return NULL;
	backend = pcl_service_backend(service, had->index);
	return backend && backend->id == had->id ? backend : NULL;
}

/* A map that cannot take it costs affinity, not the connection. */
static __always_inline void pcl_affinity_keep(const struct pcl_service_value *service,
					      const union pcl_addr *client,
					      const struct pcl_backend *backend)
{
	struct pcl_affinity_key key = {.client = *client, .service = service->id};
	struct pcl_affinity_value value = {
	    .index = backend->index,
	    .id = backend->id,
	    .last_used = bpf_jiffies64(),
	};

	if (!pcl_config.trace)
		bpf_map_update_elem(&pcl_affinity, &key, &value, BPF_ANY);
}

/* Whether a client may use the service. */
static __always_inline bool pcl_service_admits(const struct pcl_service_value *service,
					       const union pcl_addr *client, const int family)
{
	struct pcl_source_key key = {
	    .prefixlen = PCL_SOURCES_STATIC_BITS + (family == 4 ? 32 : 128),
	    .set = service->sources,
	    .addr = *client,
	};
	bool named;

	if (!service->sources)
		return true;
	named = bpf_map_lookup_elem(&pcl_source_ranges, &key);
	return named != !!(service->flags & PCL_SERVICE_SOURCES_DENY);
}

/* PCL_OK with *backend set, by affinity (*kept) or by hash, or a drop. */
static __always_inline int pcl_service_choose(const struct pcl_service_value *service,
					      const union pcl_addr *client, __u32 hash,
					      bool outside, const int family,
					      struct pcl_backend **backend, bool *kept)
{
	int result = PCL_OK;

	*kept = false;
	if (!service->affinity)
		return pcl_service_pick(service, hash, outside, family, backend);
	*backend = pcl_affinity_find(service, client);
	*kept = *backend;
	if (!*backend)
		result = pcl_service_pick(service, hash, outside, family, backend);
	if (!result && *backend)
		pcl_affinity_keep(service, client, *backend);
	return result;
}

/*
 * By the client's tuple: the same connection finds the same backend again. For a Maglev table
 * every node must come to the same number, so no number of this node's is in it.
 */
static __always_inline __u32 pcl_service_hash(const struct pcl_packet *packet,
					      const struct pcl_service_value *service)
{
	const struct pcl_tuple *tuple = &packet->tuple;
	__u32 hash =
	    tuple->src.words[0] ^ tuple->src.words[1] ^ tuple->src.words[2] ^ tuple->src.words[3];

	if (service->flags & PCL_SERVICE_MAGLEV)
		return pcl_mix(pcl_mix(hash) ^ ((__u32)tuple->sport_be << 16 | tuple->dport_be));
	return pcl_mix(pcl_mix(hash) ^ ((__u32)tuple->sport_be << 16 | service->id));
}

static __always_inline bool pcl_service_protocol(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP;
}

/* A local address without an endpoint is the node's own. */
static __always_inline bool pcl_is_node(const union pcl_addr *addr, const int family)
{
	struct pcl_address_key key = {.family = family};
	const __u32 *ifindex;

	if (family == 4)
		key.addr.v4 = addr->v4;
	else
		key.addr = *addr;
	ifindex = bpf_map_lookup_elem(&pcl_addresses, &key);
	return ifindex && !*ifindex;
}

/*
 * The service of an address and port, else that of the port on every address of the node, else
 * what is known of the address alone.
 */
static __always_inline const struct pcl_service_value *
pcl_service_find(const struct pcl_packet *packet, const int family)
{
	struct pcl_service_key key = {
	    .addr = packet->tuple.dst,
	    .port_be = packet->tuple.dport_be,
	    .protocol = packet->tuple.protocol,
	    .family = family,
	};
	const struct pcl_service_value *service = bpf_map_lookup_elem(&pcl_services, &key);

	if (service || !pcl_config.devices)
		return service;
	if (pcl_is_node(&packet->tuple.dst, family)) {
		__builtin_memset(&key.addr, 0, sizeof(key.addr));
		return bpf_map_lookup_elem(&pcl_services, &key);
	}
	key.port_be = 0;
	key.protocol = 0;
	return bpf_map_lookup_elem(&pcl_services, &key);
}

/* For the trace. */
static __always_inline __u32 pcl_service_kind(const struct pcl_service_value *service)
{
	if (!service)
		return 0;
	return service->flags & PCL_SERVICE_NOTHING ? 2 : 1;
}

/*
 * PCL_OK with *backend set, PCL_UNKNOWN where the destination is no service for this kind of
 * client, or a drop.
 */
static __always_inline int pcl_service_select(struct pcl_packet *packet, bool outside,
					      const int family, __u32 *flags,
					      struct pcl_backend **backend)
{
	const struct pcl_service_value *service;
	bool kept;
	int result;

	if (!pcl_service_protocol(packet->tuple.protocol))
		return PCL_UNKNOWN;
	service = pcl_service_find(packet, family);
	pcl_trace_step(PCL_STEP_SERVICE, pcl_service_kind(service), service ? service->id : 0,
		       service ? outside ? service->outside_count : service->count : 0, 0);
	if (!service || (outside && !(service->flags & PCL_SERVICE_OUTSIDE)))
		return PCL_UNKNOWN;
	if (service->flags & PCL_SERVICE_NOTHING)
		return PCL_DROP(PCL_DROP_PORT);
	packet->service = service->id;
	*flags = service->flags;
	if (!pcl_service_admits(service, &packet->tuple.src, family))
		return PCL_DROP(PCL_DROP_SOURCE_RANGE);
	result = pcl_service_choose(service, &packet->tuple.src, pcl_service_hash(packet, service),
				    outside, family, backend, &kept);
	/* verifier: it cannot know that a choice has a backend. */
	if (result || !*backend)
		return result;
	pcl_trace_at(PCL_STEP_BACKEND, (*backend)->id, bpf_ntohs((*backend)->port_be), kept, 0,
		     &(*backend)->addr);
	return PCL_OK;
}

#endif /* PCL_SERVICE_H */
