# SPDX-License-Identifier: Apache-2.0
"""A map as a Python mapping: keys and values by the codecs of its BTF types."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any

from pycilium.errors import MapFullError, SpecError
from pycilium.failure import Failure
from pycilium.libbpf._native import check, ffi, lib
from pycilium.libbpf.btf import Btf
from pycilium.libbpf.codec import BytesCodec, Codec
from pycilium.libbpf.handle import Handle, open_pin
from pycilium.libbpf.kinds import MapType
from pycilium.libbpf.spec import MapSpec

_CHUNK = 4096
_UNSUPPORTED = {errno.EOPNOTSUPP, errno.EINVAL, 524}


class Map(Handle, MutableMapping[Any, Any]):
    """A BPF map; per-CPU maps hold a list with one value per possible CPU."""

    kind = "map"

    def __init__(self, fd: int, info: Any, like: MapSpec | None) -> None:
        super().__init__(fd, like.name if like else ffi.string(info.name).decode())
        self.id: int = info.id
        self.type = MapType(info.type)
        self.key_size: int = info.key_size
        self.value_size: int = info.value_size
        self.max_entries: int = info.max_entries
        self.flags: int = info.map_flags
        self.inner = like.inner if like else None
        key, value = (like.key, like.value) if like else _kernel_codecs(info)
        self.key_codec: Codec = key or BytesCodec(self.key_size)
        self.value_codec: Codec = value or BytesCodec(self.value_size)
        self._cpus = lib.libbpf_num_possible_cpus() if self.type.per_cpu else 1
        self._slot = (self.value_size + 7 & ~7) if self.type.per_cpu else self.value_size
        self._row = self._slot * self._cpus

    @classmethod
    def from_fd(cls, fd: int, *, like: MapSpec | None = None) -> Map:
        """Take over a descriptor; `like` brings the codecs of a spec."""
        info = ffi.new("struct bpf_map_info *")
        size = ffi.new("__u32 *", ffi.sizeof("struct bpf_map_info"))
        check(lib.bpf_obj_get_info_by_fd(fd, info, size), "read map", str(fd))
        return cls(fd, info, like)

    @classmethod
    def from_pin(cls, path: str | os.PathLike[str], *, like: MapSpec | None = None) -> Map:
        """Open what is pinned at a path."""
        return cls.from_fd(open_pin(path), like=like)

    @classmethod
    def from_id(cls, number: int, *, like: MapSpec | None = None) -> Map:
        """Borrow a map that somebody made."""
        fd = check(lib.bpf_map_get_fd_by_id(number), "open map", str(number))
        return cls.from_fd(fd, like=like)

    def create_inner(self, max_entries: int) -> Map:
        """A new map that fits into this map of maps."""
        spec = self.inner
        if spec is None:
            raise SpecError("map", self.name, "a map of maps whose inner type is known")
        name = self.name[:15].encode()
        fd = lib.pcl_map_create(
            spec.type, name, spec.key_size, spec.value_size, max_entries, spec.flags
        )
        facts = Failure(
            map_type=spec.type.name,
            key_size=spec.key_size,
            value_size=spec.value_size,
            max_entries=max_entries,
            flags=spec.flags,
        )
        return Map.from_fd(check(fd, "create map", f"inner of {self.name}", facts), like=spec)

    def __getitem__(self, key: Any) -> Any:
        raw = self.lookup(self.key_codec.encode(key))
        if raw is None:
            raise KeyError(key)
        return self._decode(raw)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.store(self.key_codec.encode(key), self._encode(value))

    def __delitem__(self, key: Any) -> None:
        result = lib.bpf_map_delete_elem(self.fd, self.key_codec.encode(key))
        if result == -errno.ENOENT:
            raise KeyError(key)
        check(result, "delete from map", self.name)

    def __contains__(self, key: object) -> bool:
        return self.lookup(self.key_codec.encode(key)) is not None

    def __iter__(self) -> Iterator[Any]:
        keys, _, count = self.batch_lookup()
        for i in range(count):
            yield self.key_codec.decode(keys, i * self.key_size)

    def __len__(self) -> int:
        return self.max_entries if self.type.array else self.batch_lookup()[2]

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        kind = self.type.name.lower()
        return f"<Map {self.name} {kind} max_entries={self.max_entries} id={self.id}>"

    def pairs(self) -> list[tuple[Any, Any]]:
        """All entries, read in bulk: a snapshot while the map changes, no key twice."""
        keys, values, count = self.batch_lookup()
        decode_key, decode = self.key_codec.decode, self._decode
        return [
            (decode_key(keys, i * self.key_size), decode(values, i * self._row))
            for i in range(count)
        ]

    def items(self) -> Any:
        """See pairs()."""
        return dict(self.pairs()).items()

    def values(self) -> Any:
        """The values of pairs()."""
        return [value for _, value in self.pairs()]

    def update(self, entries: Any = (), /, **named: Any) -> None:
        """Write many entries with few system calls; MapFullError where they do not fit."""
        if named:
            raise SpecError("entries", named, "one mapping or pairs")
        pairs: Iterable[tuple[Any, Any]]
        pairs = list(entries.items() if isinstance(entries, Mapping) else entries)
        keys = b"".join(self.key_codec.encode(key) for key, _ in pairs)
        values = b"".join(self._encode(value) for _, value in pairs)
        self.batch_update(keys, values, len(pairs))

    def remove(self, keys: Iterable[Any]) -> None:
        """Delete many entries; what is absent is fine."""
        self._remove_packed(self.key_codec.encode(key) for key in keys)

    def _remove_packed(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            result = lib.bpf_map_delete_elem(self.fd, key)
            if result != -errno.ENOENT:
                check(result, "delete from map", self.name)

    def batch_delete(self, keys: Any, count: int) -> None:
        """Delete `count` packed keys with few system calls; what is absent is fine."""
        if len(keys) != self.key_size * count:
            raise SpecError(f"{self.name}.keys", len(keys), f"{self.key_size * count} bytes")
        at = 0
        while at < count:
            done = ffi.new("__u32 *", count - at)
            rest = ffi.from_buffer(keys)[at * self.key_size : count * self.key_size]
            result = lib.pcl_map_delete_batch(self.fd, rest, done)
            if -result in _UNSUPPORTED:
                width = self.key_size
                self._remove_packed(keys[i * width : (i + 1) * width] for i in range(at, count))
                return
            if result != -errno.ENOENT:
                check(result, "delete from map", self.name)
            at += done[0] + (result == -errno.ENOENT)

    def lookup(self, key: bytes) -> bytes | None:
        """The bytes of one value, or None."""
        value = ffi.new("char[]", self._row)
        result = lib.bpf_map_lookup_elem(self.fd, key, value)
        if result == -errno.ENOENT:
            return None
        check(result, "look up in map", self.name)
        return bytes(ffi.buffer(value))

    def store(self, key: bytes, value: bytes) -> None:
        """Write the bytes of one entry."""
        self._written(lib.bpf_map_update_elem(self.fd, key, value, 0), 1)

    def batch_update(self, keys: Any, values: Any, count: int) -> None:
        """Write `count` packed entries: keys of key_size, values of value_size bytes each.

        Raises SpecError for buffers of another length and MapFullError.
        """
        for field, buffer, size in (("keys", keys, self.key_size), ("values", values, self._row)):
            if len(buffer) != size * count:
                raise SpecError(f"{self.name}.{field}", len(buffer), f"{size * count} bytes")
        if not count:
            return
        done = ffi.new("__u32 *", count)
        key_buffer, value_buffer = ffi.from_buffer(keys), ffi.from_buffer(values)
        result = lib.pcl_map_update_batch(self.fd, key_buffer, value_buffer, done)
        if -result in _UNSUPPORTED and not done[0] % count:
            self._update_singly(bytes(keys), bytes(values), count)
            return
        self._written(result, count)

    def batch_lookup(self) -> tuple[bytes, bytes, int]:
        """All entries as packed keys, packed values and their number."""
        rows = self._lookup_batches()
        return rows if rows is not None else self._lookup_singly(self._walk_keys())

    def _lookup_batches(self) -> tuple[bytes, bytes, int] | None:
        """Bucket by bucket, so that no entry comes twice; None where the kernel cannot."""
        place = [ffi.new("char[]", max(self.key_size, 8)) for _ in range(2)]
        keys, values, total, room, start = bytearray(), bytearray(), 0, _CHUNK, True
        while True:
            key_buffer = ffi.new("char[]", room * self.key_size)
            value_buffer = ffi.new("char[]", room * self._row)
            count = ffi.new("__u32 *", room)
            result = lib.pcl_map_lookup_batch(
                self.fd, ffi.NULL if start else place[0], place[1], key_buffer, value_buffer, count
            )
            if result == -errno.ENOSPC:  # one bucket holds more than there is room for
                room *= 2
                continue
            if start and -result in _UNSUPPORTED:
                return None
            if result and result != -errno.ENOENT:
                check(result, "read map", self.name)
            keys += ffi.buffer(key_buffer)[: count[0] * self.key_size]
            values += ffi.buffer(value_buffer)[: count[0] * self._row]
            total += count[0]
            if result:
                return bytes(keys), bytes(values), total
            place.reverse()
            start = False

    def _lookup_singly(self, wanted: Iterable[bytes]) -> tuple[bytes, bytes, int]:
        keys, values, total = bytearray(), bytearray(), 0
        for key in wanted:
            value = self.lookup(key)
            if value is not None:
                keys += key
                values += value
                total += 1
        return bytes(keys), bytes(values), total

    def _walk_keys(self) -> list[bytes]:
        """get_next_key starts over where its key has gone: a set keeps that harmless."""
        seen: dict[bytes, None] = {}
        following = ffi.new("char[]", self.key_size)
        previous: Any = ffi.NULL
        repeats = 0
        while repeats <= self.max_entries:
            result = lib.bpf_map_get_next_key(self.fd, previous, following)
            if result == -errno.ENOENT:
                break
            check(result, "walk map", self.name)
            previous = bytes(ffi.buffer(following))
            repeats += previous in seen
            seen[previous] = None
        return list(seen)

    def _update_singly(self, keys: bytes, values: bytes, count: int) -> None:
        for i in range(count):
            key = keys[i * self.key_size : (i + 1) * self.key_size]
            self.store(key, values[i * self._row : (i + 1) * self._row])

    def _written(self, result: int, needed: int) -> None:
        full = result == -errno.E2BIG and not self.type.array and not self.type.of_maps
        if full or (result == -errno.ENOSPC and self.type == MapType.LPM_TRIE):
            used = len(self)
            if used + needed > self.max_entries:
                raise MapFullError(
                    self.name,
                    needed=needed,
                    used=used,
                    size=self.max_entries,
                    map_type=self.type.name,
                ).diagnosed()
        if result:
            facts = Failure(map_type=self.type.name, max_entries=self.max_entries)
            check(result, "update map", self.name, facts)

    def _encode(self, value: Any) -> bytes:
        if isinstance(value, Map):
            return value.fd.to_bytes(4, "little")
        if isinstance(value, Handle):
            return value.fd.to_bytes(4, "little")
        if not self.type.per_cpu:
            return self.value_codec.encode(value)
        values = value if isinstance(value, (list, tuple)) and len(value) == self._cpus else None
        if values is None or hasattr(value, "_fields"):
            raise SpecError(f"{self.name}.value", value, f"a list of {self._cpus} values")
        return b"".join(self.value_codec.encode(one).ljust(self._slot, b"\0") for one in values)

    def _decode(self, raw: bytes, offset: int = 0) -> Any:
        if self.type.of_maps:
            return int.from_bytes(raw[offset : offset + 4], "little")
        if not self.type.per_cpu:
            return self.value_codec.decode(raw, offset)
        decode = self.value_codec.decode
        return [decode(raw, offset + cpu * self._slot) for cpu in range(self._cpus)]


def _kernel_codecs(info: Any) -> tuple[Codec | None, Codec | None]:
    """Codecs of a map that somebody else made, from the BTF that it was made with."""
    if not info.btf_id or not info.btf_key_type_id:
        return None, None
    loaded = lib.btf__load_from_kernel_by_id(info.btf_id)
    if loaded == ffi.NULL:
        return None, None
    try:
        size = ffi.new("__u32 *")
        raw = lib.btf__raw_data(loaded, size)
        types = Btf(bytes(ffi.buffer(raw, size[0])))
    finally:
        lib.btf__free(loaded)
    return types.codec(info.btf_key_type_id), types.codec(info.btf_value_type_id)
