/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A port of the node for a source that leaves under the node's address. That no two live
 * connections to one remote end share a port is proved by the back entry: it is created, never
 * overwritten. Mostly a random port is free; where few are, a bitmap of the remote end tells
 * which are worth a try, so that the search costs much the same up to the last port.
 */
#ifndef PCL_NAT_H
#define PCL_NAT_H

#include "pcl/conntrack.h"
#include "pcl/maps.h"
#include "pcl/parse.h"
#include "pcl/route.h"
#include "pcl/scratch.h"

#undef PCL_FILE
#define PCL_FILE PCL_FILE_NAT

#define PCL_NAT_GUESSES 4
#define PCL_NAT_WORDS (PCL_NAT_PORTS / 64)
#define PCL_NAT_REVIEWS 4 /* words of the bitmap whose ports are looked up, each 64 */
#define PCL_NAT_TRIES 8

/* Whether endpoints reach an address under their own. */
static __always_inline bool pcl_is_unmasked(const union pcl_addr *addr, const int family)
{
	struct pcl_ipcache_key key = {.family = family};

	key.prefixlen = PCL_IPCACHE_STATIC_BITS + (family == 4 ? 32 : 128);
	if (family == 4)
		key.addr.v4 = addr->v4;
	else
		key.addr = *addr;
	return bpf_map_lookup_elem(&pcl_unmasked, &key);
}

/*
 * The node's address towards a remote end. PCL_UNKNOWN: the way there is by a device that is none
 * of ours, or by one without an address of the family.
 */
static __always_inline int pcl_nat_source(struct __sk_buff *skb, const union pcl_addr *from,
					  const union pcl_addr *to, __u8 protocol, const int family,
					  union pcl_addr *source)
{
	struct pcl_way *way = pcl_way();
	const struct pcl_device *device;
	__u32 ifindex;

	if (!way || pcl_find_way(skb, from, to, protocol, 0, family, way))
		return PCL_DROP(PCL_DROP_NO_ROUTE);
	ifindex = way->fib.ifindex;
	device = bpf_map_lookup_elem(&pcl_devices, &ifindex);
	if (!device)
		return PCL_UNKNOWN;
	__builtin_memset(source, 0, sizeof(*source));
	if (family == 4)
		source->v4 = device->ipv4;
	else
		*source = device->ipv6;
	return source->quads[0] | source->quads[1] ? PCL_OK : PCL_UNKNOWN;
}

static __always_inline void pcl_nat_set_port(struct pcl_tuple *tuple, __u32 index)
{
	tuple->sport_be = bpf_htons(pcl_config.nat_first + index);
	if (pcl_is_icmp(tuple->protocol))
		tuple->dport_be = tuple->sport_be;
}

static __always_inline bool pcl_nat_holds(const struct pcl_tuple *tuple, __u32 family)
{
	const struct pcl_ct_entry *holder;
	bool from_opener;

	holder =
	    family == 4 ? pcl_ct_find(tuple, 4, &from_opener) : pcl_ct_find(tuple, 6, &from_opener);
	return holder && !pcl_ct_expired(holder, tuple->protocol);
}

/* 1: the back entry stands under this port, for no live connection had it. */
__noinline int pcl_nat_claim(const struct pcl_tuple *tuple, __u32 family)
{
	struct pcl_scratch *scratch = pcl_scratch();

	if (!tuple || !scratch)
		return 0;
	if (!(family == 4 ? pcl_ct_write(tuple, 4, &scratch->entry, BPF_NOEXIST)
			  : pcl_ct_write(tuple, 6, &scratch->entry, BPF_NOEXIST)))
		return 1;
	if (pcl_nat_holds(tuple, family))
		return 0;
	return !(family == 4 ? pcl_ct_write(tuple, 4, &scratch->entry, BPF_ANY)
			     : pcl_ct_write(tuple, 6, &scratch->entry, BPF_ANY));
}

/* 1: a live connection has this port. */
__noinline int pcl_nat_is_taken(const struct pcl_tuple *tuple, __u32 index, __u32 family)
{
	struct pcl_tuple probe;

	if (!tuple)
		return 0;
	probe = *tuple;
	pcl_nat_set_port(&probe, index);
	return pcl_nat_holds(&probe, family);
}

static __always_inline struct pcl_nat_ports *pcl_nat_remote(const struct pcl_tuple *tuple,
							    const int family)
{
	struct pcl_nat_key key = {
	    .addr = tuple->dst,
	    .port_be = pcl_is_icmp(tuple->protocol) ? 0 : tuple->dport_be,
	    .protocol = tuple->protocol,
	    .family = family,
	};
	struct pcl_nat_ports *ports = bpf_map_lookup_elem(&pcl_nat_remotes, &key);
	__u32 zero = 0;

	if (ports)
		return ports;
	ports = bpf_map_lookup_elem(&pcl_nat_empty, &zero);
	if (!ports || bpf_map_update_elem(&pcl_nat_remotes, &key, ports, BPF_NOEXIST))
		return NULL;
	return bpf_map_lookup_elem(&pcl_nat_remotes, &key);
}

