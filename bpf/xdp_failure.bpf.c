// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Why an XDP link could not be made: the kernel tells a tracepoint and no caller. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define PCL_XDP_TEXT 128

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, char[PCL_XDP_TEXT]);
	__uint(max_entries, 1);
} pcl_xdp_text SEC(".maps");

const volatile __u32 pcl_thread = 0; /* the one that asks */

SEC("raw_tracepoint/bpf_xdp_link_attach_failed")
int xdp_attach_failed(struct bpf_raw_tracepoint_args *ctx)
{
	__u32 zero = 0;
	char *text = bpf_map_lookup_elem(&pcl_xdp_text, &zero);

	if (text && (__u32)bpf_get_current_pid_tgid() == pcl_thread)
		bpf_probe_read_kernel_str(text, PCL_XDP_TEXT, (const void *)ctx->args[0]);
	return 0;
}

char _license[] SEC("license") = "GPL";
