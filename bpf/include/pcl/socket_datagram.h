/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Unconnected UDP: each datagram names its service. A socket keeps to a backend while the
 * service has it, and is answered from the frontend. The hooks hold the socket's lock.
 */
#ifndef PCL_SOCKET_DATAGRAM_H
#define PCL_SOCKET_DATAGRAM_H

#include "pcl/socket_connect.h"

/* Where is a translation with this address, and which is the oldest. Numbers, not pointers: the
 * verifier then proves one step of the walk for all.
 */
struct pcl_sends_search {
	const struct pcl_sends *sends;
	const struct pcl_service_key *key;
	__u32 forward; /* 1: the frontend's address, else the backend's */
	__u32 found;   /* PCL_SENDS: none */
	__u32 found_age;
	__u32 oldest;
	__u32 oldest_age;
};

static long pcl_sends_step(__u32 number, struct pcl_sends_search *search)
{
	const struct pcl_send *one;
	bool match;
	__u32 age;

	if (number >= PCL_SENDS)
		return 1;
	one = &search->sends->entries[number];
	age = search->sends->clock - one->used;
	match = search->forward ? pcl_is_to(&one->translation, search->key)
				: pcl_is_from(&one->translation, search->key);
	if (match && age <= search->found_age) {
		search->found = number;
		search->found_age = age;
	}
	if (age > search->oldest_age) {
		search->oldest = number;
		search->oldest_age = age;
	}
	return 0;
}

/* The latest of the translations that match; two services may share a backend. */
static __always_inline void pcl_sends_find(const struct pcl_sends *sends,
					   const struct pcl_service_key *key, bool forward,
					   struct pcl_sends_search *search)
{
	search->sends = sends;
	search->key = key;
	search->forward = forward;
	search->found = PCL_SENDS;
	search->found_age = ~0U;
	bpf_loop(PCL_SENDS, pcl_sends_step, search, 0);
}

/* Whether a backend that was chosen once still serves. */
static __always_inline bool pcl_send_holds(const struct pcl_send *send,
					   const struct pcl_service_value *service)
{
	const struct pcl_backend *backend = bpf_map_lookup_elem(&pcl_backends, &send->index);

	return backend && backend->id == send->id && backend->service == service->id &&
	       pcl_backend_keeps(backend->state);
}

/* A fresh choice stands beside the old one: late answers still find their frontend. */
static __always_inline int pcl_send_choose(struct bpf_sock_addr *ctx, struct pcl_send *send,
					   const struct pcl_socket_target *target)
{
	struct pcl_backend *backend = NULL;
	int error = pcl_socket_choose(ctx, target, &backend);

	/* verifier: it cannot know that a choice has a backend. */
	if (error || !backend)
		return error;
	pcl_translation_fill(&send->translation, target, backend);
	send->index = backend->index;
	send->id = backend->id;
	return 0;
}

static __always_inline int pcl_socket_sendmsg(struct bpf_sock_addr *ctx, const int family)
{
	struct pcl_sends_search search = {};
	struct pcl_socket_target target = {};
	struct pcl_sends *sends;
	struct pcl_send *send;
	int error;

	pcl_socket_read(ctx, family, &target.address);
	if (!pcl_socket_find(ctx, &target))
		return PCL_PROCEED;
	sends = bpf_sk_storage_get(&pcl_sends, ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!sends)
		return pcl_socket_refuse(ENOMEM);
	pcl_sends_find(sends, &target.address.key, true, &search);
	send = &sends->entries[search.found & (PCL_SENDS - 1)];
	if (search.found >= PCL_SENDS || !pcl_send_holds(send, target.service)) {
		send = &sends->entries[search.oldest & (PCL_SENDS - 1)];
		error = pcl_send_choose(ctx, send, &target);
		if (error)
			return pcl_socket_refuse(error);
	}
	send->used = ++sends->clock;
	pcl_socket_write(ctx, family, target.address.mapped, &send->translation.backend,
			 send->translation.backend_port_be);
	return PCL_PROCEED;
}

static __always_inline int pcl_socket_recvmsg(struct bpf_sock_addr *ctx, const int family)
{
	struct pcl_sends_search search = {};
	struct pcl_socket_address source = {};
	const struct pcl_sends *sends;
	const struct pcl_send *send;

	pcl_socket_read(ctx, family, &source);
	if (pcl_socket_from_peer(ctx, family, &source))
		return PCL_PROCEED;
	sends = bpf_sk_storage_get(&pcl_sends, ctx->sk, NULL, 0);
	if (!sends)
		return PCL_PROCEED;
	pcl_sends_find(sends, &source.key, false, &search);
	if (search.found >= PCL_SENDS)
		return PCL_PROCEED;
	send = &sends->entries[search.found];
	pcl_socket_write(ctx, family, source.mapped, &send->translation.frontend,
			 send->translation.frontend_port_be);
	return PCL_PROCEED;
}

#endif /* PCL_SOCKET_DATAGRAM_H */
