/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Every struct, enum and number of the XDP load balancer that user space sees, by BTF. */
#ifndef PCL_XDP_TYPES_H
#define PCL_XDP_TYPES_H

#include <linux/types.h>

#include "pcl/types.h"

/* How a packet left the balancer. Numbers that enum pcl_reason has too mean the same. */
enum pcl_xdp_reason {
	PCL_XDP_FORWARDED = 0,
	PCL_XDP_ECHO_REPLY = 1,	  /* a ping of a VIP, answered here */
	PCL_XDP_SENT_TOO_BIG = 2, /* ICMP to the client: the tunnel's MTU is smaller */
	PCL_XDP_PASS_NOT_IP = 3,
	PCL_XDP_PASS_NOT_VIP = 4,
	PCL_XDP_PASS_RESOLVE = 5,  /* encapsulated, to the stack: it asks for the neighbour */
	PCL_XDP_PASS_FRAGMENT = 6, /* encapsulated, to the stack: it may fragment this one */
	PCL_XDP_PASS_PORT = 7,	   /* no such port of a VIP; the VIPs pass what they do not know */
	PCL_XDP_DROP_INVALID = 134,
	PCL_XDP_DROP_L4_PROTOCOL = 142,
	PCL_XDP_DROP_IPV6_EXTENSION = 156,
	PCL_XDP_DROP_NO_BACKEND = 158,
	PCL_XDP_DROP_FRAGMENT = 175,
	PCL_XDP_DROP_TTL = 196,
	PCL_XDP_DROP_ICMP_UNRELATED = 211, /* ICMP to a VIP that is about none of its flows */
	PCL_XDP_DROP_WRITE = 214,	   /* no room for another header */
	PCL_XDP_DROP_IP_OPTIONS = 224,
	PCL_XDP_DROP_PORT = 225,     /* no such port of a VIP */
	PCL_XDP_DROP_NO_ROUTE = 226, /* no way to the backend */
	PCL_XDP_DROP_RESOLVE = 227,  /* the backend's neighbour entry is missing, and no tunnel */
	PCL_XDP_DROP_TOO_BIG = 228,  /* larger than the way to the backend, and no tunnel */
	PCL_XDP_DROP_TARGET_GONE = 229, /* the ring names a backend that has just gone */
	PCL_XDP_REASON_MAX = 256,
};

enum pcl_xdp_file {
	PCL_XDP_FILE_UNKNOWN,
	PCL_XDP_FILE_XDP,
	PCL_XDP_FILE_XDP_PARSE,
	PCL_XDP_FILE_XDP_VIP,
	PCL_XDP_FILE_XDP_HOP,
	PCL_XDP_FILE_XDP_SEND,
	PCL_XDP_FILE_XDP_ICMP,
};

enum pcl_xdp_vip_flags {
	PCL_XDP_VIP_HASH_SOURCE = 1 << 0,  /* by the client's address, not its port */
	PCL_XDP_VIP_NO_FLOWS = 1 << 1,	   /* by the ring alone: no flow is remembered */
	PCL_XDP_VIP_L2 = 1 << 2,	   /* to the backend's MAC, without a tunnel */
	PCL_XDP_VIP_PASS_UNKNOWN = 1 << 3, /* of an address: other ports are the stack's */
	PCL_XDP_VIP_ANY_TCP = 1 << 4,	   /* of an address: it has a VIP for every port */
	PCL_XDP_VIP_ANY_UDP = 1 << 5,
	PCL_XDP_VIP_ANY_SCTP = 1 << 6,
};

/* A VIP; port 0: every port; port 0 and protocol 0: what is known of the address. */
struct pcl_xdp_vip_key {
	union pcl_addr addr;
	__be16 port_be;
	__u8 protocol;
	__u8 family;
	__u32 pad;
};

/* Its ring is pcl_xdp_rings[first] to pcl_xdp_rings[first + size - 1]. */
struct pcl_xdp_vip {
	__u32 id;
	__u32 flags; /* enum pcl_xdp_vip_flags */
	__u32 first;
	__u32 size; /* 0: no backend */
};

/* Where a flow goes; it holds as long as the backend has this generation. Written whole. */
struct pcl_xdp_target {
	__u32 backend;
	__u32 generation; /* 0: never used */
};

/* A backend of one VIP. Immutable but for the generation, until its place is used again. */
struct pcl_xdp_backend {
	union pcl_addr addr;
	__u32 generation;
	__u32 vip;
	__u32 family;
	__u32 flags; /* of its VIP */
};

/* What one CPU knows of the way to a backend, and what it has sent there. */
struct pcl_xdp_hop {
	__u64 packets;
	__u64 bytes;	  /* of the clients' IP packets */
	__u64 expires;	  /* jiffies */
	__u32 generation; /* of the backend that it was looked up for */
	__u32 ifindex;
	__u32 mtu;
	__u8 mac[6];
	__u8 own_mac[6];
};

struct pcl_xdp_flow4 {
	__be32 src;
	__be32 dst;
	__be16 sport_be;
	__be16 dport_be;
	__u32 protocol;
};

struct pcl_xdp_flow6 {
	union pcl_addr src;
	union pcl_addr dst;
	__be16 sport_be;
	__be16 dport_be;
	__u32 protocol;
};

struct pcl_xdp_counter {
	__u64 packets;
	__u64 bytes;
	__u32 line; /* where it was counted last */
	__u32 file; /* enum pcl_xdp_file */
};

struct pcl_xdp_budget {
	__u64 tick; /* jiffies */
	__u64 used;
};

/* The .rodata configuration. */
struct pcl_xdp_config {
	__u64 seed;		/* of the hash; the same on every balancer of a group */
	__u32 hop_lifetime;	/* jiffies after which the way to a backend is looked up again */
	__u32 flows_per_tick;	/* new flows that a CPU remembers in a jiffy; 0: all */
	__be32 source4;		/* first 16 bits of the tunnel's source address */
	__u32 ttl;		/* of the tunnel */
	union pcl_addr source6; /* first 96 bits */
	__u32 gateway_mtu;
	__u8 gateway[6]; /* zero: the routing table knows the way */
	__u8 pad[2];
};

struct pcl_xdp_contract {
	enum pcl_xdp_reason reason;
	enum pcl_xdp_file file;
	enum pcl_xdp_vip_flags vip_flags;
};

_Static_assert(sizeof(struct pcl_xdp_vip_key) == 24, "pcl_xdp_vip_key");
_Static_assert(sizeof(struct pcl_xdp_target) == 8, "pcl_xdp_target");
_Static_assert(sizeof(struct pcl_xdp_flow4) == 16, "pcl_xdp_flow4");
_Static_assert(sizeof(struct pcl_xdp_flow6) == 40, "pcl_xdp_flow6");

#endif /* PCL_XDP_TYPES_H */
