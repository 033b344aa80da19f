# SPDX-License-Identifier: Apache-2.0
"""The kernel's numbers for maps, programs and hooks (linux/bpf.h): stable ABI."""

from __future__ import annotations

import enum


class MapType(enum.IntEnum):
    """BPF_MAP_TYPE_*."""

    UNSPEC = 0
    HASH = 1
    ARRAY = 2
    PROG_ARRAY = 3
    PERF_EVENT_ARRAY = 4
    PERCPU_HASH = 5
    PERCPU_ARRAY = 6
    STACK_TRACE = 7
    CGROUP_ARRAY = 8
    LRU_HASH = 9
    LRU_PERCPU_HASH = 10
    LPM_TRIE = 11
    ARRAY_OF_MAPS = 12
    HASH_OF_MAPS = 13
    DEVMAP = 14
    SOCKMAP = 15
    CPUMAP = 16
    XSKMAP = 17
    SOCKHASH = 18
    CGROUP_STORAGE = 19
    REUSEPORT_SOCKARRAY = 20
    PERCPU_CGROUP_STORAGE = 21
    QUEUE = 22
    STACK = 23
    SK_STORAGE = 24
    DEVMAP_HASH = 25
    STRUCT_OPS = 26
    RINGBUF = 27
    INODE_STORAGE = 28
    TASK_STORAGE = 29
    BLOOM_FILTER = 30
    USER_RINGBUF = 31
    CGRP_STORAGE = 32
    ARENA = 33

    @property
    def per_cpu(self) -> bool:
        """Whether a value exists once per possible CPU."""
        return self in _PER_CPU

    @property
    def of_maps(self) -> bool:
        """Whether its values are maps."""
        return self in (MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS)

    @property
    def array(self) -> bool:
        """Whether every key from 0 to max_entries - 1 always exists."""
        return self in (MapType.ARRAY, MapType.PERCPU_ARRAY)


_PER_CPU = (MapType.PERCPU_HASH, MapType.PERCPU_ARRAY, MapType.LRU_PERCPU_HASH)


class ProgramType(enum.IntEnum):
    """BPF_PROG_TYPE_*."""

    UNSPEC = 0
    SOCKET_FILTER = 1
    KPROBE = 2
    SCHED_CLS = 3
    SCHED_ACT = 4
    TRACEPOINT = 5
    XDP = 6
    PERF_EVENT = 7
    CGROUP_SKB = 8
    CGROUP_SOCK = 9
    LWT_IN = 10
    LWT_OUT = 11
    LWT_XMIT = 12
    SOCK_OPS = 13
    SK_SKB = 14
    CGROUP_DEVICE = 15
    SK_MSG = 16
    RAW_TRACEPOINT = 17
    CGROUP_SOCK_ADDR = 18
    LWT_SEG6LOCAL = 19
    LIRC_MODE2 = 20
    SK_REUSEPORT = 21
    FLOW_DISSECTOR = 22
    CGROUP_SYSCTL = 23
    RAW_TRACEPOINT_WRITABLE = 24
    CGROUP_SOCKOPT = 25
    TRACING = 26
    STRUCT_OPS = 27
    EXT = 28
    LSM = 29
    SK_LOOKUP = 30
    SYSCALL = 31
    NETFILTER = 32


class Hook(enum.IntEnum):
    """Where on a device, by the device's own direction: BPF_TCX_INGRESS and _EGRESS."""

    RX = 46
    TX = 47


class CgroupHook(enum.IntEnum):
    """Where in a cgroup: BPF_CGROUP_*."""

    INET_SOCK_CREATE = 2
    INET4_CONNECT = 10
    INET6_CONNECT = 11
    INET4_POST_BIND = 12
    INET6_POST_BIND = 13
    UDP4_SENDMSG = 14
    UDP6_SENDMSG = 15
    UDP4_RECVMSG = 19
    UDP6_RECVMSG = 20
    INET4_GETPEERNAME = 29
    INET6_GETPEERNAME = 30
    INET_SOCK_RELEASE = 34


# Calls that carry an address, by the names of their sections ("cgroup/connect4").
ADDRESS_HOOKS = {
    "connect4": CgroupHook.INET4_CONNECT,
    "connect6": CgroupHook.INET6_CONNECT,
    "getpeername4": CgroupHook.INET4_GETPEERNAME,
    "getpeername6": CgroupHook.INET6_GETPEERNAME,
    "sendmsg4": CgroupHook.UDP4_SENDMSG,
    "sendmsg6": CgroupHook.UDP6_SENDMSG,
    "recvmsg4": CgroupHook.UDP4_RECVMSG,
    "recvmsg6": CgroupHook.UDP6_RECVMSG,
}

# After a call has chosen a port, before the process is told.
BIND_HOOKS = {
    "post_bind4": CgroupHook.INET4_POST_BIND,
    "post_bind6": CgroupHook.INET6_POST_BIND,
}


class XdpMode(enum.IntFlag):
    """XDP_FLAGS_*: in the driver, or in the stack behind it."""

    GENERIC = 1 << 1
    NATIVE = 1 << 2
