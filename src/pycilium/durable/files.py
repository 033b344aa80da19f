# SPDX-License-Identifier: Apache-2.0
"""Files that are replaced whole: written beside, synced, renamed, the directory synced."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pycilium.errors import KernelError


@contextmanager
def errors(operation: str, path: Path) -> Iterator[None]:
    """An OSError inside becomes a KernelError that names the operation and the file."""
    try:
        yield
    except KernelError:
        raise
    except OSError as error:
        raise KernelError(error.errno or 0, operation, str(path)) from error


def replace(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Put a file in place of another; the old one stays whole if anything fails (KernelError)."""
    with errors("write", path):
        os.close(replace_open(path, content, mode))


def replace_open(path: Path, content: bytes, mode: int) -> int:
    """The same; the descriptor of what is now at the path."""
    fresh = path.with_name(path.name + ".new")
    fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        os.fchmod(fd, mode)  # whatever the umask is, and whatever an earlier try left
        write_at(fd, content, 0)
        os.fsync(fd)
        fresh.rename(path)
    except BaseException:
        os.close(fd)
        with suppress(OSError):
            fresh.unlink()
        raise
    try:
        sync_directory(path.parent)
    except BaseException:
        os.close(fd)
        raise
    return fd


def write_at(fd: int, content: bytes, offset: int) -> None:
    """All of it: a nearly full disk takes only a part at once."""
    while content:
        written = os.pwrite(fd, content, offset)
        content, offset = content[written:], offset + written


def sync_directory(path: Path) -> None:
    """Make names that were made or removed in a directory last."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
