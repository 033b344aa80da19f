/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ARP and NDP. The endpoint's gateway answers for every address but the endpoint's own, and
 * an endpoint can claim its own addresses only.
 */
#ifndef PCL_NEIGHBOUR_H
#define PCL_NEIGHBOUR_H

#include <linux/if_ether.h>

#include "pcl/connection.h"
#include "pcl/event.h"

#undef PCL_FILE
#define PCL_FILE PCL_FILE_NEIGHBOUR

struct pcl_arp {
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_length;
	__u8 protocol_length;
	__be16 operation;
	__u8 sender_mac[6];
	__u8 sender_ip[4];
	__u8 target_mac[6];
	__u8 target_ip[4];
};

struct pcl_arp_frame {
	struct ethhdr eth;
	struct pcl_arp arp;
};

struct pcl_ndp {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be32 flags;
	union pcl_addr target;
	__u8 option_type;
	__u8 option_length;
	__u8 option_mac[6];
};

struct pcl_ndp_frame {
	struct ethhdr eth;
	struct ipv6hdr ip;
	struct pcl_ndp ndp;
} __attribute__((packed));

#define PCL_NDP_ROUTER_SOLICITATION 133
#define PCL_NDP_SOLICITATION 135
#define PCL_NDP_ADVERTISEMENT 136
#define PCL_NDP_REDIRECT 137
#define PCL_NDP_TARGET_MAC 2
#define PCL_NDP_SOLICITED_OVERRIDE bpf_htonl(0x60000000)

static __always_inline __be32 pcl_word(const __u8 *bytes)
{
	__be32 word;

	__builtin_memcpy(&word, bytes, 4);
	return word;
}

static __always_inline void pcl_store_word(__u8 *bytes, __be32 word)
{
	__builtin_memcpy(bytes, &word, 4);
}

static __always_inline int pcl_arp_reply(struct __sk_buff *skb, struct pcl_arp_frame *frame,
					 const struct pcl_endpoint *endpoint)
{
	__be32 asked = pcl_word(frame->arp.target_ip);

	pcl_mac_copy(frame->eth.h_dest, endpoint->mac);
	pcl_mac_copy(frame->eth.h_source, endpoint->host_mac);
	frame->arp.operation = bpf_htons(ARPOP_REPLY);
	pcl_mac_copy(frame->arp.target_mac, endpoint->mac);
	pcl_store_word(frame->arp.target_ip, pcl_word(frame->arp.sender_ip));
	pcl_mac_copy(frame->arp.sender_mac, endpoint->host_mac);
	pcl_store_word(frame->arp.sender_ip, asked);
	bpf_redirect(skb->ifindex, 0);
	return PCL_ANSWERED;
}

__noinline int pcl_handle_arp(struct __sk_buff *skb)
{
	const struct pcl_endpoint *endpoint;
	__u32 ifindex = skb->ifindex;
	struct pcl_arp_frame *frame;
	__be32 sender;
	int result;

	endpoint = bpf_map_lookup_elem(&pcl_endpoints, &ifindex);
	if (!endpoint)
		return PCL_DROP(PCL_DROP_ENDPOINT_UNKNOWN);
	result = pcl_pull(skb, sizeof(*frame));
	if (result)
		return result;
	frame = pcl_data(skb);
	if ((void *)(frame + 1) > pcl_data_end(skb))
		return PCL_DROP(PCL_DROP_INVALID);
	if (frame->arp.hardware != bpf_htons(ARPHRD_ETHER) ||
	    frame->arp.protocol != bpf_htons(ETH_P_IP) || frame->arp.hardware_length != 6 ||
	    frame->arp.protocol_length != 4)
		return PCL_DROP(PCL_DROP_INVALID);
	sender = pcl_word(frame->arp.sender_ip);
	if (!pcl_mac_equal(frame->eth.h_source, endpoint->mac) ||
	    !pcl_mac_equal(frame->arp.sender_mac, endpoint->mac))
		return PCL_DROP(PCL_DROP_SOURCE_MAC);
	if (sender && sender != endpoint->ipv4)
		return PCL_DROP(PCL_DROP_NEIGHBOUR_SPOOF);
	if (frame->arp.operation == bpf_htons(ARPOP_REPLY))
		return sender ? PCL_PASS : PCL_DROP(PCL_DROP_NEIGHBOUR_SPOOF);
	if (frame->arp.operation != bpf_htons(ARPOP_REQUEST))
		return PCL_DROP(PCL_DROP_INVALID);
	/* A probe (RFC 5227) or an announcement: nobody else has the address. */
	if (!sender || pcl_word(frame->arp.target_ip) == endpoint->ipv4)
		return PCL_DROP(PCL_DROP_NEIGHBOUR_NOISE);
	return pcl_arp_reply(skb, frame, endpoint);
}

static __always_inline bool pcl_is_link_local(const union pcl_addr *addr)
{
	return addr->bytes[0] == 0xfe && (addr->bytes[1] & 0xc0) == 0x80;
}

static __always_inline bool pcl_is_zero(const union pcl_addr *addr)
{
	return !(addr->quads[0] | addr->quads[1]);
}

static __always_inline bool pcl_may_claim(const struct pcl_endpoint *endpoint,
					  const union pcl_addr *addr)
{
	return pcl_is_link_local(addr) || pcl_addr_equal(addr, &endpoint->ipv6, 6);
}

