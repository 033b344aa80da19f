// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* One byte for each socket that keeps something in a storage map. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__bpf_sk_storage_map {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	struct sock *sk;
	void *value;
};

SEC("iter/bpf_sk_storage_map")
int count_sockets(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	char one = 1;

	if (ctx->sk)
		bpf_seq_write(ctx->meta->seq, &one, sizeof(one));
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
