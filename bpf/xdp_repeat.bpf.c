// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Restore the packet, then call the program under test: BPF_PROG_TEST_RUN gives every repetition
 * what the one before has left, a packet in a tunnel. For new flows it counts the source port up,
 * and every 65,536 packets the client's address.
 */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define PCL_REPEAT_WORDS 256

struct pcl_repeat_frame {
	__u64 words[PCL_REPEAT_WORDS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct pcl_repeat_frame);
	__uint(max_entries, 1);
} pcl_repeat_frames SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 1);
} pcl_repeat_target SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 1);
} pcl_repeat_sequence SEC(".maps");

const volatile __u32 pcl_repeat_length = 64; /* of the frame, in bytes */
const volatile __u32 pcl_repeat_port = 0;    /* offset of the field to count; 0: none */
const volatile __u32 pcl_repeat_address = 0;

static __always_inline int pcl_repeat_resize(struct xdp_md *ctx)
{
	long length = (void *)(long)ctx->data_end - (void *)(long)ctx->data;
	int grown;

	asm volatile("" : "+r"(length)); /* verifier: no 32-bit arithmetic on pointers */
	grown = (int)length - (int)pcl_repeat_length;
	return grown ? bpf_xdp_adjust_head(ctx, grown) : 0;
}

static __always_inline int pcl_repeat_restore(struct xdp_md *ctx,
					      const struct pcl_repeat_frame *frame)
{
	__u64 *words = (void *)(long)ctx->data;
	__u32 count = pcl_repeat_length / 8;
	const __u8 *from = (void *)frame;
	__u8 *bytes = (void *)words;

	if ((void *)bytes + pcl_repeat_length > (void *)(long)ctx->data_end)
		return -1;
	for (__u32 i = 0; i < count && i < PCL_REPEAT_WORDS; i++)
		words[i] = frame->words[i];
	for (__u32 i = count * 8; i < pcl_repeat_length && i < sizeof(*frame); i++)
		bytes[i] = from[i];
	return 0;
}

static __always_inline void pcl_repeat_add(struct xdp_md *ctx, const __u32 offset, __u16 amount)
{
	__be16 *field = (void *)(long)ctx->data + offset;

	if ((void *)(field + 1) <= (void *)(long)ctx->data_end)
		*field = bpf_htons(bpf_ntohs(*field) + amount);
}

static __always_inline void pcl_repeat_renumber(struct xdp_md *ctx)
{
	__u32 zero = 0;
	__u64 *sequence = bpf_map_lookup_elem(&pcl_repeat_sequence, &zero);
	__u64 number;

	if (!sequence)
		return;
	number = (*sequence)++;
	pcl_repeat_add(ctx, pcl_repeat_port, number);
	pcl_repeat_add(ctx, pcl_repeat_address, number >> 16);
}

SEC("xdp")
int again(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct pcl_repeat_frame *frame = bpf_map_lookup_elem(&pcl_repeat_frames, &zero);

	if (!frame || pcl_repeat_resize(ctx) || pcl_repeat_restore(ctx, frame))
		return XDP_ABORTED;
	if (pcl_repeat_port)
		pcl_repeat_renumber(ctx);
	bpf_tail_call_static(ctx, &pcl_repeat_target, 0);
	return XDP_ABORTED;
}

/* What the wrapper itself costs. */
SEC("xdp")
int nothing(struct xdp_md *ctx)
{
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