/* A neighbour solicitation becomes its own answer (RFC 4861, 4.4), checksum made anew. */
static __always_inline int pcl_ndp_reply(struct __sk_buff *skb, struct pcl_ndp_frame *frame,
					 const struct pcl_endpoint *endpoint)
{
	struct {
		union pcl_addr src;
		union pcl_addr dst;
		__be32 length;
		__be32 next;
		struct pcl_ndp ndp;
	} sum = {};

	__builtin_memcpy(&sum.dst, &frame->ip.saddr, 16);
	__builtin_memcpy(&sum.src, &frame->ndp.target, 16);
	sum.length = bpf_htonl(sizeof(frame->ndp));
	sum.next = bpf_htonl(IPPROTO_ICMPV6);
	sum.ndp.type = PCL_NDP_ADVERTISEMENT;
	sum.ndp.flags = PCL_NDP_SOLICITED_OVERRIDE;
	sum.ndp.target = sum.src;
	sum.ndp.option_type = PCL_NDP_TARGET_MAC;
	sum.ndp.option_length = 1;
	__builtin_memcpy(sum.ndp.option_mac, endpoint->host_mac, 6);
	sum.ndp.checksum = ~pcl_fold(bpf_csum_diff(NULL, 0, (__be32 *)&sum, sizeof(sum), 0));
	pcl_mac_copy(frame->eth.h_dest, endpoint->mac);
	pcl_mac_copy(frame->eth.h_source, endpoint->host_mac);
	__builtin_memcpy(&frame->ip.saddr, &sum.src, 16);
	__builtin_memcpy(&frame->ip.daddr, &sum.dst, 16);
	frame->ip.hop_limit = 255;
	frame->ndp = sum.ndp;
	bpf_redirect(skb->ifindex, 0);
	return PCL_ANSWERED;
}

static __always_inline int pcl_handle_solicitation(struct __sk_buff *skb,
						   struct pcl_ndp_frame *frame,
						   const struct pcl_endpoint *endpoint)
{
	union pcl_addr source, target;

	__builtin_memcpy(&source, &frame->ip.saddr, 16);
	target = frame->ndp.target;
	/* Duplicate address detection (RFC 4862): nobody else has the address. */
	if (pcl_is_zero(&source))
		return PCL_DROP(PCL_DROP_NEIGHBOUR_NOISE);
	if (!pcl_may_claim(endpoint, &source))
		return PCL_DROP(PCL_DROP_NEIGHBOUR_SPOOF);
	if (pcl_addr_equal(&target, &endpoint->ipv6, 6))
		return PCL_DROP(PCL_DROP_NEIGHBOUR_NOISE);
	if (frame->ip.payload_len != bpf_htons(sizeof(frame->ndp)))
		return PCL_DROP(PCL_DROP_INVALID);
	return pcl_ndp_reply(skb, frame, endpoint);
}

static __always_inline int pcl_handle_advertisement(const struct pcl_ndp_frame *frame,
						    const struct pcl_endpoint *endpoint)
{
	union pcl_addr source, target;

	__builtin_memcpy(&source, &frame->ip.saddr, 16);
	target = frame->ndp.target;
	if (!pcl_may_claim(endpoint, &source) || !pcl_may_claim(endpoint, &target))
		return PCL_DROP(PCL_DROP_NEIGHBOUR_SPOOF);
	return PCL_PASS;
}

/* PCL_OK where the packet is no NDP at all. */
__noinline int pcl_handle_ndp(struct __sk_buff *skb)
{
	const struct pcl_endpoint *endpoint;
	__u32 ifindex = skb->ifindex;
	struct pcl_ndp_frame *frame;

	if (skb->len < sizeof(struct ethhdr) + sizeof(struct ipv6hdr) + 8)
		return PCL_OK;
	/* RFC 4861 wants these whole and with hop limit 255; too short is none of them. */
	if (skb->len >= sizeof(*frame) && pcl_pull(skb, sizeof(*frame)))
		return PCL_DROP(PCL_DROP_INVALID);
	frame = pcl_data(skb);
	if ((void *)frame + sizeof(struct ethhdr) + sizeof(struct ipv6hdr) + 8 > pcl_data_end(skb))
		return PCL_OK;
	if (frame->ip.nexthdr != IPPROTO_ICMPV6 || frame->ndp.type < PCL_NDP_ROUTER_SOLICITATION ||
	    frame->ndp.type > PCL_NDP_REDIRECT)
		return PCL_OK;
	endpoint = bpf_map_lookup_elem(&pcl_endpoints, &ifindex);
	if (!endpoint)
		return PCL_DROP(PCL_DROP_ENDPOINT_UNKNOWN);
	if (!pcl_mac_equal(frame->eth.h_source, endpoint->mac))
		return PCL_DROP(PCL_DROP_SOURCE_MAC);
	if (frame->ndp.type == PCL_NDP_ROUTER_SOLICITATION)
		return PCL_DROP(PCL_DROP_NEIGHBOUR_NOISE);
	if ((void *)frame + sizeof(struct ethhdr) + sizeof(struct ipv6hdr) + 24 > pcl_data_end(skb))
		return PCL_DROP(PCL_DROP_INVALID);
	if (frame->ip.hop_limit != 255)
		return PCL_DROP(PCL_DROP_INVALID);
	if (frame->ndp.type == PCL_NDP_ADVERTISEMENT)
		return pcl_handle_advertisement(frame, endpoint);
	if (frame->ndp.type != PCL_NDP_SOLICITATION)
		return PCL_DROP(PCL_DROP_ICMPV6);
	if ((void *)(frame + 1) > pcl_data_end(skb))
		return PCL_DROP(PCL_DROP_NEIGHBOUR_NOISE);
	return pcl_handle_solicitation(skb, frame, endpoint);
}

#endif /* PCL_NEIGHBOUR_H */
