# SPDX-License-Identifier: Apache-2.0
"""A file descriptor with a name: what maps, programs and links have in common."""

from __future__ import annotations

import os
import warnings
from typing import Self

from pycilium.failure import Failure
from pycilium.libbpf._native import check, lib
from pycilium.libbpf.explain import closed


class Handle:
    """Owns a descriptor; close() is idempotent, use after it is a ClosedError."""

    kind = "object"

    def __init__(self, fd: int, name: str) -> None:
        self._fd = fd
        self.name = name

    @property
    def fd(self) -> int:
        """The descriptor, still owned by this object."""
        if self._fd < 0:
            raise closed(self.kind, self.name)
        return self._fd

    def pin(self, path: str | os.PathLike[str]) -> None:
        """Keep the kernel's object alive under a path of a BPF file system."""
        where = os.fspath(path)
        check(lib.bpf_obj_pin(self.fd, os.fsencode(path)), "pin", where, Failure(path=where))

    def close(self) -> None:
        """Give the descriptor back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2)
            self.close()


def open_pin(path: str | os.PathLike[str]) -> int:
    """A descriptor of what is pinned at a path."""
    where = os.fspath(path)
    return check(lib.bpf_obj_get(os.fsencode(path)), "open pin", where, Failure(path=where))
