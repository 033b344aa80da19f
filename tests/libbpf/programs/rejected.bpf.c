// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Reads the packet without asking where it ends: the verifier must refuse it. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("tc")
int careless(struct __sk_buff *skb)
{
	__u8 *data = (void *)(long)skb->data;

	return data[12];
}

char _license[] SEC("license") = "GPL";
