/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Every struct, enum and number that user space sees. Python reads them from
 * BTF: this file is the only place where a layout or a code is written.
 */
#ifndef PCL_TYPES_H
#define PCL_TYPES_H

#include <linux/types.h>

/* Why a packet left the datapath. Codes below 208 are Cilium's, the rest are ours. */
enum pcl_reason {
	PCL_FORWARDED = 0,
	PCL_TO_STACK = 1,	  /* handed to the host's network stack */
	PCL_NEIGHBOUR_REPLY = 2,  /* ARP or NDP answered by the datapath */
	PCL_AUDITED = 3,	  /* forwarded, and a policy in audit mode would have denied it */
	PCL_DROP_SOURCE_IP = 132, /* source address is not the endpoint's */
	PCL_DROP_POLICY = 133,	  /* no rule allows it */
	PCL_DROP_INVALID = 134,	  /* malformed packet */
	PCL_DROP_L3_PROTOCOL = 139,
	PCL_DROP_L4_PROTOCOL = 142,
	PCL_DROP_CT_CREATE = 155, /* the conntrack entry could not be written */
	PCL_DROP_IPV6_EXTENSION = 156,
	PCL_DROP_NO_BACKEND = 158,	 /* the service has none that may be used */
	PCL_DROP_SERVICE_PROTOCOL = 159, /* SCTP whose port would have to change */
	PCL_DROP_NAT_FULL = 161,	 /* every port to this remote end is taken */
	PCL_DROP_FRAGMENT = 175,	 /* its first fragment was not seen */
	PCL_DROP_ICMPV6 = 176,		 /* ICMPv6 type that an endpoint may not send */
	PCL_DROP_SOURCE_RANGE = 177,	 /* the service's source ranges keep the client out */
	PCL_DROP_POLICY_DENY = 181,	 /* a deny rule */
	PCL_DROP_VLAN = 182,
	PCL_DROP_TTL = 196,
	PCL_DROP_ENDPOINT_UNKNOWN = 203, /* the interface has no endpoint yet */
	PCL_DROP_SOURCE_MAC = 208,	 /* source MAC is not the endpoint's */
	PCL_DROP_NEIGHBOUR_SPOOF = 209,	 /* ARP or NDP that claims another's address */
	PCL_DROP_POLICY_NOT_READY = 210, /* the endpoint's policy slot is empty */
	PCL_DROP_ICMP_UNRELATED = 211,	 /* ICMP error about no known connection */
	PCL_DROP_MULTICAST = 212,	 /* multicast and broadcast are not carried */
	PCL_DROP_FRAGMENT_TINY = 213,	 /* first fragment without a whole L4 header */
	PCL_DROP_WRITE = 214,		 /* the packet could not be rewritten */
	PCL_DROP_WRONG_DEVICE = 215,	 /* a connection's packet on a foreign interface */
	PCL_DROP_NEIGHBOUR_NOISE = 216,	 /* ARP or NDP that needs no answer */
	PCL_DROP_PROXY_NOT_READY = 217,	 /* a proxy must decide, and none is there */
	PCL_DROP_BACKEND_GONE = 218,	 /* from a backend that has left the service */
	PCL_DROP_PORT = 225,		 /* no such port of a service's address */
	PCL_DROP_NO_ROUTE = 226,	 /* no way to where it must go */
	PCL_DROP_TOO_BIG = 228,		 /* larger than the way to where it must go */
	PCL_REASON_MAX = 256,
};

/* Source file of a drop; with the line it is the place in the code. */
enum pcl_file {
	PCL_FILE_UNKNOWN,
	PCL_FILE_ENDPOINT,
	PCL_FILE_PARSE,
	PCL_FILE_FRAGMENT,
	PCL_FILE_CONNTRACK,
	PCL_FILE_POLICY,
	PCL_FILE_SERVICE,
	PCL_FILE_REWRITE,
	PCL_FILE_NEIGHBOUR,
	PCL_FILE_CONNECTION,
	PCL_FILE_ICMP,
	PCL_FILE_FORWARD,
	PCL_FILE_ROUTE,
	PCL_FILE_NAT,
	PCL_FILE_DEVICE,
	PCL_FILE_DSR,
};

enum pcl_direction {
	PCL_INGRESS = 0,
	PCL_EGRESS = 1,
};

