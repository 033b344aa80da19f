# SPDX-License-Identifier: Apache-2.0
"""What a pinned datapath must know of itself after kill -9, kept in a pinned map.

The map has a header chunk and two banks of chunks. A new text goes into the bank that is not
in use, and the header, which says bank, length and checksum, is written last: whoever reads
finds the old text or the new one, whole.
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import TYPE_CHECKING, Any

from pycilium.errors import ConflictError, MapFullError

if TYPE_CHECKING:
    from pycilium.libbpf import Map

_HEADER = struct.Struct("<4sIIII")  # magic, generation, bank, length, crc32
_MAGIC = b"pcl1"


class Manifest:
    """JSON in `pcl_manifest`; `map` is None where the datapath is scoped and keeps none."""

    def __init__(self, store: Map | None) -> None:
        self._store = store
        self._written: dict[str, Any] | None = None

    def write(self, content: dict[str, Any]) -> None:
        """Replace the text if it changes; MapFullError before anything is written."""
        if self._store is None or content == self._written:
            return
        text = zlib.compress(json.dumps(content, separators=(",", ":")).encode(), 1)
        generation, bank = self._position()
        self._write_chunks(1 - bank, text)
        header = _HEADER.pack(_MAGIC, generation + 1, 1 - bank, len(text), zlib.crc32(text))
        self._store[0] = {"bytes": header}
        self._written = content

    def move(self, store: Map) -> None:
        """Go on with another descriptor of the same map."""
        self._store = store

    def read(self) -> dict[str, Any]:
        """The last text that was written whole; ConflictError where there is none."""
        assert self._store is not None
        magic, _, bank, length, crc = _HEADER.unpack_from(self._store[0].bytes)
        if magic != _MAGIC:
            raise ConflictError(f"map {self._store.name} holds no manifest: not a datapath's pin")
        size = self._chunk_size
        first = self._first(bank)
        text = b"".join(
            self._store[first + i].bytes for i in range((length + size - 1) // size)
        )[:length]  # fmt: skip
        if zlib.crc32(text) != crc:
            raise ConflictError(f"the manifest in map {self._store.name} is damaged")
        content: dict[str, Any] = json.loads(zlib.decompress(text))
        self._written = content
        return content

    @property
    def _chunk_size(self) -> int:
        assert self._store is not None
        return self._store.value_size

    @property
    def _bank_chunks(self) -> int:
        assert self._store is not None
        return (self._store.max_entries - 1) // 2

    def _first(self, bank: int) -> int:
        return 1 + bank * self._bank_chunks

    def _position(self) -> tuple[int, int]:
        assert self._store is not None
        magic, generation, bank, _, _ = _HEADER.unpack_from(self._store[0].bytes)
        return (generation, bank) if magic == _MAGIC else (0, 1)

    def _write_chunks(self, bank: int, text: bytes) -> None:
        assert self._store is not None
        size = self._chunk_size
        chunks = [text[at : at + size].ljust(size, b"\0") for at in range(0, len(text), size)]
        if len(chunks) > self._bank_chunks:
            raise MapFullError(self._store.name, needed=len(chunks), used=0, size=self._bank_chunks)
        first = self._first(bank)
        keys = b"".join((first + i).to_bytes(4, "little") for i in range(len(chunks)))
        self._store.batch_update(keys, b"".join(chunks), len(chunks))
