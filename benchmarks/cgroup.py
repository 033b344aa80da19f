# SPDX-License-Identifier: Apache-2.0
"""A cgroup of the run's own: only the clients of one path are in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pycilium.datapath import cgroup


@contextmanager
def made(name: str) -> Iterator[Path]:
    """A directory of cgroup2 while the context lasts."""
    directory = cgroup.root() / f"pcl-bench-{os.getpid()}-{name}"
    directory.mkdir()
    try:
        yield directory
    finally:
        directory.rmdir()


@contextmanager
def joined(directory: Path | None) -> Iterator[None]:
    """What is started meanwhile is in the cgroup, and this process for that long."""
    if directory is None:
        yield
        return
    own = next(x for x in Path("/proc/self/cgroup").read_text().splitlines() if x[:3] == "0::")
    before = cgroup.root() / own[4:]
    _move(directory)
    try:
        yield
    finally:
        _move(before)


def _move(directory: Path) -> None:
    (directory / "cgroup.procs").write_text(str(os.getpid()))