enum pcl_policy_verdict {
	PCL_POLICY_NONE = 0, /* no entry: the default is to deny */
	PCL_POLICY_ALLOW = 1,
	PCL_POLICY_DENY = 2,
	PCL_POLICY_REDIRECT = 3, /* allowed as far as a proxy allows it */
	PCL_POLICY_AUDIT = 4,	 /* allowed; the rule is the one that would deny */
};

/* Fixed sizes that user space must know. */
enum pcl_limits {
	PCL_POLICY_STATIC_BITS = 40,   /* identity and direction */
	PCL_POLICY_PROTOCOL_BITS = 48, /* and protocol */
	PCL_POLICY_FULL_BITS = 64,     /* and port */
	PCL_IPCACHE_STATIC_BITS = 32,  /* family and padding */
	PCL_SOURCES_STATIC_BITS = 32,  /* number of the set */
	PCL_IDENTITY_HOST = 1,
	PCL_IDENTITY_WORLD = 2,
	PCL_SENDS = 16,	       /* services that one unconnected UDP socket is answered from */
	PCL_NAT_PORTS = 32768, /* at most, that stand for other sources towards one remote end */
};

union pcl_addr {
	__u8 bytes[16];
	__be32 v4;
	__u32 words[4];
	__u64 quads[2];
};

/* An endpoint, by the ifindex of its device on the host's side. */
struct pcl_endpoint {
	__u32 ipv4_identity; /* prefixes that policies name may cover one of its addresses */
	__u32 ipv6_identity;
	__u32 policy_slot;   /* index into pcl_policies and pcl_epochs */
	__u32 peer_redirect; /* 1: bpf_redirect_peer works (a veth into another netns) */
	__be32 ipv4;	     /* 0: none */
	union pcl_addr ipv6; /* zero: none */
	__u8 mac[6];	     /* the endpoint's own */
	__u8 host_mac[6];    /* the host side's: the endpoint's gateway */
	__u32 id;	     /* endpoint number, for events */
};

/* A local address, to the device of the endpoint that has it. */
struct pcl_address_key {
	union pcl_addr addr; /* IPv4: first four bytes, the rest zero */
	__u32 family;	     /* 4 or 6 */
	__u32 pad;
};

/* Prefix to identity. prefixlen counts PCL_IPCACHE_STATIC_BITS and the address bits. */
struct pcl_ipcache_key {
	__u32 prefixlen;
	__u32 family; /* 4 or 6 */
	union pcl_addr addr;
};

struct pcl_ipcache_value {
	__u32 identity;
};

/* One entry of a policy set; prefixlen says how much of it counts. */
struct pcl_policy_key {
	__u32 prefixlen;
	__u32 identity; /* the peer's; 0: any */
	__u8 direction; /* enum pcl_direction */
	__u8 protocol;	/* IPPROTO_*; 0 with a short prefix: any */
	__be16 port_be; /* destination port; ICMP: the type */
};

struct pcl_policy_value {
	__u32 verdict; /* enum pcl_policy_verdict */
	__u32 rule;    /* id of the deciding rule; 0: the default */
};

struct pcl_service_key {
	union pcl_addr addr;
	__be16 port_be;
	__u8 protocol;
	__u8 family;
	__u32 pad;
};

enum pcl_service_flags {
	PCL_SERVICE_SOURCES_DENY = 1 << 0, /* its source ranges are who may not; else who may */
	PCL_SERVICE_OUTSIDE = 1 << 1,	   /* it also serves clients beyond the node's devices */
	PCL_SERVICE_DSR_TCP = 1 << 2,	   /* backends elsewhere answer such clients themselves */
	PCL_SERVICE_DSR_UDP = 1 << 3,
	PCL_SERVICE_MAGLEV = 1 << 4,  /* its slots are a Maglev table, the same on every node */
	PCL_SERVICE_NOTHING = 1 << 5, /* no service: an address whose other ports are refused */
};

/*
 * Its active backends are pcl_slots[first] to pcl_slots[first + count - 1], and those for clients
 * outside pcl_slots[outside_first] to pcl_slots[outside_first + outside_count - 1].
 */
struct pcl_service_value {
	__u32 id;
	__u32 first;
	__u32 count;
	__u32 flags;	/* enum pcl_service_flags */
	__u32 affinity; /* jiffies that a client keeps to a backend; 0: none */
	__u32 sources;	/* its set in pcl_source_ranges; 0: none */
	__u32 outside_first;
	__u32 outside_count;
};

