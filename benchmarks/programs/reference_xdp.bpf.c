/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The reference H: what an XDP load balancer costs at the least on a known flow. Parse IPv4 and
 * TCP, one hash hit for the service, one LRU hit for the connection, rewrite the destination with
 * both checksums, MACs from the connection, a counter, back out.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct bench_service_key {
	__be32 address;
	__be16 port_be;
	__u16 protocol;
};

struct bench_flow_key {
	__be32 saddr;
	__be32 daddr;
	__be16 sport_be;
	__be16 dport_be;
	__u32 protocol;
};

struct bench_flow {
	__be32 address;
	__be16 port_be;
	__u8 destination_mac[6];
	__u8 source_mac[6];
	__u8 pad[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct bench_service_key);
	__type(value, struct bench_flow);
	__uint(max_entries, 16384);
} bench_services SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct bench_flow_key);
	__type(value, struct bench_flow);
	__uint(max_entries, 262144);
} bench_flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 1);
} bench_packets SEC(".maps");

static __always_inline void replace(__sum16 *check, __be32 from, __be32 to)
{
	__u64 sum = (__u16)~*check;

	sum += (~from & 0xffff) + (~from >> 16) + (to & 0xffff) + (to >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	*check = ~sum;
}

static __always_inline int translate(struct ethhdr *eth, struct iphdr *ip, struct tcphdr *tcp,
				     const struct bench_flow *flow)
{
	__u32 zero = 0;
	__u64 *packets = bpf_map_lookup_elem(&bench_packets, &zero);

	replace(&ip->check, ip->daddr, flow->address);
	replace(&tcp->check, ip->daddr, flow->address);
	replace(&tcp->check, tcp->dest, flow->port_be);
	ip->daddr = flow->address;
	tcp->dest = flow->port_be;
	__builtin_memcpy(eth->h_dest, flow->destination_mac, ETH_ALEN);
	__builtin_memcpy(eth->h_source, flow->source_mac, ETH_ALEN);
	if (packets)
		++*packets;
	return XDP_TX;
}

SEC("xdp")
int reference(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);
	struct tcphdr *tcp = (void *)(ip + 1);
	struct bench_service_key service = {.protocol = IPPROTO_TCP};
	struct bench_flow_key key = {.protocol = IPPROTO_TCP};
	struct bench_flow *flow, *first;

	if ((void *)(tcp + 1) > end)
		return XDP_DROP;
	if (eth->h_proto != bpf_htons(ETH_P_IP) || ip->ihl != 5 || ip->protocol != IPPROTO_TCP)
		return XDP_PASS;
	service.address = ip->daddr;
	service.port_be = tcp->dest;
	first = bpf_map_lookup_elem(&bench_services, &service);
	if (!first)
		return XDP_PASS;
	key.saddr = ip->saddr;
	key.daddr = ip->daddr;
	key.sport_be = tcp->source;
	key.dport_be = tcp->dest;
	flow = bpf_map_lookup_elem(&bench_flows, &key);
	if (!flow) {
		bpf_map_update_elem(&bench_flows, &key, first, BPF_ANY);
		flow = first;
	}
	return translate(eth, ip, tcp, flow);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
