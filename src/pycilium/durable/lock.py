# SPDX-License-Identifier: Apache-2.0
"""A lock between processes that a death releases: flock(2) on a file of its own."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

from pycilium.durable.files import errors
from pycilium.errors import ConflictError

_RETRY_SECONDS = 0.005


class Lock:
    """Made by acquire(); close() lets the next one in."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd

    @classmethod
    def acquire(cls, path: Path, *, wait: float = 0.0) -> Lock:
        """Take it, waiting at most so many seconds; ConflictError names who has it."""
        end = time.monotonic() + wait
        with errors("open", path):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while not _try(fd):
                if time.monotonic() >= end:
                    raise ConflictError(f"{path} is held by process {_holder(fd)}")
                time.sleep(_RETRY_SECONDS)
            with suppress(OSError):  # a courtesy for who is refused; a full disk has no room for it
                os.ftruncate(fd, 0)
                os.pwrite(fd, str(os.getpid()).encode(), 0)
        except BaseException:
            os.close(fd)
            raise
        return cls(path, fd)

    def close(self) -> None:
        """Give it back; the file stays, for whoever waits on it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _try(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(fd: int) -> str:
    return os.pread(fd, 20, 0).decode("ascii", "replace") or "unknown"