enum pcl_backend_state {
	PCL_BACKEND_GONE = 0,
	PCL_BACKEND_ACTIVE = 1,
	PCL_BACKEND_TERMINATING = 2, /* keeps its connections and gets no new ones */
	PCL_BACKEND_QUARANTINED = 3, /* the same */
	PCL_BACKEND_MAINTENANCE = 4, /* gets nothing */
};

/* One server of one service. The id is never used again: connections are held to it. */
struct pcl_backend {
	union pcl_addr addr;
	__be16 port_be;
	__u8 state; /* enum pcl_backend_state */
	__u8 family;
	__u32 id;
	__u32 service;
	__u32 index; /* where this stands */
};

/* Session affinity: the backend that a client of a service had last. */
struct pcl_affinity_key {
	union pcl_addr client;
	__u32 service;
	__u32 pad;
};

struct pcl_affinity_value {
	__u32 index;	 /* into pcl_backends */
	__u32 id;	 /* what stands there, if it is still the same */
	__u32 last_used; /* jiffies, low 32 bits */
};

/* Clients that a service names. prefixlen counts PCL_SOURCES_STATIC_BITS and the address bits. */
struct pcl_source_key {
	__u32 prefixlen;
	__u32 set;
	union pcl_addr addr;
};

/* Where the packets of one side of a connection come from and go to. */
struct pcl_side {
	__u32 ifindex; /* device on the host's side; 0: reached through the stack */
	__u32 slot;    /* its policy slot; 0: not local, pcl_epochs[0] counts identities */
	__u32 epoch;   /* of that slot when the verdict was made */
	__u32 identity;
	__u8 mac[6];	  /* the endpoint's */
	__u8 host_mac[6]; /* its gateway's */
	__u32 rule;	  /* that decided at this side */
};

enum pcl_ct_flags {
	PCL_CT_OPENER_IS_LOW = 1 << 0, /* the lower address:port of the key opened it */
	PCL_CT_REPLIED = 1 << 1,
	PCL_CT_CLOSING_OPENER = 1 << 2,	   /* FIN or RST from the opener */
	PCL_CT_CLOSING_RESPONDER = 1 << 3, /* FIN or RST from the responder */
	PCL_CT_TRANSLATED = 1 << 4,	   /* rewrite is set */
	PCL_CT_FRONT = 1 << 5,		   /* the tuple that the client sees; else the backend's */
	PCL_CT_HAIRPIN = 1 << 6,	   /* the client is its own backend */
	PCL_CT_PEER_OPENER = 1 << 7,	   /* redirect_peer reaches the opener */
	PCL_CT_PEER_RESPONDER = 1 << 8,
	PCL_CT_OUTSIDE = 1 << 9,       /* the programs of the node's devices act on it */
	PCL_CT_SOURCE = 1 << 10,       /* the opener's end is replaced too */
	PCL_CT_ROUTE_OPENER = 1 << 11, /* by the routing table, not through the stack */
	PCL_CT_ROUTE_RESPONDER = 1 << 12,
	PCL_CT_DSR = 1 << 13, /* the responder's node answers the opener */
};

/* A connection. sides[0] opened it, sides[1] was opened to. */
struct pcl_ct_entry {
	struct pcl_side sides[2];
	union pcl_addr frontend; /* translated: the service's address */
	union pcl_addr backend;	 /* translated: the backend's address */
	union pcl_addr source;	 /* front: what the opener becomes; back: what it is */
	__be16 frontend_port_be;
	__be16 backend_port_be;
	__be16 source_port_be;
	__u16 pad;
	__u32 service;	     /* id; 0: none */
	__u32 backend_index; /* into pcl_backends */
	__u32 backend_id;    /* what stood there */
	__u32 last_seen;     /* jiffies, low 32 bits */
	__u32 twin_seen;     /* translated: when the other entry was last told */
	__u32 flags;	     /* enum pcl_ct_flags */
};

struct pcl_ct4_key {
	__be32 low;
	__be32 high;
	__be16 low_port_be;
	__be16 high_port_be;
	__u8 protocol;
	__u8 pad[3];
};

struct pcl_ct6_key {
	union pcl_addr low;
	union pcl_addr high;
	__be16 low_port_be;
	__be16 high_port_be;
	__u8 protocol;
	__u8 pad[3];
};

