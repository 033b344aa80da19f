# SPDX-License-Identifier: Apache-2.0
"""A cgroup of the test's own, with this process in it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pycilium.datapath import cgroup


def current() -> Path:
    """Where this process is."""
    line = next(x for x in Path("/proc/self/cgroup").read_text().splitlines() if x[:3] == "0::")
    return cgroup.root() / line[4:]


@contextmanager
def inside(name: str) -> Iterator[Path]:
    """Make a cgroup2 directory and move this process in; out and away at the end."""
    before, made = current(), cgroup.root() / f"{name}-{os.getpid()}"
    made.mkdir()
    (made / "cgroup.procs").write_text(str(os.getpid()))
    try:
        yield made
    finally:
        (before / "cgroup.procs").write_text(str(os.getpid()))
        remove(made)


def remove(made: Path, seconds: float = 5) -> None:
    """A cgroup is busy until the last process in it is reaped."""
    end = time.monotonic() + seconds
    while True:
        try:
            made.rmdir()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
        else:
            return
