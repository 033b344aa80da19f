/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Connected sockets: one backend for the life of the connection, the frontend as its peer. */
#ifndef PCL_SOCKET_CONNECT_H
#define PCL_SOCKET_CONNECT_H

#include "pcl/socket.h"

static __always_inline int pcl_socket_connect(struct bpf_sock_addr *ctx, const int family)
{
	struct pcl_translation translation = {};
	struct pcl_socket_target target = {};
	struct pcl_backend *backend = NULL;
	int error;

	pcl_socket_read(ctx, family, &target.address);
	/* A socket may connect again: what it was connected to before is over. */
	bpf_sk_storage_delete(&pcl_peers, ctx->sk);
	if (!pcl_socket_find(ctx, &target))
		return PCL_PROCEED;
	error = pcl_socket_choose(ctx, &target, &backend);
	/* verifier: it cannot know that a choice has a backend. */
	if (error || !backend)
		return pcl_socket_refuse(error);
	pcl_translation_fill(&translation, &target, backend);
	if (!bpf_sk_storage_get(&pcl_peers, ctx->sk, &translation, BPF_SK_STORAGE_GET_F_CREATE))
		return pcl_socket_refuse(ENOMEM);
	pcl_socket_write(ctx, family, target.address.mapped, &translation.backend,
			 translation.backend_port_be);
	return PCL_PROCEED;
}

static __always_inline bool pcl_socket_from_peer(struct bpf_sock_addr *ctx, const int family,
						 const struct pcl_socket_address *source)
{
	const struct pcl_translation *peer = bpf_sk_storage_get(&pcl_peers, ctx->sk, NULL, 0);

	if (!peer || !pcl_is_from(peer, &source->key))
		return false;
	pcl_socket_write(ctx, family, source->mapped, &peer->frontend, peer->frontend_port_be);
	return true;
}

static __always_inline int pcl_socket_getpeername(struct bpf_sock_addr *ctx, const int family)
{
	struct pcl_socket_address peer = {};

	pcl_socket_read(ctx, family, &peer);
	pcl_socket_from_peer(ctx, family, &peer);
	return PCL_PROCEED;
}

#endif /* PCL_SOCKET_CONNECT_H */