/* A device that faces other nodes and the world, and what stands for others behind it. */
struct pcl_device {
	__be32 ipv4; /* 0: none */
	__u32 pad;
	union pcl_addr ipv6; /* zero: none */
};

/* A remote end, towards which many sources share one address. */
struct pcl_nat_key {
	union pcl_addr addr;
	__be16 port_be;
	__u8 protocol;
	__u8 family;
	__u32 pad;
};

/* Which ports are believed to be taken there; what is true is in the connections. */
struct pcl_nat_ports {
	__u32 next; /* the word to look at */
	__u32 pad;
	__u64 taken[PCL_NAT_PORTS / 64];
};

struct pcl_fragment_key {
	union pcl_addr src;
	union pcl_addr dst;
	__be32 id_be;
	__u8 protocol;
	__u8 family;
	__u8 pad[2];
};

struct pcl_fragment_value {
	__be16 sport_be;
	__be16 dport_be;
	__be16 policy_port_be;
	__u16 pad;
};

/* At a socket: what the application named, and where its packets go. */
struct pcl_translation {
	union pcl_addr frontend;
	union pcl_addr backend;
	__be16 frontend_port_be;
	__be16 backend_port_be;
	__u8 protocol;
	__u8 family;
	__u16 every; /* 1: the service is on every address of the node, and this is one of them */
};

/* One service that an unconnected UDP socket sends to. */
struct pcl_send {
	struct pcl_translation translation; /* protocol 0: none yet */
	__u32 index;			    /* the backend's, into pcl_backends */
	__u32 id;			    /* what stood there, if it is still the same */
	__u32 used;			    /* of pcl_sends.clock, at the last send */
};

/* All of them; the one that was used least lately gives way. */
struct pcl_sends {
	__u32 clock;
	struct pcl_send entries[PCL_SENDS];
};

/* A network namespace whose sockets are translated, and who they are as clients. */
struct pcl_namespace {
	union pcl_addr ipv4; /* zero: none */
	union pcl_addr ipv6;
	__u32 node; /* 1: the node's own, where its node ports are */
	__u32 pad;
};

/* A port that belongs to a service: no process of the node may bind it. */
struct pcl_claim_key {
	struct pcl_service_key service;
	__u32 every; /* 1: on every address, and addr is zero; else a zero addr is the wildcard */
	__u32 pad;
};

/* A socket whose backend has gone, for user space. */
struct pcl_gone_socket {
	__u64 netns; /* cookies */
	__u64 socket;
	struct pcl_translation translation;
	union pcl_addr source;
	__be16 source_port_be;
	__u16 pad;
	__u32 connected; /* 0: on its way, or gone elsewhere */
};

struct pcl_counter {
	__u64 packets;
	__u64 bytes;
};

enum pcl_event_kind {
	PCL_EVENT_VERDICT = 1, /* a new connection, or one decided anew */
	PCL_EVENT_DROP = 2,
	PCL_EVENT_AUDIT_INGRESS = 3, /* a verdict: allowed, and the ingress rule would deny it */
	PCL_EVENT_AUDIT_EGRESS = 4,
};

/* One record of pcl_events. Addresses and ports are as the sender wrote them. */
struct pcl_event {
	__u64 time_ns; /* CLOCK_MONOTONIC */
	__u8 kind;     /* enum pcl_event_kind */
	__u8 reason;   /* enum pcl_reason */
	__u8 family;
	__u8 protocol;
	__u16 line;
	__u8 file; /* enum pcl_file */
	__u8 tcp_flags;
	union pcl_addr src;
	union pcl_addr dst;
	__be16 sport_be;
	__be16 dport_be; /* ICMP: the type */
	__u32 ifindex;
	__u32 src_identity;
	__u32 dst_identity;
	__u32 egress_rule; /* 0: default or not asked */
	__u32 ingress_rule;
	union pcl_addr backend; /* translated destination; zero: none */
	__be16 backend_port_be;
	__u16 length; /* of the packet, at most 65535 */
	__u32 service;
};

