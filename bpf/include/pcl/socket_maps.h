/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the socket layer has beside the service maps: it goes with the socket that it belongs to. */
#ifndef PCL_SOCKET_MAPS_H
#define PCL_SOCKET_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "pcl/types.h"

/* A connected socket's translation. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__type(key, int);
	__type(value, struct pcl_translation);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} pcl_peers SEC(".maps");

/* The translations of an unconnected UDP socket. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__type(key, int);
	__type(value, struct pcl_sends);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} pcl_sends SEC(".maps");

/* Cookies of the network namespaces whose sockets are translated. Written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u64);
	__type(value, struct pcl_namespace);
	__uint(max_entries, 8192);
} pcl_namespaces SEC(".maps");

/* Ports of the node that services have -> binds that were refused. Written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct pcl_claim_key);
	__type(value, __u64);
	__uint(max_entries, 131072);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} pcl_claims SEC(".maps");

/* Ids of the cgroups whose sockets are left alone, with all below them. Written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u64);
	__type(value, __u32);
	__uint(max_entries, 1024);
} pcl_exempt SEC(".maps");

#endif /* PCL_SOCKET_MAPS_H */
