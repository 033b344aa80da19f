/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Addresses that pass between an application and its socket, and whose sockets are translated. */
#ifndef PCL_SOCKET_H
#define PCL_SOCKET_H

#include <stdbool.h>
#include <linux/errno.h>
#include <linux/in.h>
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "pcl/service.h"
#include "pcl/socket_maps.h"

#define PCL_SOCK_STREAM 1
#define PCL_SOCK_DGRAM 2
#define PCL_CGROUP_DEPTH 32
#define PCL_PROCEED 1

/* An address of a system call. mapped: IPv4 in the clothes of IPv6. */
struct pcl_socket_address {
	struct pcl_service_key key;
	bool mapped;
};

static __always_inline void pcl_socket_unmap(struct pcl_socket_address *address)
{
	struct pcl_service_key *key = &address->key;

	if (key->addr.quads[0] || key->addr.words[2] != bpf_htonl(0xffff))
		return;
	address->mapped = true;
	key->family = 4;
	key->addr.words[0] = key->addr.words[3];
	key->addr.words[2] = 0;
	key->addr.words[3] = 0;
}

static __always_inline void pcl_socket_read(struct bpf_sock_addr *ctx, const int family,
					    struct pcl_socket_address *address)
{
	struct pcl_service_key *key = &address->key;

	key->family = family;
	key->protocol = ctx->protocol;
	key->port_be = ctx->user_port;
	if (family == 4) {
		key->addr.v4 = ctx->user_ip4;
		return;
	}
	key->addr.words[0] = ctx->user_ip6[0];
	key->addr.words[1] = ctx->user_ip6[1];
	key->addr.words[2] = ctx->user_ip6[2];
	key->addr.words[3] = ctx->user_ip6[3];
	pcl_socket_unmap(address);
}

static __always_inline void pcl_socket_write(struct bpf_sock_addr *ctx, const int family,
					     bool mapped, const union pcl_addr *addr,
					     __be16 port_be)
{
	ctx->user_port = port_be;
	if (family == 4) {
		ctx->user_ip4 = addr->v4;
	} else if (mapped) {
		ctx->user_ip6[3] = addr->v4;
	} else {
		ctx->user_ip6[0] = addr->words[0];
		ctx->user_ip6[1] = addr->words[1];
		ctx->user_ip6[2] = addr->words[2];
		ctx->user_ip6[3] = addr->words[3];
	}
}

/* The system call fails with this errno. */
static __always_inline int pcl_socket_refuse(int error)
{
	bpf_set_retval(-error);
	return 0;
}

static __always_inline bool pcl_is_exempt(void)
{
	int level;

	for (level = 0; level < PCL_CGROUP_DEPTH; level++) {
		__u64 cgroup = bpf_get_current_ancestor_cgroup_id(level);

		if (!cgroup)
			return false;
		if (bpf_map_lookup_elem(&pcl_exempt, &cgroup))
			return true;
	}
	return false;
}

/* What was refused is counted like a packet that was dropped. */
static __always_inline void pcl_socket_count(__u32 reason)
{
	struct pcl_counter *counter = bpf_map_lookup_elem(&pcl_counters, &reason);

	if (counter)
		counter->packets++;
}

/* NULL where a socket is not this datapath's: by its namespace, or by its process's cgroup. */
static __always_inline const struct pcl_namespace *pcl_socket_namespace(__u64 cookie)
{
	const struct pcl_namespace *namespace = bpf_map_lookup_elem(&pcl_namespaces, &cookie);

	return namespace && !pcl_is_exempt() ? namespace : NULL;
}

static __always_inline bool pcl_is_any(const union pcl_addr *addr)
{
	return !addr->quads[0] && !addr->quads[1];
}

