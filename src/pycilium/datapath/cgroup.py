# SPDX-License-Identifier: Apache-2.0
"""cgroup2 directories: where the socket layer is attached, and which are left alone."""

from __future__ import annotations

import os
from pathlib import Path

from pycilium.errors import NotSupportedError, SpecError

_MARK = "cgroup.controllers"  # every directory of cgroup2 has it, none of version 1


def choose(socket_lb: bool | str | os.PathLike[str]) -> str | None:
    """The directory that Datapath.open was asked for: True is the root, False is none."""
    if socket_lb is False:
        return None
    if socket_lb is True:
        return str(root())
    return str(directory("socket_lb", socket_lb))


def root() -> Path:
    """Where cgroup2 is mounted; NotSupportedError where it is not."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    error = NotSupportedError("cgroup2")
    error.meaning = "no cgroup2 file system is mounted"
    error.hint = "mount -t cgroup2 cgroup2 /sys/fs/cgroup"
    raise error


def directory(field: str, given: object) -> Path:
    """A directory of cgroup2 with its links resolved; SpecError for anything else."""
    if isinstance(given, (str, os.PathLike)) and not isinstance(given, bytes):
        path = Path(given).resolve()
        if (path / _MARK).exists():
            return path
    raise SpecError(field, given, f"a directory of a cgroup2 file system{_example()}")


def number(path: str | os.PathLike[str]) -> int:
    """The kernel's id of a cgroup, which is its inode; 0 where it is gone."""
    try:
        return Path(path).stat().st_ino
    except OSError:
        return 0


def _example() -> str:
    try:
        return f", such as {root()}"
    except NotSupportedError:
        return "; none is mounted here"
