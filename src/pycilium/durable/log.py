# SPDX-License-Identifier: Apache-2.0
"""A log of JSON records, each whole or absent: written ahead of what it describes.

One line for each record: eight hex digits of CRC-32, a space, JSON. The first record says what
kind of log it is and by which schema. The last line is torn where a write was cut off: it was
acknowledged to nobody and goes. A bad line elsewhere is damage: the file is set aside, every
record that can be read is kept, and `problems` says what happened.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from pycilium.durable.files import errors, replace_open, sync_directory, write_at
from pycilium.errors import ClosedError, ConflictError, KernelError

Record = dict[str, Any]


class Log:
    """Made by open(). One process at a time: the caller holds a Lock."""

    def __init__(self, path: Path, header: Record) -> None:
        self.path = path
        self.records: tuple[Record, ...] = ()  # as they stood when it was opened
        self.problems: tuple[str, ...] = ()
        self.lines = 0
        self._header = header
        self._fd = -1
        self._end = 0
        self._torn = False  # what lies beyond _end is not ours
        self._unnamed = False  # the directory may still have the old file
        self._behind = False  # the file is not what `records` says

    @classmethod
    def open(cls, path: Path, *, kind: str, schema: int) -> Log:
        """Read a log, or begin one; its directory must exist.

        Raises KernelError where it cannot be read or begun, ConflictError where it is of another
        kind or a newer schema, which leaves it as it is.
        """
        log = cls(path, {"kind": kind, "schema": schema})
        content = _read(path)
        if content is None:
            log.rewrite(())
            return log
        log._load(content)
        return log

    def append(self, record: Record) -> None:
        """Add a record: it lasts when this returns, and is not there when it raises KernelError."""
        self._settle()
        line = _line(record)
        try:
            with errors("append to", self.path):
                write_at(self._fd, line, self._end)
                os.fdatasync(self._fd)
        except KernelError:
            self._torn = True
            with suppress(KernelError):
                self._cut()
            raise
        self._end += len(line)
        self.lines += 1

    def rewrite(self, records: Iterable[Record]) -> None:
        """Put these records in place of all; KernelError leaves the old ones."""
        lines = [_line(record) for record in (self._header, *records)]
        content = b"".join(lines)
        with errors("write", self.path):
            try:
                fd = replace_open(self.path, content, 0o600)
            except OSError:
                self._reopen()
                raise
        self._use(fd, len(content), len(lines) - 1)

    def close(self) -> None:
        """Close the file; nothing is left to be written."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -2

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _load(self, content: bytes) -> None:
        found, problems = _parse(content, self._header, self.path)
        self.records = tuple(found)
        if problems:
            aside = _set_aside(self.path)
            self.problems = tuple(f"{one}; the file is kept as {aside}" for one in problems)
        whole = b"".join(map(_line, (self._header, *found)))
        if whole == content:
            self._use(os.open(self.path, os.O_RDWR | os.O_CLOEXEC), len(content), len(found))
            return
        try:
            self.rewrite(found)
        except KernelError as error:
            self._behind = True
            self.problems += (f"{error}; it is tried again before the next change",)

    def _settle(self) -> None:
        """Finish what an earlier failure left undone, or fail before anything is added."""
        if self._fd == -2:
            raise ClosedError(f"log {self.path} is closed")
        if self._behind:
            self.rewrite(self.records)
            self._behind = False
        if self._torn:
            self._cut()
        if self._unnamed:
            with errors("sync", self.path.parent):
                sync_directory(self.path.parent)
            self._unnamed = False

    def _cut(self) -> None:
        with errors("truncate", self.path):
            os.ftruncate(self._fd, self._end)
            os.fdatasync(self._fd)
        self._torn = False

    def _use(self, fd: int, end: int, lines: int) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._end, self.lines = fd, end, lines
        self._torn = self._unnamed = False

    def _reopen(self) -> None:
        """After a rewrite that failed: the path has the old file, or the new one unsynced."""
        with suppress(OSError):
            if self._stands():
                return
            fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
            content = os.pread(fd, os.fstat(fd).st_size, 0)
            end = content.rfind(b"\n") + 1
            self._use(fd, end, max(content.count(b"\n") - 1, 0))
            self._torn, self._unnamed = end != len(content), True

    def _stands(self) -> bool:
        """Whether the open file is still what the path means."""
        return self._fd >= 0 and os.path.samestat(os.fstat(self._fd), self.path.stat())


def _read(path: Path) -> bytes | None:
    try:
        with errors("read", path):
            return path.read_bytes()
    except KernelError as error:
        if error.errno != 2:
            raise
        return None


def _line(record: Record) -> bytes:
    text = json.dumps(record, separators=(",", ":"), sort_keys=True).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _parse(content: bytes, header: Record, path: Path) -> tuple[list[Record], list[str]]:
    """The records that are whole, and what is damaged."""
    *lines, _torn = content.split(b"\n")
    parsed = [_record(line) for line in lines]
    problems = [
        f"{path}: line {number} is damaged and was left out"
        for number, one in enumerate(parsed, 1)
        if one is None
    ]
    found = [one for one in parsed if one is not None]
    if found and "schema" in found[0]:
        _require_ours(found.pop(0), header, path)
    else:
        problems.insert(0, f"{path}: its first line does not say what it is")
    return found, problems


def _record(line: bytes) -> Record | None:
    checksum, _, text = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        return None
    try:
        record = json.loads(text)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _require_ours(found: Record, header: Record, path: Path) -> None:
    kind, schema = found.get("kind"), found["schema"]
    if kind != header["kind"] or not isinstance(schema, int) or schema > header["schema"]:
        raise ConflictError(
            f"{path} is a log of {kind} by schema {schema}; this pycilium "
            f"reads {header['kind']} up to schema {header['schema']}"
        )


def _set_aside(path: Path) -> Path:
    """Another name for the damaged file, which is about to be replaced."""
    for number in range(1, 1000):
        aside = path.with_name(f"{path.name}.damaged-{number}")
        with suppress(FileExistsError):
            with errors("keep the damaged", path):
                os.link(path, aside)
            return aside
    raise ConflictError(f"{path}: a thousand damaged files are kept beside it; remove some")
