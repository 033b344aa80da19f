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
	if (key->addr.quads[0] || key->addr.words[2] != bpf_htonl(0xffff))
		return;
	address->mapped = true;
	key->family = 4;
	key->addr.words[0] = key->addr.words[3];
	key->addr.words[2] = 0;
	key->addr.words[3] = 0;
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

/* Whether a socket belongs to this datapath: by its namespace, and by its process's cgroup. */
static __always_inline bool pcl_is_ours(struct bpf_sock_addr *ctx)
{
	__u64 cookie = bpf_get_netns_cookie(ctx);

	return bpf_map_lookup_elem(&pcl_namespaces, &cookie) && !pcl_is_exempt();
}

/* The service behind an address that the application named, where it is ours to translate. */
static __always_inline const struct pcl_service_value *
pcl_socket_service(struct bpf_sock_addr *ctx, const struct pcl_service_key *key)
{
	const struct pcl_service_value *service;

	if (!(ctx->type == PCL_SOCK_STREAM && key->protocol == IPPROTO_TCP) &&
	    !(ctx->type == PCL_SOCK_DGRAM && key->protocol == IPPROTO_UDP))
		return NULL;
	service = bpf_map_lookup_elem(&pcl_services, key);
	/* Who asks is known by its packets only: the packet layer judges sources and affinity. */
	if (!service || service->sources || service->affinity)
		return NULL;
	return pcl_is_ours(ctx) ? service : NULL;
}

static __always_inline bool pcl_same_address(const union pcl_addr *a, __be16 a_port_be,
					     const union pcl_addr *b, __be16 b_port_be)
{
	return a_port_be == b_port_be && a->quads[0] == b->quads[0] && a->quads[1] == b->quads[1];
}

static __always_inline void pcl_translation_fill(struct pcl_translation *translation,
						 const struct pcl_service_key *key,
						 const struct pcl_backend *backend)
{
	translation->frontend = key->addr;
	translation->frontend_port_be = key->port_be;
	translation->backend = backend->addr;
	translation->backend_port_be = backend->port_be;
	translation->protocol = key->protocol;
	translation->family = key->family;
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
