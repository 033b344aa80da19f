/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Direct server return: the packet that opens a connection to a backend elsewhere tells that
 * backend's node which frontend to answer from, in an IPv4 option or an IPv6 destination option
 * of the shape that Cilium uses. It is believed where the frontend is a service's that says so.
 */
#ifndef PCL_DSR_H
#define PCL_DSR_H

#include "pcl/packet.h"
#include "pcl/parse.h"
#include "pcl/rewrite.h"
#include "pcl/service.h"

#undef PCL_FILE
#define PCL_FILE PCL_FILE_DSR

#define PCL_DSR_OPTION4 0x9a /* copied into fragments, class control, number 26 */
#define PCL_DSR_OPTION6 0x1b /* who does not know it skips it */

struct pcl_dsr4 {
	__u8 type;
	__u8 length;
	__be16 port_be;
	__be32 addr;
};

struct pcl_dsr6 {
	__u8 next;
	__u8 units; /* of eight bytes beyond the first */
	__u8 type;
	__u8 length;
	union {
		__u8 addr[16];
		__u32 words[4];
	};
	__be16 port_be;
	__u16 pad;
};

static __always_inline bool pcl_dsr_tells(const struct pcl_packet *packet)
{
	return !packet->later_fragment &&
	       (packet->tuple.protocol != IPPROTO_TCP || pcl_is_syn(packet));
}

static __always_inline int pcl_dsr_insert4(struct __sk_buff *skb, __be32 addr, __be16 port_be)
{
	struct pcl_dsr4 option = {PCL_DSR_OPTION4, sizeof(option), port_be, addr};
	const __u32 check = PCL_L3_OFFSET + offsetof(struct iphdr, check);
	struct iphdr *ip = pcl_data(skb) + PCL_L3_OFFSET;
	__u32 before, after;
	long error;

	if ((void *)(ip + 1) > pcl_data_end(skb) || ip->ihl > 13)
		return PCL_DROP(PCL_DROP_WRITE);
	before = *(__u32 *)ip;
	ip->ihl += sizeof(option) / 4;
	ip->tot_len = bpf_htons(bpf_ntohs(ip->tot_len) + sizeof(option));
	after = *(__u32 *)ip;
	error = bpf_skb_adjust_room(skb, sizeof(option), BPF_ADJ_ROOM_NET, 0);
	error |= bpf_skb_store_bytes(skb, PCL_L3_OFFSET + sizeof(*ip), &option, sizeof(option), 0);
	error |= bpf_l3_csum_replace(skb, check, before, after, 4);
	error |= bpf_l3_csum_replace(
	    skb, check, 0, bpf_csum_diff(NULL, 0, (__be32 *)&option, sizeof(option), 0), 0);
	return error ? PCL_DROP(PCL_DROP_WRITE) : PCL_OK;
}

static __always_inline int pcl_dsr_insert6(struct __sk_buff *skb, const union pcl_addr *addr,
					   __be16 port_be)
{
	struct pcl_dsr6 option = {
	    .units = sizeof(option) / 8 - 1,
	    .type = PCL_DSR_OPTION6,
	    .length = sizeof(option) - 4,
	    .port_be = port_be,
	};
	struct ipv6hdr *ip = pcl_data(skb) + PCL_L3_OFFSET;
	long error;

	if ((void *)(ip + 1) > pcl_data_end(skb))
		return PCL_DROP(PCL_DROP_WRITE);
	__builtin_memcpy(option.addr, addr, 16);
	option.next = ip->nexthdr;
	ip->nexthdr = IPPROTO_DSTOPTS;
	ip->payload_len = bpf_htons(bpf_ntohs(ip->payload_len) + sizeof(option));
	error = bpf_skb_adjust_room(skb, sizeof(option), BPF_ADJ_ROOM_NET, 0);
	error |= bpf_skb_store_bytes(skb, PCL_L3_OFFSET + sizeof(*ip), &option, sizeof(option), 0);
	return error ? PCL_DROP(PCL_DROP_WRITE) : PCL_OK;
}

/* The frontend, into a packet whose ends are translated already. */
__noinline int pcl_dsr_insert(struct __sk_buff *skb, const struct pcl_ct_entry *entry, __u32 family)
{
	if (!entry)
		return PCL_DROP(PCL_DROP_WRITE);
	return family == 4 ? pcl_dsr_insert4(skb, entry->frontend.v4, entry->frontend_port_be)
			   : pcl_dsr_insert6(skb, &entry->frontend, entry->frontend_port_be);
}

/* The option stands first: who inserts it puts it there. */
static __always_inline bool pcl_dsr_read(struct __sk_buff *skb, const int family,
					 struct pcl_service_key *frontend)
{
	const struct ipv6hdr *ip6 = pcl_data(skb) + PCL_L3_OFFSET;
	const struct iphdr *ip4 = pcl_data(skb) + PCL_L3_OFFSET;

	if (family == 4) {
		const struct pcl_dsr4 *option = (void *)(ip4 + 1);

		if ((void *)(option + 1) > pcl_data_end(skb) || ip4->ihl < 7 ||
		    option->type != PCL_DSR_OPTION4 || option->length != sizeof(*option))
			return false;
		frontend->addr.v4 = option->addr;
		frontend->port_be = option->port_be;
	} else {
		const struct pcl_dsr6 *option = (void *)(ip6 + 1);

		if ((void *)(option + 1) > pcl_data_end(skb) || ip6->nexthdr != IPPROTO_DSTOPTS ||
		    option->type != PCL_DSR_OPTION6 || option->length != sizeof(*option) - 4)
			return false;
		__builtin_memcpy(&frontend->addr, option->addr, 16);
		frontend->port_be = option->port_be;
	}
	return true;
}

static __always_inline bool pcl_dsr_is_meant(__u32 flags, __u8 protocol)
{
	return flags & (protocol == IPPROTO_TCP ? PCL_SERVICE_DSR_TCP : PCL_SERVICE_DSR_UDP);
}

/*
 * Whether a packet for an endpoint here comes by way of another node's frontend, which is then
 * in the entry. A node port's frontend is that node's address: here it stands on every address.
 */
static __always_inline bool pcl_dsr_accept(struct __sk_buff *skb, struct pcl_packet *packet,
					   const int family, struct pcl_ct_entry *entry)
{
	struct pcl_service_key key = {.family = family, .protocol = packet->tuple.protocol};
	const struct pcl_service_value *service;

	if (!pcl_service_protocol(key.protocol) || !pcl_dsr_read(skb, family, &key))
		return false;
	entry->frontend = key.addr;
	entry->frontend_port_be = key.port_be;
	service = bpf_map_lookup_elem(&pcl_services, &key);
	if (!service) {
		__builtin_memset(&key.addr, 0, sizeof(key.addr));
		service = bpf_map_lookup_elem(&pcl_services, &key);
	}
	if (!service || !pcl_dsr_is_meant(service->flags, key.protocol))
		return false;
	packet->service = service->id;
	return true;
}

#endif /* PCL_DSR_H */
