/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Every map. Sizes are defaults; the loader may change them before load. */
#ifndef PCL_MAPS_H
#define PCL_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "pcl/types.h"

/* ifindex of the host's side -> endpoint. Written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, struct pcl_endpoint);
	__uint(max_entries, 4096);
} pcl_endpoints SEC(".maps");

/* Local address -> ifindex of its endpoint. Written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct pcl_address_key);
	__type(value, __u32);
	__uint(max_entries, 8192);
} pcl_addresses SEC(".maps");

/* Prefix -> identity, for what is not a local endpoint. Written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__type(key, struct pcl_ipcache_key);
	__type(value, struct pcl_ipcache_value);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} pcl_ipcache SEC(".maps");

/* One policy set: immutable after it stands in pcl_policies. */
struct pcl_policy_set {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__type(key, struct pcl_policy_key);
	__type(value, struct pcl_policy_value);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
};

/* Policy slot -> policy set. An empty slot drops. Slot 0 is never used. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__type(key, __u32);
	__uint(max_entries, 4096);
	__array(values, struct pcl_policy_set);
} pcl_policies SEC(".maps");

/* Policy slot -> epoch, counted up when its verdicts may change. [0] counts ipcache changes. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 4096);
} pcl_epochs SEC(".maps");

/* Service frontend -> its backends' slots. Written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct pcl_service_key);
	__type(value, struct pcl_service_value);
	__uint(max_entries, 65536);
} pcl_services SEC(".maps");

/* Slot -> index into pcl_backends. Written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 131072);
} pcl_slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct pcl_backend);
	__uint(max_entries, 65536);
} pcl_backends SEC(".maps");

/* Client and service -> backend; a client that is forgotten is a new one. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct pcl_affinity_key);
	__type(value, struct pcl_affinity_value);
	__uint(max_entries, 65536);
} pcl_affinity SEC(".maps");

/* Set and prefix -> its family, 4 or 6. Written by user space; a set in use is never changed. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__type(key, struct pcl_source_key);
	__type(value, __u32);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} pcl_source_ranges SEC(".maps");

/* Connections: canonical tuple -> verdict, epochs, both sides, rewrite. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct pcl_ct4_key);
	__type(value, struct pcl_ct_entry);
	__uint(max_entries, 131072);
} pcl_ct4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct pcl_ct6_key);
	__type(value, struct pcl_ct_entry);
	__uint(max_entries, 131072);
} pcl_ct6 SEC(".maps");

/* ifindex of a device that faces other nodes and the world. Written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, struct pcl_device);
	__uint(max_entries, 64);
} pcl_devices SEC(".maps");

/* Prefix -> 1: endpoints reach it under their own address. Written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__type(key, struct pcl_ipcache_key);
	__type(value, __u32);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} pcl_unmasked SEC(".maps");

/* Remote end -> ports taken towards it; only where they have become few. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct pcl_nat_key);
	__type(value, struct pcl_nat_ports);
	__uint(max_entries, 256);
} pcl_nat_remotes SEC(".maps");

/* An empty one of these, which is too large for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct pcl_nat_ports);
	__uint(max_entries, 1);
} pcl_nat_empty SEC(".maps");

/* Datagram id -> ports of its first fragment. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct pcl_fragment_key);
	__type(value, struct pcl_fragment_value);
	__uint(max_entries, 8192);
} pcl_fragments SEC(".maps");

/* enum pcl_reason -> packets and bytes. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct pcl_counter);
	__uint(max_entries, PCL_REASON_MAX);
} pcl_counters SEC(".maps");

/* [0] events written, [1] events lost because the ring was full. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 2);
} pcl_event_counts SEC(".maps");

/* struct pcl_event. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} pcl_events SEC(".maps");

/* struct pcl_trace_record; only with pcl_config.trace. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} pcl_trace SEC(".maps");

/*
 * [0] header, then two banks of chunks. Only of a pinned datapath, and only for user space:
 * what adopt() cannot read from the other maps. An array: no write of it can fail for memory.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct pcl_manifest_chunk);
	__uint(max_entries, 1025);
} pcl_manifest SEC(".maps");

#endif /* PCL_MAPS_H */
