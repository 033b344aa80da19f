# SPDX-License-Identifier: Apache-2.0
"""Consumer of a BPF ring buffer: records are copied in bulk by C, not one call each."""

from __future__ import annotations

import mmap
import select
import time
from collections.abc import Iterator
from typing import Any, Self

from pycilium.errors import KernelError, SpecError
from pycilium.libbpf._native import ffi, lib
from pycilium.libbpf.explain import closed
from pycilium.libbpf.kinds import MapType
from pycilium.libbpf.map import Map


class RingBuffer:
    """Maps the ring of a RINGBUF map; there must be one consumer."""

    def __init__(self, ring: Map) -> None:
        if ring.type != MapType.RINGBUF:
            raise SpecError("map.type", ring.type.name, "RINGBUF")
        self._map = ring
        self._size = ring.max_entries
        self._ring: Any = lib.pcl_ring_map(ring.fd, self._size)
        if self._ring == ffi.NULL:
            raise KernelError(ffi.errno, "map ring", ring.name)
        self._out = ffi.new("char[]", max(self._size, mmap.PAGESIZE))

    def fileno(self) -> int:
        """Readable while records wait."""
        return self._map.fd

    def drain(self) -> memoryview:
        """All records that wait, each as u32 length, u32 zero and the bytes padded to eight.

        The memory is reused by the next call.
        """
        if self._ring is None:
            raise closed("ring buffer", self._map.name)
        count = ffi.new("__u32 *")
        used = lib.pcl_ring_drain(self._ring, self._size, self._out, len(self._out), count)
        return memoryview(ffi.buffer(self._out, used))

    def records(self, timeout: float | None = 0.0) -> Iterator[bytes]:
        """Records as they come; ends when none has come for `timeout` seconds (None: never)."""
        while True:
            chunk = self.drain()
            yield from split_records(chunk)
            if not len(chunk) and not self._wait(timeout):
                return

    def _wait(self, timeout: float | None) -> bool:
        """A record, or the time-out; polls, for producers that do not wake their consumer."""
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        end = None if timeout is None else time.monotonic() + timeout
        while end is None or time.monotonic() < end:
            left = 0.1 if end is None else min(0.1, max(0.0, end - time.monotonic()))
            if poll.poll(left * 1000):
                return True
        return False

    def close(self) -> None:
        """Unmap; the map itself stays open."""
        if self._ring is not None:
            lib.pcl_ring_unmap(self._ring, self._size)
            self._ring = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def split_records(chunk: memoryview) -> Iterator[bytes]:
    """The records of what drain() returned."""
    position = 0
    while position < len(chunk):
        length = int.from_bytes(chunk[position : position + 4], "little")
        yield bytes(chunk[position + 8 : position + 8 + length])
        position += 8 + (length + 7 & ~7)
