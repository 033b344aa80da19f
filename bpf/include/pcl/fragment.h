/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Later fragments carry no ports: they take those of the first one of their datagram. */
#ifndef PCL_FRAGMENT_H
#define PCL_FRAGMENT_H

#include "pcl/maps.h"
#include "pcl/packet.h"

#undef PCL_FILE
#define PCL_FILE PCL_FILE_FRAGMENT

static __always_inline void pcl_fragment_key(const struct pcl_packet *packet, const int family,
					     __be32 id_be, struct pcl_fragment_key *key)
{
	key->src = packet->tuple.src;
	key->dst = packet->tuple.dst;
	key->id_be = id_be;
	key->protocol = packet->tuple.protocol;
	key->family = family;
}

/* After the first fragment was allowed, so that a refused one leaves no trace. */
static __always_inline void pcl_fragment_remember(const struct pcl_packet *packet, const int family)
{
	struct pcl_fragment_value ports = {
	    .sport_be = packet->tuple.sport_be,
	    .dport_be = packet->tuple.dport_be,
	    .policy_port_be = packet->policy_port_be,
	};
	struct pcl_fragment_key key = {};

	if (!packet->first_fragment)
		return;
	pcl_fragment_key(packet, family, packet->fragment_id_be, &key);
	bpf_map_update_elem(&pcl_fragments, &key, &ports, BPF_ANY);
}

static __always_inline int pcl_fragment_find(struct pcl_packet *packet, const int family,
					     __be32 id_be)
{
	const struct pcl_fragment_value *ports;
	struct pcl_fragment_key key = {};

	pcl_fragment_key(packet, family, id_be, &key);
	ports = bpf_map_lookup_elem(&pcl_fragments, &key);
	if (!ports)
		return PCL_DROP(PCL_DROP_FRAGMENT);
	packet->tuple.sport_be = ports->sport_be;
	packet->tuple.dport_be = ports->dport_be;
	packet->policy_port_be = ports->policy_port_be;
	return PCL_OK;
}

#endif /* PCL_FRAGMENT_H */
