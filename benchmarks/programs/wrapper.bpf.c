/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Restore the packet, then tail-call the program under test: BPF_PROG_TEST_RUN
 * gives every repetition the packet that the one before left behind. For new
 * connections it counts the source port up, and every 65536 packets one more
 * field, so that no tuple comes twice.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define SHORT_QUADS 8 /* a 64-byte frame: IPv4 */
#define LONG_QUADS 10 /* an 80-byte frame: IPv6 */

struct bench_packet {
	__u64 quads[LONG_QUADS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct bench_packet);
	__uint(max_entries, 1);
} bench_frame SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} bench_target SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 1);
} bench_sequence SEC(".maps");

/* Offsets in the frame; 0: leave it. */
const volatile __u32 bench_long_frame = 0;
const volatile __u32 bench_low_offset = 0;
const volatile __u32 bench_high_offset = 0;
const volatile __u32 bench_high_mask = 0;

static __always_inline void add_be16(void *field, __u16 amount)
{
	*(__be16 *)field = bpf_htons(bpf_ntohs(*(__be16 *)field) + amount);
}

static __always_inline int restore(void *data, void *end)
{
	__u32 zero = 0;
	struct bench_packet *frame = bpf_map_lookup_elem(&bench_frame, &zero);
	__u64 *quads = data;

	if (!frame || (void *)(quads + SHORT_QUADS) > end)
		return -1;
	for (int i = 0; i < SHORT_QUADS; i++)
		quads[i] = frame->quads[i];
	if (!bench_long_frame)
		return 0;
	if ((void *)(quads + LONG_QUADS) > end)
		return -1;
	for (int i = SHORT_QUADS; i < LONG_QUADS; i++)
		quads[i] = frame->quads[i];
	return 0;
}

static __always_inline void renumber(void *data)
{
	__u32 zero = 0;
	__u64 *sequence = bpf_map_lookup_elem(&bench_sequence, &zero);
	__u64 number;

	if (!sequence)
		return;
	number = (*sequence)++;
	add_be16(data + bench_low_offset, number);
	if (bench_high_offset)
		add_be16(data + bench_high_offset, (number >> 16) & bench_high_mask);
}

SEC("tc")
int wrapper(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data;

	if (restore(data, (void *)(long)skb->data_end))
		return TC_ACT_SHOT;
	if (bench_low_offset)
		renumber(data);
	bpf_tail_call_static(skb, &bench_target, 0);
	return TC_ACT_SHOT;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
