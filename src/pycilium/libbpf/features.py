# SPDX-License-Identifier: Apache-2.0
"""What this kernel and this process can do: probes, conclusive results kept."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable
from functools import cache

import attrs

from pycilium.libbpf._native import ffi, lib, take_messages
from pycilium.libbpf.kinds import BIND_HOOKS, CgroupHook, MapType, ProgramType

_EXIT_0 = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0)  # r0 = 0; exit
_RETURN_1 = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 1, 0x95, 0, 0, 0)
_TCX_INGRESS = 46
_NO_SUCH_COMMAND = 0x7FFF
_NO_DEVICE = 0x7FFFFFFF
_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21, "CAP_PERFMON": 38, "CAP_BPF": 39}


@attrs.frozen
class Feature:
    """One row of report()."""

    name: str
    present: bool
    since: str
    without: str


def have_bpf() -> bool:
    """Whether this process may load programs."""
    return have_program_type(ProgramType.SCHED_CLS)


@cache
def have_program_type(kind: ProgramType) -> bool:
    """Whether a program of this type loads."""
    fd = lib.pcl_prog_load(kind, 0, _EXIT_0, len(_EXIT_0) // 8, b"GPL")
    take_messages()
    if fd >= 0:
        os.close(fd)
    return bool(fd >= 0)


@cache
def have_tcx() -> bool:
    """Whether tc programs attach by link, in order (Linux 6.6)."""
    fd = lib.pcl_prog_load(ProgramType.SCHED_CLS, 0, _EXIT_0, len(_EXIT_0) // 8, b"GPL")
    take_messages()
    if fd < 0:
        return False
    try:
        # No such interface: ENODEV says that the kernel knows the hook, EINVAL that it does not.
        return bool(lib.pcl_link_create(fd, _NO_DEVICE, _TCX_INGRESS, 0, 0) == -19)
    finally:
        os.close(fd)


@cache
def have_batch(kind: MapType = MapType.HASH) -> bool:
    """Whether a map type has batch operations (hash: 5.6; LPM trie: 5.14)."""
    flags = 1 if kind == MapType.LPM_TRIE else 0
    fd = lib.pcl_map_create(kind, b"pcl_probe", 8, 8, 1, flags)
    if fd < 0:
        return False
    from pycilium.libbpf.map import Map

    with Map.from_fd(fd) as probe:
        return probe._lookup_batches() is not None  # noqa: SLF001 - same package


@cache
def have_cgroup_hook(hook: CgroupHook) -> bool:
    """Whether programs attach to a call of a cgroup's sockets."""
    bind = hook in BIND_HOOKS.values()
    kind = ProgramType.CGROUP_SOCK if bind else ProgramType.CGROUP_SOCK_ADDR
    fd = lib.pcl_prog_load(kind, hook, _RETURN_1, len(_RETURN_1) // 8, b"GPL")
    take_messages()
    if fd >= 0:
        os.close(fd)
    return bool(fd >= 0)


@cache
def have_kernel_function(name: str) -> bool:
    """Whether the kernel's BTF names a function; a kfunc is callable by that."""
    found = lib.pcl_kernel_function(name.encode())
    take_messages()
    return bool(found > 0)


def errno_of_unknown_command() -> int:
    """What bpf(2) says to a command that no kernel has: EINVAL, unless a filter stands before."""
    return -int(lib.pcl_bpf(_NO_SUCH_COMMAND, ffi.new("char[8]"), 8))


def have_sock_destroy() -> bool:
    """Whether programs may end sockets (Linux 6.5)."""
    return have_kernel_function("bpf_sock_destroy")


def have_bpffs(path: str = "/sys/fs/bpf") -> bool:
    """Whether a path, existing or not, lies on a mounted BPF file system."""
    with open("/proc/self/mounts") as mounts:  # noqa: PTH123 - procfs
        return file_system(path, mounts.read()) == "bpf"


def file_system(path: str, mounts: str) -> str:
    """The type of the file system that a path lies on, by the text of /proc/self/mounts."""
    best, kind = "", ""
    for line in mounts.splitlines():
        _, where, this, *_ = line.split()
        inside = path == where or path.startswith(where.rstrip("/") + "/")
        if inside and len(where) >= len(best):
            best, kind = where, this
    return kind


def missing_capabilities(
    status: str | None = None, needed: tuple[str, ...] = ("CAP_BPF", "CAP_NET_ADMIN")
) -> list[str]:
    """What is needed and this process lacks; CAP_SYS_ADMIN stands for CAP_BPF and CAP_PERFMON.

    status: the text of a /proc/PID/status (None: of this process).
    """
    if status is None:
        with open("/proc/self/status") as file:  # noqa: PTH123 - procfs
            status = file.read()
    found = re.search(r"^CapEff:\s*([0-9a-fA-F]+)", status, re.MULTILINE)
    held = int(found.group(1), 16) if found else 0
    have = {name for name, bit in _CAPABILITIES.items() if held >> bit & 1}
    if "CAP_SYS_ADMIN" in have:
        have |= {"CAP_BPF", "CAP_PERFMON"}
    return [name for name in needed if name not in have]


_PROBES: tuple[tuple[str, Callable[[], bool], str, str], ...] = (
    ("bpf programs", have_bpf, "", "nothing works: pycilium doctor says why"),
    (
        "capabilities",
        lambda: not missing_capabilities(),
        "",
        "run as root or grant CAP_BPF and CAP_NET_ADMIN",
    ),
    ("tcx links", have_tcx, "6.6", "clsact filters take their place"),
    ("batch operations", have_batch, "5.6", "maps are written entry by entry"),
    (
        "bpf_sock_destroy",
        have_sock_destroy,
        "6.5",
        "sockets whose backend has gone are ended through NETLINK_SOCK_DIAG",
    ),
    ("bpffs", have_bpffs, "", "no pinned datapath: mount -t bpf bpf /sys/fs/bpf"),
)


def report() -> list[Feature]:
    """Every probe with what happens without it."""
    return [Feature(name, probe(), since, without) for name, probe, since, without in _PROBES]
