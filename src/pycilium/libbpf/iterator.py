# SPDX-License-Identifier: Apache-2.0
"""Iterator programs: reading one runs it over the kernel's objects."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pycilium.libbpf._native import check, lib

if TYPE_CHECKING:
    from pycilium.libbpf.map import Map
    from pycilium.libbpf.program import Program

_ROOM = 65536


def read_iterator(program: Program, over: Map | None = None) -> bytes:
    """Run an iterator program to its end; what it has written.

    over: the map whose elements it sees. Sockets are those of the calling thread's network
    namespace. Linux >= 5.9. Raises KernelError.
    """
    fd = lib.pcl_iterator(program.fd, -1 if over is None else over.fd)
    written = bytearray()
    try:
        while part := os.read(check(fd, "iterate", program.name), _ROOM):
            written += part
    finally:
        if fd >= 0:
            os.close(fd)
    return bytes(written)
