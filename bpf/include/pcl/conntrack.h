/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One entry per connection under its canonical tuple, so that both directions find it with
 * one lookup. It holds the verdict with the epochs that it was made under.
 */
#ifndef PCL_CONNTRACK_H
#define PCL_CONNTRACK_H

#include <linux/in.h>

#include "pcl/config.h"
#include "pcl/maps.h"
#include "pcl/packet.h"
#include "pcl/scratch.h"
#include "pcl/trace.h"

#undef PCL_FILE
#define PCL_FILE PCL_FILE_CONNTRACK

#define PCL_TCP_FIN 0x01
#define PCL_TCP_RST 0x04

union pcl_ct_key {
	struct pcl_ct4_key v4;
	struct pcl_ct6_key v6;
};

/* Any total order will do, as long as it is the same in both directions. */
static __always_inline bool pcl_source_is_low(const struct pcl_tuple *tuple, const int family)
{
	if (family == 4) {
		__u64 src = (__u64)tuple->src.v4 << 16 | tuple->sport_be;
		__u64 dst = (__u64)tuple->dst.v4 << 16 | tuple->dport_be;

		return src <= dst;
	}
	if (tuple->src.quads[0] != tuple->dst.quads[0])
		return tuple->src.quads[0] < tuple->dst.quads[0];
	if (tuple->src.quads[1] != tuple->dst.quads[1])
		return tuple->src.quads[1] < tuple->dst.quads[1];
	return tuple->sport_be <= tuple->dport_be;
}

/* Fills the key and returns whether the packet comes from its lower end. */
static __always_inline bool pcl_ct_key(const struct pcl_tuple *tuple, const int family,
				       union pcl_ct_key *key)
{
	bool from_low = pcl_source_is_low(tuple, family);

	__builtin_memset(key, 0, family == 4 ? sizeof(key->v4) : sizeof(key->v6));
	if (family == 4) {
		key->v4.low = from_low ? tuple->src.v4 : tuple->dst.v4;
		key->v4.high = from_low ? tuple->dst.v4 : tuple->src.v4;
		key->v4.low_port_be = from_low ? tuple->sport_be : tuple->dport_be;
		key->v4.high_port_be = from_low ? tuple->dport_be : tuple->sport_be;
		key->v4.protocol = tuple->protocol;
		return from_low;
	}
	key->v6.low = from_low ? tuple->src : tuple->dst;
	key->v6.high = from_low ? tuple->dst : tuple->src;
	key->v6.low_port_be = from_low ? tuple->sport_be : tuple->dport_be;
	key->v6.high_port_be = from_low ? tuple->dport_be : tuple->sport_be;
	key->v6.protocol = tuple->protocol;
	return from_low;
}

static __always_inline void *pcl_ct_map(const int family)
{
	return family == 4 ? (void *)&pcl_ct4 : (void *)&pcl_ct6;
}

/* The entry of a tuple; from_opener: whether the tuple's source opened the connection. */
static __always_inline struct pcl_ct_entry *pcl_ct_find(const struct pcl_tuple *tuple,
							const int family, bool *from_opener)
{
	struct pcl_ct_entry *entry;
	union pcl_ct_key key;
	bool from_low;

	from_low = pcl_ct_key(tuple, family, &key);
	entry = bpf_map_lookup_elem(pcl_ct_map(family), &key);
	if (entry)
		*from_opener = from_low == !!(entry->flags & PCL_CT_OPENER_IS_LOW);
	return entry;
}

static __always_inline long pcl_ct_write(const struct pcl_tuple *tuple, const int family,
					 struct pcl_ct_entry *entry, __u64 flags)
{
	union pcl_ct_key key;

	if (pcl_ct_key(tuple, family, &key))
		entry->flags |= PCL_CT_OPENER_IS_LOW;
	else
		entry->flags &= ~PCL_CT_OPENER_IS_LOW;
	entry->last_seen = bpf_jiffies64();
	return bpf_map_update_elem(pcl_ct_map(family), &key, entry, flags);
}

/*
 * The scratch's entry, under a tuple whose source becomes the opener.
 * verifier: 6.1 writes no value to a map that came to a function as an argument.
 */
__noinline int pcl_ct_create(const struct pcl_tuple *tuple, __u32 family)
{
	struct pcl_scratch *scratch = pcl_scratch();
	long error;

	if (!tuple || !scratch)
		return PCL_DROP(PCL_DROP_CT_CREATE);
	error = family == 4 ? pcl_ct_write(tuple, 4, &scratch->entry, BPF_ANY)
			    : pcl_ct_write(tuple, 6, &scratch->entry, BPF_ANY);
	pcl_trace_step(PCL_STEP_CT_CREATE, error, 0, 0, 0);
	return error ? PCL_DROP(PCL_DROP_CT_CREATE) : PCL_OK;
}

static __always_inline bool pcl_ct_closing(__u32 flags)
{
	const __u32 both = PCL_CT_CLOSING_OPENER | PCL_CT_CLOSING_RESPONDER;

	return (flags & both) == both;
}

static __always_inline __u32 pcl_ct_timeout(const struct pcl_ct_entry *entry, __u8 protocol)
{
	if (protocol != IPPROTO_TCP)
		return pcl_config.other_timeout;
	if (pcl_ct_closing(entry->flags))
		return pcl_config.closing_timeout;
	return entry->flags & PCL_CT_REPLIED ? pcl_config.tcp_timeout : pcl_config.syn_timeout;
}

static __always_inline bool pcl_ct_expired(const struct pcl_ct_entry *entry, __u8 protocol)
{
	return (__u32)bpf_jiffies64() - entry->last_seen > pcl_ct_timeout(entry, protocol);
}

/* Written only when it changes: an entry is shared by the CPUs of both directions. */
static __always_inline void pcl_ct_touch(struct pcl_ct_entry *entry, __u8 tcp_flags,
					 bool from_opener)
{
	__u32 now = bpf_jiffies64(), flags = entry->flags, set = 0;

	if (entry->last_seen != now)
		entry->last_seen = now;
	if (!from_opener)
		set = PCL_CT_REPLIED;
	if (tcp_flags & PCL_TCP_RST)
		set |= PCL_CT_CLOSING_OPENER | PCL_CT_CLOSING_RESPONDER;
	else if (tcp_flags & PCL_TCP_FIN)
		set |= from_opener ? PCL_CT_CLOSING_OPENER : PCL_CT_CLOSING_RESPONDER;
	if ((flags & set) != set)
		__sync_fetch_and_or(&entry->flags, set);
}

#endif /* PCL_CONNTRACK_H */