static __always_inline bool pcl_is_loopback(const struct pcl_service_key *key)
{
	if (key->family == 4)
		return (key->addr.v4 & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
	return !key->addr.quads[0] && !key->addr.words[2] && key->addr.words[3] == bpf_htonl(1);
}

/* Where an application wants to go. every: the service is on every address of the node. */
struct pcl_socket_target {
	struct pcl_socket_address address;
	const struct pcl_namespace *namespace;
	const struct pcl_service_value *service;
	__u64 netns;
	bool every;
};

/* The service of a port on every address of the node, where this is one of them. */
static __always_inline const struct pcl_service_value *
pcl_socket_every(const struct pcl_service_key *named)
{
	struct pcl_service_key key = *named;

	if (!pcl_is_loopback(&key) && !pcl_is_node(&key.addr, key.family))
		return NULL;
	__builtin_memset(&key.addr, 0, sizeof(key.addr));
	return bpf_map_lookup_elem(&pcl_services, &key);
}

/* Whether an address that the application named is a service's, and ours to translate. */
static __always_inline bool pcl_socket_find(struct bpf_sock_addr *ctx,
					    struct pcl_socket_target *target)
{
	const struct pcl_service_key *key = &target->address.key;

	if (!(ctx->type == PCL_SOCK_STREAM && key->protocol == IPPROTO_TCP) &&
	    !(ctx->type == PCL_SOCK_DGRAM && key->protocol == IPPROTO_UDP))
		return false;
	target->service = bpf_map_lookup_elem(&pcl_services, key);
	target->every = !target->service;
	if (target->every)
		target->service = pcl_socket_every(key);
	if (!target->service)
		return false;
	target->netns = bpf_get_netns_cookie(ctx);
	target->namespace = pcl_socket_namespace(target->netns);
	if (!target->namespace)
		return false;
	/* An endpoint's loopback is its own. */
	return target->namespace->node || !target->every || !pcl_is_loopback(key);
}

/*
 * Who asks: the address that the socket is bound to, else the first of its namespace. The packet
 * layer sees the same, so a client is one client to both.
 */
static __always_inline void pcl_socket_client(const struct bpf_sock *sk,
					      const struct pcl_socket_target *target,
					      union pcl_addr *client)
{
	if (!sk)
		return;
	if (target->address.key.family == 4) {
		client->v4 = sk->src_ip4;
	} else {
		client->words[0] = sk->src_ip6[0];
		client->words[1] = sk->src_ip6[1];
		client->words[2] = sk->src_ip6[2];
		client->words[3] = sk->src_ip6[3];
	}
	if (pcl_is_any(client))
		*client = target->address.key.family == 4 ? target->namespace->ipv4
							  : target->namespace->ipv6;
}

/* 0 with *backend set for a new connection, or the errno of the call. */
static __always_inline int pcl_socket_choose(struct bpf_sock_addr *ctx,
					     const struct pcl_socket_target *target,
					     struct pcl_backend **backend)
{
	const int family = target->address.key.family;
	union pcl_addr client = {};
	bool kept;

	pcl_socket_client(ctx->sk, target, &client);
	if (!pcl_service_admits(target->service, &client, family)) {
		pcl_socket_count(PCL_DROP_SOURCE_RANGE);
		return EPERM;
	}
	/* Without an address a namespace is still one client. */
	if (pcl_is_any(&client)) {
		client.quads[0] = target->netns;
		client.quads[1] = ~0ULL;
	}
	if (pcl_service_choose(target->service, &client, bpf_get_prandom_u32(), false, family,
			       backend, &kept) ||
	    !*backend) {
		pcl_socket_count(PCL_DROP_NO_BACKEND);
		return ECONNREFUSED;
	}
	return 0;
}

static __always_inline bool pcl_same_address(const union pcl_addr *a, __be16 a_port_be,
					     const union pcl_addr *b, __be16 b_port_be)
{
	return a_port_be == b_port_be && a->quads[0] == b->quads[0] && a->quads[1] == b->quads[1];
}

static __always_inline void pcl_translation_fill(struct pcl_translation *translation,
						 const struct pcl_socket_target *target,
						 const struct pcl_backend *backend)
{
	const struct pcl_service_key *key = &target->address.key;

	translation->frontend = key->addr;
	translation->frontend_port_be = key->port_be;
	translation->backend = backend->addr;
	translation->backend_port_be = backend->port_be;
	translation->protocol = key->protocol;
	translation->family = key->family;
	translation->every = target->every;
}

static __always_inline bool pcl_is_to(const struct pcl_translation *translation,
				      const struct pcl_service_key *key)
{
	return translation->protocol && translation->family == key->family &&
	       pcl_same_address(&translation->frontend, translation->frontend_port_be, &key->addr,
				key->port_be);
}

static __always_inline bool pcl_is_from(const struct pcl_translation *translation,
					const struct pcl_service_key *key)
{
	return translation->protocol && translation->family == key->family &&
	       pcl_same_address(&translation->backend, translation->backend_port_be, &key->addr,
				key->port_be);
}

#endif /* PCL_SOCKET_H */