enum pcl_step {
	PCL_STEP_PARSE = 1,	  /* a: protocol, b: sport, c: dport, addr: destination */
	PCL_STEP_CT = 2,	  /* a: 0 miss, 1 hit, 2 hit but stale */
	PCL_STEP_SERVICE = 3,	  /* a: 0 miss, 1 hit, 2 address only; b: id, c: backend count */
	PCL_STEP_BACKEND = 4,	  /* a: backend id, b: port, c: 1 by affinity, addr: backend */
	PCL_STEP_SOURCE = 5,	  /* a: identity, b: endpoint id, c: policy slot */
	PCL_STEP_DESTINATION = 6, /* a: identity, b: endpoint id (0: not local), c: slot */
	PCL_STEP_POLICY = 7,	  /* a: direction, b: verdict, c: rule id, d: peer identity */
	PCL_STEP_CT_CREATE = 8,	  /* a: 0 or -errno */
	PCL_STEP_FORWARD = 9,	  /* a: ifindex (0: stack), b: 1 with redirect_peer */
	PCL_STEP_VERDICT = 10,	  /* a: reason, b: file, c: line */
	PCL_STEP_ROUTE = 11,	  /* a: BPF_FIB_LKUP_RET_*, b: ifindex */
	PCL_STEP_NAT = 12,	  /* a: port that stands for the source, addr: its address */
};

/* One record of pcl_trace. */
struct pcl_trace_record {
	__u32 step; /* enum pcl_step */
	__u32 a;
	__u32 b;
	__u32 c;
	__u32 d;
	__u32 pad;
	union pcl_addr addr;
};

enum pcl_events_level {
	PCL_EVENTS_NONE = 0,
	PCL_EVENTS_DROPS = 1,
	PCL_EVENTS_VERDICTS = 2, /* drops and verdicts */
};

/* The .rodata configuration of one loaded object; false features cost no instruction. */
struct pcl_config {
	__u32 trace;  /* write pcl_trace and leave live state alone */
	__u32 events; /* enum pcl_events_level */
	__u32 ipv4;
	__u32 ipv6;
	__u32 services;
	__u32 devices;	       /* programs stand on the node's devices */
	__u32 masquerade;      /* endpoints leave by them under the node's address */
	__u32 nat_first;       /* port */
	__u32 nat_count;       /* ports, at most PCL_NAT_PORTS */
	__u32 second;	       /* jiffies */
	__u32 syn_timeout;     /* jiffies */
	__u32 tcp_timeout;     /* jiffies */
	__u32 closing_timeout; /* jiffies */
	__u32 other_timeout;   /* jiffies */
	__be32 hairpin_ipv4;   /* source that a client sees when it is its own backend */
	union pcl_addr hairpin_ipv6;
};

/* A piece of what user space must know of a pinned datapath. */
struct pcl_manifest_chunk {
	__u8 bytes[4096];
};

/* Names every type that user space reads and no map holds. */
struct pcl_contract {
	enum pcl_reason reason;
	enum pcl_file file;
	enum pcl_direction direction;
	enum pcl_policy_verdict policy_verdict;
	enum pcl_limits limits;
	enum pcl_ct_flags ct_flags;
	enum pcl_service_flags service_flags;
	enum pcl_backend_state backend_state;
	enum pcl_event_kind event_kind;
	enum pcl_events_level events_level;
	enum pcl_step step;
	struct pcl_policy_key policy_key;
	struct pcl_policy_value policy_value;
	struct pcl_event event;
	struct pcl_trace_record trace_record;
};

/* A key with a hole in it never matches: every byte of these has a name. */
_Static_assert(sizeof(struct pcl_address_key) == 24, "pcl_address_key");
_Static_assert(sizeof(struct pcl_ipcache_key) == 24, "pcl_ipcache_key");
_Static_assert(sizeof(struct pcl_policy_key) == 12, "pcl_policy_key");
_Static_assert(sizeof(struct pcl_service_key) == 24, "pcl_service_key");
_Static_assert(sizeof(struct pcl_affinity_key) == 24, "pcl_affinity_key");
_Static_assert(sizeof(struct pcl_source_key) == 24, "pcl_source_key");
_Static_assert(sizeof(struct pcl_ct4_key) == 16, "pcl_ct4_key");
_Static_assert(sizeof(struct pcl_ct6_key) == 40, "pcl_ct6_key");
_Static_assert(sizeof(struct pcl_nat_key) == 24, "pcl_nat_key");
_Static_assert(sizeof(struct pcl_fragment_key) == 40, "pcl_fragment_key");
_Static_assert(sizeof(struct pcl_translation) == 40, "pcl_translation");

#endif /* PCL_TYPES_H */
