# SPDX-License-Identifier: Apache-2.0
"""Every program, map and link of the machine, whoever made it, and which processes hold it."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

from pycilium.errors import KernelError
from pycilium.libbpf._native import check, ffi, lib
from pycilium.libbpf.link import Link, LinkInfo


def program_ids() -> Iterator[int]:
    """In the order in which they were loaded."""
    return _ids(lib.bpf_prog_get_next_id, "list programs")


def map_ids() -> Iterator[int]:
    """In the order in which they were made."""
    return _ids(lib.bpf_map_get_next_id, "list maps")


def links() -> Iterator[LinkInfo]:
    """Every link; one that goes away meanwhile is left out."""
    for number in _ids(lib.bpf_link_get_next_id, "list links"):
        try:
            with Link.from_id(number) as link:
                yield link.info()
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise


def holders(kind: str, number: int) -> list[str]:
    """The processes with a descriptor of a "link", "prog" or "map", as "name (PID)".

    Nobody holds what is kept by a pin, or by the device itself.
    """
    wanted = re.compile(rf"^{kind}_id:\s+{number}$", re.MULTILINE)
    return [_process(pid) for pid in os.listdir("/proc") if pid.isdigit() and _holds(pid, wanted)]  # noqa: PTH208 - procfs


def _holds(pid: str, wanted: re.Pattern[str]) -> bool:
    """Whether one of its descriptors says so; a process that ends meanwhile holds nothing."""
    try:
        names = os.listdir(f"/proc/{pid}/fd")  # noqa: PTH208 - procfs
        return any(_is_bpf(pid, fd) and wanted.search(_fdinfo(pid, fd)) for fd in names)
    except OSError:
        return False


def _is_bpf(pid: str, fd: str) -> bool:
    return "bpf" in os.readlink(f"/proc/{pid}/fd/{fd}")  # noqa: PTH115 - procfs


def _fdinfo(pid: str, fd: str) -> str:
    with open(f"/proc/{pid}/fdinfo/{fd}") as info:  # noqa: PTH123 - procfs
        return info.read()


def _process(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/comm") as name:  # noqa: PTH123 - procfs
            return f"{name.read().strip()} ({pid})"
    except OSError:
        return f"({pid})"


def _ids(following: Callable[[int, Any], int], operation: str) -> Iterator[int]:
    number = ffi.new("__u32 *", 0)
    while True:
        result = following(number[0], number)
        if result == -errno.ENOENT:
            return
        check(result, operation)
        yield number[0]
