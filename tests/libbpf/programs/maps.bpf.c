// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* One map of every kind that the binding types, and programs for every hook. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

enum colour { RED = 1, GREEN = 7 };

union word {
	__u8 bytes[4];
	__u32 number;
};

struct key {
	__u32 a;
	__u16 b;
	__u8 c[2];
};

struct value {
	__s32 signed_number;
	__u64 counts[2];
	union word word;
	enum colour colour;
};

#define MAP(kind, name, k, v, size, f)                                                             \
	struct {                                                                                   \
		__uint(type, kind);                                                                \
		__type(key, k);                                                                    \
		__type(value, v);                                                                  \
		__uint(max_entries, size);                                                         \
		__uint(map_flags, f);                                                              \
	} name SEC(".maps")

MAP(BPF_MAP_TYPE_HASH, hash, struct key, struct value, 100, 0);
MAP(BPF_MAP_TYPE_LRU_HASH, lru, __u32, __u64, 100, 0);
MAP(BPF_MAP_TYPE_ARRAY, array, __u32, struct value, 4, 0);
MAP(BPF_MAP_TYPE_PERCPU_ARRAY, percpu_array, __u32, __u32, 2, 0);
MAP(BPF_MAP_TYPE_PERCPU_HASH, percpu_hash, __u32, __u64, 10, 0);
MAP(BPF_MAP_TYPE_HASH, unused, __u32, __u32, 10, 0);

struct prefix {
	__u32 prefixlen;
	__u8 bytes[4];
};

MAP(BPF_MAP_TYPE_LPM_TRIE, lpm, struct prefix, __u32, 4, BPF_F_NO_PREALLOC);

struct inner {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 4);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__type(key, __u32);
	__uint(max_entries, 2);
	__array(values, struct inner);
} outer SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} ring SEC(".maps");

struct settings {
	__u32 verdict;
	__u32 other;
};

const volatile struct settings settings = { .verdict = 5, .other = 9 };
const volatile __u32 limit = 3;

SEC("tc")
int classify(struct __sk_buff *skb)
{
	__u32 zero = 0, length = skb->len, *count;
	struct value *value = bpf_map_lookup_elem(&array, &zero);

	count = bpf_map_lookup_elem(&percpu_array, &zero);
	if (count)
		(*count)++;
	if (value)
		value->counts[0]++;
	skb->mark = skb->mark + 1;
	bpf_ringbuf_output(&ring, &length, sizeof(length), 0);
	return settings.verdict;
}

SEC("tc")
int pass(struct __sk_buff *skb)
{
	return TC_ACT_UNSPEC;
}

SEC("xdp")
int drop(struct xdp_md *ctx)
{
	return XDP_DROP;
}

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	__u64 *seen, one = 1;
	__u32 key = 1;

	seen = bpf_map_lookup_elem(&lru, &key);
	if (!seen)
		bpf_map_update_elem(&lru, &key, &one, BPF_ANY);
	return 1;
}

SEC("tc")
int reads_unused(struct __sk_buff *skb)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&unused, &zero) ? 1 : 0;
}

char _license[] SEC("license") = "GPL";
