/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The map that the bulk benchmark fills; tools/mapwrite.c makes its equal. */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

struct bench_pair {
	__u64 quads[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct bench_pair);
	__type(value, struct bench_pair);
	__uint(max_entries, 1);
} bench_entries SEC(".maps");
