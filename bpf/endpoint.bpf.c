// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The two programs on the host's side of every endpoint's device:
 *   from_endpoint  rx: what the endpoint sends
 *   to_endpoint    tx: what the host's stack sends to the endpoint
 * Between two local endpoints only the first one runs: it decides for both.
 *
 * And the two on each device that faces other nodes and the world:
 *   from_device    rx: clients of services, and answers to what left under the node's address
 *   to_device      tx: answers of the host itself as a service's backend
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "pcl/config.h"
#include "pcl/connection.h"
#include "pcl/device.h"
#include "pcl/finish.h"
#include "pcl/icmp.h"
#include "pcl/maps.h"
#include "pcl/neighbour.h"
#include "pcl/packet.h"
#include "pcl/parse.h"
#include "pcl/trace.h"

#undef PCL_FILE
#define PCL_FILE PCL_FILE_ENDPOINT

static __always_inline int pcl_handle_ip(struct __sk_buff *skb, struct pcl_packet *packet,
					 const enum pcl_hook hook, const int family)
{
	int result;

	if (!(family == 4 ? pcl_config.ipv4 : pcl_config.ipv6))
		return PCL_DROP(PCL_DROP_L3_PROTOCOL);
	if (family == 6 && hook == PCL_HOOK_RX) {
		result = pcl_handle_ndp(skb);
		if (result)
			return result;
	}
	result = pcl_parse(skb, packet, family);
	pcl_trace_at(PCL_STEP_PARSE, packet->tuple.protocol, bpf_ntohs(packet->tuple.sport_be),
		     bpf_ntohs(packet->policy_port_be), result < 0, &packet->tuple.dst);
	if (result)
		return result;
	if (packet->icmp_error)
		return PCL_SLOW_CALL(pcl_icmp_error, hook, family, skb, packet);
	return pcl_connection(skb, packet, hook, family);
}

static __always_inline int pcl_handle(struct __sk_buff *skb, const enum pcl_hook hook,
				      const int family)
{
	struct pcl_packet packet = {};
	int outcome = pcl_handle_ip(skb, &packet, hook, family);

	return pcl_finish(skb, &packet, hook, family, outcome);
}

static __always_inline int pcl_other(struct __sk_buff *skb, const enum pcl_hook hook, int outcome)
{
	struct pcl_packet packet = {};

	return pcl_finish(skb, &packet, hook, 0, outcome);
}

SEC("tc")
int from_endpoint(struct __sk_buff *skb)
{
	if (skb->vlan_present)
		return pcl_other(skb, PCL_HOOK_RX, PCL_DROP(PCL_DROP_VLAN));
	switch (skb->protocol) {
	case bpf_htons(ETH_P_IP):
		return pcl_handle(skb, PCL_HOOK_RX, 4);
	case bpf_htons(ETH_P_IPV6):
		return pcl_handle(skb, PCL_HOOK_RX, 6);
	case bpf_htons(ETH_P_ARP):
		return pcl_other(skb, PCL_HOOK_RX, pcl_handle_arp(skb));
	case bpf_htons(ETH_P_8021Q):
	case bpf_htons(ETH_P_8021AD):
		return pcl_other(skb, PCL_HOOK_RX, PCL_DROP(PCL_DROP_VLAN));
	default:
		return pcl_other(skb, PCL_HOOK_RX, PCL_DROP(PCL_DROP_L3_PROTOCOL));
	}
}

/* RFC 4861 section 7.1: with all its hops, so that it was not forwarded, and whole. */
static __always_inline bool pcl_is_host_ndp(struct __sk_buff *skb)
{
	struct pcl_ndp_frame *frame = pcl_data(skb);

	if ((void *)frame + sizeof(struct ethhdr) + sizeof(struct ipv6hdr) + 1 > pcl_data_end(skb))
		return false;
	if (frame->ip.hop_limit != 255 ||
	    sizeof(struct ethhdr) + sizeof(struct ipv6hdr) + bpf_ntohs(frame->ip.payload_len) >
		skb->len)
		return false;
	return frame->ip.nexthdr == IPPROTO_ICMPV6 &&
	       frame->ndp.type >= PCL_NDP_ROUTER_SOLICITATION &&
	       frame->ndp.type <= PCL_NDP_REDIRECT;
}

/* The host's own ARP and NDP pass: it is the endpoint's gateway. */
SEC("tc")
int to_endpoint(struct __sk_buff *skb)
{
	switch (skb->protocol) {
	case bpf_htons(ETH_P_IP):
		return pcl_handle(skb, PCL_HOOK_TX, 4);
	case bpf_htons(ETH_P_IPV6):
		if (pcl_is_host_ndp(skb))
			return pcl_other(skb, PCL_HOOK_TX, PCL_PASS);
		return pcl_handle(skb, PCL_HOOK_TX, 6);
	case bpf_htons(ETH_P_ARP):
		return pcl_other(skb, PCL_HOOK_TX, PCL_PASS);
	default:
		return pcl_other(skb, PCL_HOOK_TX, PCL_DROP(PCL_DROP_L3_PROTOCOL));
	}
}

SEC("tc")
int from_device(struct __sk_buff *skb)
{
	switch (skb->vlan_present ? 0 : skb->protocol) {
	case bpf_htons(ETH_P_IP):
		return pcl_from_device(skb, 4);
	case bpf_htons(ETH_P_IPV6):
		return pcl_from_device(skb, 6);
	default:
		return TC_ACT_UNSPEC;
	}
}

/* What the node only forwards has been dealt with where it came in. */
SEC("tc")
int to_device(struct __sk_buff *skb)
{
	if (skb->ingress_ifindex || skb->vlan_present)
		return TC_ACT_UNSPEC;
	switch (skb->protocol) {
	case bpf_htons(ETH_P_IP):
		return pcl_to_device(skb, 4);
	case bpf_htons(ETH_P_IPV6):
		return pcl_to_device(skb, 6);
	default:
		return TC_ACT_UNSPEC;
	}
}

char _license[] SEC("license") = "Dual BSD/GPL";
