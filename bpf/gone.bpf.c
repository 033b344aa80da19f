// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Sockets whose backend has gone. Iterators, run by reading them:
 *   find_sockets             of all namespaces at once, told as struct pcl_gone_socket
 *   destroy_tcp, destroy_udp those of the reader's namespace end, with ECONNABORTED
 * Only what the socket layer has translated is in question, and only while it is connected to
 * that backend.
 */
#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "pcl/kernel.h"
#include "pcl/socket_maps.h"
#include "pcl/types.h"

/* Frontend and backend that no longer belong together. Written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct pcl_translation);
	__type(value, __u32);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} pcl_gone SEC(".maps");

/* Never read: it keeps the type in the object's BTF. */
const volatile struct pcl_gone_socket pcl_gone_contract = {};

/* Linux 6.5. */
extern int bpf_sock_destroy(struct sock_common *sk) __ksym __weak;

static __always_inline void pcl_copy_address(union pcl_addr *to, __be32 v4,
					     const struct in6_addr *v6, int family)
{
	if (family == 4) {
		to->v4 = v4;
		return;
	}
	to->words[0] = v6->in6_u.u6_addr32[0];
	to->words[1] = v6->in6_u.u6_addr32[1];
	to->words[2] = v6->in6_u.u6_addr32[2];
	to->words[3] = v6->in6_u.u6_addr32[3];
}

static __always_inline bool pcl_is_connected(const struct sock_common *sk,
					     const struct pcl_translation *to)
{
	union pcl_addr peer = {};

	pcl_copy_address(&peer, sk->skc_daddr, &sk->skc_v6_daddr, to->family);
	return sk->skc_dport == to->backend_port_be && peer.quads[0] == to->backend.quads[0] &&
	       peer.quads[1] == to->backend.quads[1];
}

/* Of a service on every address of the node, any of them is meant. */
static __always_inline bool pcl_is_gone(const struct pcl_translation *translation)
{
	struct pcl_translation key = *translation;

	if (key.every)
		__builtin_memset(&key.frontend, 0, sizeof(key.frontend));
	return bpf_map_lookup_elem(&pcl_gone, &key);
}

SEC("iter/bpf_sk_storage_map")
int find_sockets(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	const struct pcl_translation *value = ctx->value;
	struct pcl_gone_socket gone = {};
	struct sock *sk = ctx->sk;

	if (!sk || !value)
		return 0;
	gone.translation = *value;
	if (!pcl_is_gone(&gone.translation))
		return 0;
	gone.netns = sk->__sk_common.skc_net.net->net_cookie;
	gone.socket = bpf_get_socket_cookie(sk);
	gone.connected = pcl_is_connected(&sk->__sk_common, &gone.translation);
	pcl_copy_address(&gone.source, sk->__sk_common.skc_rcv_saddr,
			 &sk->__sk_common.skc_v6_rcv_saddr, gone.translation.family);
	gone.source_port_be = bpf_htons(sk->__sk_common.skc_num);
	bpf_seq_write(ctx->meta->seq, &gone, sizeof(gone));
	return 0;
}

static __always_inline void pcl_destroy(struct sock_common *sk)
{
	const struct pcl_translation *peer;

	if (!sk)
		return;
	peer = bpf_sk_storage_get(&pcl_peers, sk, NULL, 0);
	if (peer && pcl_is_gone(peer) && pcl_is_connected(sk, peer))
		bpf_sock_destroy(sk);
}

SEC("iter/tcp")
int destroy_tcp(struct bpf_iter__tcp *ctx)
{
	pcl_destroy(ctx->sk_common);
	return 0;
}

SEC("iter/udp")
int destroy_udp(struct bpf_iter__udp *ctx)
{
	pcl_destroy((struct sock_common *)ctx->udp_sk);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
