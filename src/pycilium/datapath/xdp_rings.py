# SPDX-License-Identifier: Apache-2.0
"""The rings' memory, shared with the kernel: a slot is written at once, by one store."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pycilium.datapath.xdp_plan import Member
    from pycilium.libbpf import Map

_SLOT = 8


class RingMemory:
    """pcl_xdp_rings as an array of struct pcl_xdp_target, each one 64-bit number."""

    def __init__(self, table: Map) -> None:
        size = -(-table.max_entries * _SLOT // mmap.PAGESIZE) * mmap.PAGESIZE
        self._memory = mmap.mmap(table.fd, size)

    def write(self, first: int, ring: Sequence[int], members: Sequence[Member]) -> int:
        """Make the slots from `first` on name these members; how many differed."""
        targets = [member.generation << 32 | member.index for member in members]
        slots = memoryview(self._memory)[first * _SLOT : (first + len(ring)) * _SLOT].cast("Q")
        with slots:
            return _store(slots, ring, targets)

    def close(self) -> None:
        """Unmap."""
        self._memory.close()


def _store(slots: Any, ring: Sequence[int], targets: list[int]) -> int:
    if not hasattr(ring, "dtype"):
        return _store_plainly(slots, ring, targets)
    import numpy

    wanted = numpy.array(targets, dtype=numpy.uint64)[ring]
    there = numpy.frombuffer(slots, dtype=numpy.uint64)
    (differ,) = numpy.nonzero(there != wanted)
    there[differ] = wanted[differ]
    return len(differ)


def _store_plainly(slots: Any, ring: Sequence[int], targets: list[int]) -> int:
    differ = 0
    for slot, number in enumerate(ring):
        if slots[slot] != targets[number]:
            slots[slot] = targets[number]
            differ += 1
    return differ
