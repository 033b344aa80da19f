/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A packet to its backend: in a tunnel (RFC 2003, RFC 2473), or to the backend's MAC. The
 * tunnel's source address has a hash of the flow in it, so that the backend's queues and the
 * network's paths share the load.
 */
#ifndef PCL_XDP_SEND_H
#define PCL_XDP_SEND_H

#include "pcl/xdp_hop.h"
#include "pcl/xdp_icmp.h"

#undef PCL_FILE
#define PCL_FILE PCL_XDP_FILE_XDP_SEND

/* RFC 1624, eqn 3, for the one byte of the TTL. */
static __always_inline void pcl_xdp_count_down(struct iphdr *ip)
{
	__u32 check = ip->check;

	check += bpf_htons(0x0100);
	ip->check = check + (check >= 0xffff);
	ip->ttl--;
}

static __always_inline __u16 pcl_xdp_header_checksum(const struct iphdr *ip)
{
	const __u32 *words = (const void *)ip;
	__u64 sum = 0;

	for (int i = 0; i < 5; i++)
		sum += words[i];
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~pcl_xdp_fold(sum);
}

static __always_inline __u32 pcl_xdp_spread(__u32 address, __u32 ports)
{
	return ((address ^ ports) * 0x9e3779b1) ^ ports >> 16;
}

/* Room for an outer header in front of an inner one of the same size; NULL where there is none. */
static __always_inline void *pcl_xdp_prepend(struct xdp_md *ctx, const int size)
{
	struct ethhdr *eth;

	if (bpf_xdp_adjust_head(ctx, -size))
		return NULL;
	eth = pcl_xdp_data(ctx);
	if ((void *)(eth + 1) + 2 * size > pcl_xdp_end(ctx))
		return NULL;
	*eth = *(struct ethhdr *)((void *)eth + size);
	return eth + 1;
}

static __always_inline int pcl_xdp_tunnel4(struct xdp_md *ctx, const struct pcl_xdp_packet *packet,
					   const struct pcl_xdp_backend *backend)
{
	struct iphdr *outer, *inner;
	__u32 ports = (__u32)packet->flow4.sport_be << 16 | packet->flow4.dport_be;

	outer = pcl_xdp_prepend(ctx, sizeof(*outer));
	if (!outer)
		return PCL_XDP_END(PCL_XDP_DROP_WRITE);
	inner = outer + 1;
	if (inner->ttl <= 1)
		return PCL_XDP_END(PCL_XDP_DROP_TTL);
	pcl_xdp_count_down(inner);
	*(__u16 *)outer = bpf_htons(0x4500 | inner->tos);
	outer->tot_len = bpf_htons(packet->length + sizeof(*outer));
	outer->id = inner->id;
	outer->frag_off = inner->frag_off & bpf_htons(0x4000);
	*(__u16 *)&outer->ttl = bpf_htons(pcl_xdp_config.ttl << 8 | IPPROTO_IPIP);
	outer->check = 0;
	outer->saddr = (pcl_xdp_config.source4 & 0xffff) |
		       (pcl_xdp_spread(packet->flow4.src, ports) & 0xffff0000);
	outer->daddr = backend->addr.v4;
	outer->check = pcl_xdp_header_checksum(outer);
	return 0;
}

static __always_inline int pcl_xdp_tunnel6(struct xdp_md *ctx, const struct pcl_xdp_packet *packet,
					   const struct pcl_xdp_backend *backend)
{
	struct ipv6hdr *outer, *inner;
	__u32 ports = (__u32)packet->flow6.sport_be << 16 | packet->flow6.dport_be;

	outer = pcl_xdp_prepend(ctx, sizeof(*outer));
	if (!outer)
		return PCL_XDP_END(PCL_XDP_DROP_WRITE);
	inner = outer + 1;
	if (inner->hop_limit <= 1)
		return PCL_XDP_END(PCL_XDP_DROP_TTL);
	inner->hop_limit--;
	*(__u32 *)outer = *(__u32 *)inner; /* traffic class and flow label too */
	outer->payload_len = bpf_htons(packet->length);
	outer->nexthdr = IPPROTO_IPV6;
	outer->hop_limit = pcl_xdp_config.ttl;
	for (int i = 0; i < 3; i++)
		outer->saddr.in6_u.u6_addr32[i] = pcl_xdp_config.source6.words[i];
	outer->saddr.in6_u.u6_addr32[3] =
	    pcl_xdp_spread(packet->flow6.src.words[3] ^ packet->flow6.src.words[1], ports);
	__builtin_memcpy(&outer->daddr, &backend->addr, 16);
	return 0;
}

