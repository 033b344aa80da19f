# SPDX-License-Identifier: Apache-2.0
"""What a test may leave behind: nothing. A snapshot of everything that can leak."""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import time
from pathlib import Path

import attrs

_SYS_BPF = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
_NEXT_ID = {"programs": 11, "maps": 12, "links": 31}


@attrs.frozen
class Snapshot:
    """Descriptors, kernel objects, namespaces, interfaces and BPF mounts."""

    descriptors: frozenset[str]
    programs: frozenset[int]
    maps: frozenset[int]
    links: frozenset[int]
    namespaces: frozenset[str]
    interfaces: frozenset[str]
    mounts: frozenset[str]

    @classmethod
    def take(cls) -> Snapshot:
        return cls(
            _descriptors(),
            *(_ids(kind) for kind in _NEXT_ID),
            _names(Path("/run/netns")),
            _names(Path("/sys/class/net")),
            _bpf_mounts(),
        )

    def leaked_since(self, before: Snapshot) -> dict[str, list[object]]:
        """By kind, what is here and was not before."""
        pairs = (
            (f.name, getattr(self, f.name), getattr(before, f.name)) for f in attrs.fields(Snapshot)
        )
        return {name: sorted(now - then) for name, now, then in pairs if now - then}


def wait_until_clean(before: Snapshot, seconds: float = 2.0) -> dict[str, list[object]]:
    """What has leaked; the kernel frees some objects after an RCU grace period."""
    gc.collect()
    end = time.monotonic() + seconds
    while True:
        leaked = Snapshot.take().leaked_since(before)
        if not leaked or time.monotonic() > end:
            return leaked
        time.sleep(0.02)


def _ids(kind: str) -> frozenset[int]:
    libc = ctypes.CDLL(None, use_errno=True)
    attr = (ctypes.c_uint32 * 32)()
    found = set()
    while libc.syscall(_SYS_BPF, _NEXT_ID[kind], attr, 12) == 0:
        attr[0] = attr[1]
        found.add(attr[1])
    if ctypes.get_errno() != errno.ENOENT:
        raise OSError(ctypes.get_errno(), f"list BPF {kind}")
    return frozenset(found)


def _descriptors() -> frozenset[str]:
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = entry.readlink()
        except FileNotFoundError:  # the descriptor of this very listing
            continue
        found.add(f"{entry.name}:{target}")
    return frozenset(found)


def _names(directory: Path) -> frozenset[str]:
    return frozenset(p.name for p in directory.iterdir()) if directory.is_dir() else frozenset()


def _bpf_mounts() -> frozenset[str]:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return frozenset(line.split()[1] for line in lines if line.split()[2] == "bpf")
