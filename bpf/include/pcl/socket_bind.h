/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A process of the node must not take a port that is a service's: it would get nothing there. */
#ifndef PCL_SOCKET_BIND_H
#define PCL_SOCKET_BIND_H

#include "pcl/socket.h"

static __always_inline void pcl_bind_read(struct bpf_sock *ctx, const int family,
					  struct pcl_socket_address *address)
{
	struct pcl_service_key *key = &address->key;

	key->family = family;
	key->protocol = ctx->protocol;
	key->port_be = bpf_htons(ctx->src_port);
	if (family == 4) {
		key->addr.v4 = ctx->src_ip4;
		return;
	}
	key->addr.words[0] = ctx->src_ip6[0];
	key->addr.words[1] = ctx->src_ip6[1];
	key->addr.words[2] = ctx->src_ip6[2];
	key->addr.words[3] = ctx->src_ip6[3];
	pcl_socket_unmap(address);
}

/* How often the claim on an address, or on every address, was in a bind's way; NULL: none. */
static __always_inline __u64 *pcl_claim_find(const struct pcl_service_key *wanted)
{
	struct pcl_claim_key key = {.service = *wanted};
	__u64 *refused = bpf_map_lookup_elem(&pcl_claims, &key);

	if (refused)
		return refused;
	__builtin_memset(&key.service.addr, 0, sizeof(key.service.addr));
	key.every = 1;
	return bpf_map_lookup_elem(&pcl_claims, &key);
}

static __always_inline int pcl_socket_post_bind(struct bpf_sock *ctx, const int family)
{
	struct pcl_socket_address address = {};
	const struct pcl_namespace *namespace;
	__u64 *refused;

	namespace = pcl_socket_namespace(bpf_get_netns_cookie(ctx));
	if (!namespace || !namespace->node)
		return PCL_PROCEED;
	pcl_bind_read(ctx, family, &address);
	refused = pcl_claim_find(&address.key);
	/* The wildcard of IPv6 is also that of IPv4. */
	if (!refused && address.key.family == 6 && pcl_is_any(&address.key.addr)) {
		address.key.family = 4;
		refused = pcl_claim_find(&address.key);
	}
	if (!refused)
		return PCL_PROCEED;
	__sync_fetch_and_add(refused, 1);
	return pcl_socket_refuse(EADDRINUSE);
}

#endif /* PCL_SOCKET_BIND_H */