static __always_inline int pcl_xdp_tunnel(struct xdp_md *ctx, const struct pcl_xdp_packet *packet,
					  const struct pcl_xdp_backend *backend, const int family)
{
	return family == 4 ? pcl_xdp_tunnel4(ctx, packet, backend)
			   : pcl_xdp_tunnel6(ctx, packet, backend);
}

/* The action, no code: it is counted with the backend. */
static __always_inline int pcl_xdp_transmit(struct xdp_md *ctx, struct pcl_xdp_hop *hop,
					    __u32 length)
{
	struct ethhdr *eth = pcl_xdp_data(ctx);

	if ((void *)(eth + 1) > pcl_xdp_end(ctx))
		return PCL_XDP_END(PCL_XDP_DROP_WRITE);
	__builtin_memcpy(eth->h_dest, hop->mac, ETH_ALEN);
	__builtin_memcpy(eth->h_source, hop->own_mac, ETH_ALEN);
	hop->packets++;
	hop->bytes += length;
	return hop->ifindex == ctx->ingress_ifindex ? XDP_TX : bpf_redirect(hop->ifindex, 0);
}

/* Larger than the tunnel carries: the client learns of it, unless the packet may be cut. */
static __always_inline int pcl_xdp_too_big(struct xdp_md *ctx, const struct pcl_xdp_packet *packet,
					   const struct pcl_xdp_backend *backend,
					   const struct pcl_xdp_hop *hop, const int family)
{
	const struct iphdr *ip = pcl_xdp_data(ctx) + PCL_XDP_L3;
	int result;

	if (family == 6)
		return pcl_xdp_send_too_big6(ctx, hop->mtu - sizeof(struct ipv6hdr));
	if ((void *)(ip + 1) > pcl_xdp_end(ctx))
		return PCL_XDP_END(PCL_XDP_DROP_INVALID);
	if (ip->frag_off & bpf_htons(0x4000))
		return pcl_xdp_send_too_big4(ctx, hop->mtu - sizeof(struct iphdr));
	result = pcl_xdp_tunnel(ctx, packet, backend, family);
	return result ? result : PCL_XDP_END(PCL_XDP_PASS_FRAGMENT);
}

static __always_inline int pcl_xdp_send(struct xdp_md *ctx, const struct pcl_xdp_packet *packet,
					const struct pcl_xdp_target *target,
					const struct pcl_xdp_backend *backend, const int family)
{
	const __u32 header = family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	struct pcl_xdp_hop *hop;
	int way, result;

	way = pcl_xdp_find_hop(ctx, target, backend, &hop);
	if (way && PCL_XDP_REASON(way) != PCL_XDP_PASS_RESOLVE)
		return way;
	if (backend->flags & PCL_XDP_VIP_L2) {
		if (way)
			return PCL_XDP_END(PCL_XDP_DROP_RESOLVE);
		if (packet->length > hop->mtu)
			return PCL_XDP_END(PCL_XDP_DROP_TOO_BIG);
		return pcl_xdp_transmit(ctx, hop, packet->length);
	}
	if (!way && packet->length + header > hop->mtu)
		return pcl_xdp_too_big(ctx, packet, backend, hop, family);
	result = pcl_xdp_tunnel(ctx, packet, backend, family);
	if (result || way)
		return result ? result : way;
	return pcl_xdp_transmit(ctx, hop, packet->length);
}

#endif /* PCL_XDP_SEND_H */