static __always_inline __u32 pcl_lowest_bit(__u64 word)
{
	__u32 bit = 0;

	for (int step = 32; step; step >>= 1) {
		if (!(word & ((1ULL << step) - 1))) {
			word >>= step;
			bit += step;
		}
	}
	return bit;
}

/* Bits of a word that stand for ports at all. */
static __always_inline __u64 pcl_nat_valid(__u32 word)
{
	__u32 left = pcl_config.nat_count - word * 64;

	return left >= 64 ? ~0ULL : (1ULL << left) - 1;
}

static __always_inline __u32 pcl_nat_words(void)
{
	return (pcl_config.nat_count + 63) / 64;
}

/* Looks up all ports of one word: those that no live connection has are free again. */
static __always_inline int pcl_nat_review(struct pcl_nat_ports *ports,
					  const struct pcl_tuple *tuple, __u32 word, __u32 family)
{
	__u64 taken = 0;

	if (!ports || !tuple || word >= PCL_NAT_WORDS)
		return 0;
	for (__u32 bit = 0; bit < 64; bit++)
		taken |= (__u64) !!pcl_nat_is_taken(tuple, word * 64 + bit, family) << bit;
	ports->taken[word] = taken;
	return 0;
}

struct pcl_nat_scan {
	const struct pcl_nat_ports *ports;
	__u32 word;
	bool found;
};

static long pcl_nat_scan_word(__u32 index, void *context)
{
	struct pcl_nat_scan *scan = context;
	__u32 word = scan->word + 1;

	if (!index)
		word = scan->word;
	if (word >= pcl_nat_words() || word >= PCL_NAT_WORDS)
		word = 0;
	scan->word = word;
	scan->found = ~scan->ports->taken[word] & pcl_nat_valid(word);
	return scan->found ? 1 : 0;
}

/* The first word from `next` with a bit that is free, or PCL_NAT_WORDS. */
static __always_inline __u32 pcl_nat_find_word(const struct pcl_nat_ports *ports)
{
	struct pcl_nat_scan scan = {.ports = ports, .word = ports->next};

	bpf_loop(pcl_nat_words(), pcl_nat_scan_word, &scan, 0);
	return scan.found ? scan.word : PCL_NAT_WORDS;
}

/* One try for a port towards a remote end. */
struct pcl_nat_try {
	struct pcl_nat_ports *ports;
	struct pcl_tuple *tuple;
	__u32 family;
	__u32 reviews;
	bool done;
};

/* A word without a free bit, or with one that was not: its ports are looked up, if not too many. */
static __always_inline long pcl_nat_learn(struct pcl_nat_try *try, __u32 word)
{
	if (word >= pcl_nat_words() || word >= PCL_NAT_WORDS)
		word = 0;
	try->ports->next = word;
	if (++try->reviews > PCL_NAT_REVIEWS)
		return 1;
	pcl_nat_review(try->ports, try->tuple, word, try->family);
	return 0;
}

static long pcl_nat_try_one(__u32 index, void *context)
{
	struct pcl_nat_try *try = context;
	struct pcl_nat_ports *ports = try->ports;
	__u32 word = pcl_nat_find_word(ports), bit;
	__u64 free;

	if (word >= PCL_NAT_WORDS)
		return pcl_nat_learn(try, ports->next + 1);
	ports->next = word;
	free = ~ports->taken[word] & pcl_nat_valid(word);
	if (!free)
		return 0;
	bit = pcl_lowest_bit(free) & 63;
	__sync_fetch_and_or(&ports->taken[word], 1ULL << bit);
	pcl_nat_set_port(try->tuple, word * 64 + bit);
	if (!pcl_nat_claim(try->tuple, try->family))
		return pcl_nat_learn(try, word);
	try->done = true;
	return 1;
}

/*
 * Creates the back entry; the tuple, which goes from the node to the remote end, gets its port.
 * SCTP keeps its own: its checksum covers it.
 */
__noinline int pcl_nat_create(struct pcl_tuple *tuple, __u32 family)
{
	struct pcl_nat_try try = {.tuple = tuple, .family = family};

	if (!tuple)
		return PCL_DROP(PCL_DROP_CT_CREATE);
	if (tuple->protocol == IPPROTO_SCTP)
		return pcl_nat_claim(tuple, family) ? PCL_OK : PCL_DROP(PCL_DROP_NAT_FULL);
	for (int i = 0; i < PCL_NAT_GUESSES; i++) {
		__u64 random = bpf_get_prandom_u32();

		pcl_nat_set_port(tuple, random * pcl_config.nat_count >> 32);
		if (pcl_nat_claim(tuple, family))
			return PCL_OK;
	}
	try.ports = pcl_nat_remote(tuple, family);
	if (try.ports)
		bpf_loop(PCL_NAT_TRIES, pcl_nat_try_one, &try, 0);
	return try.done ? PCL_OK : PCL_DROP(PCL_DROP_NAT_FULL);
}

#endif /* PCL_NAT_H */
