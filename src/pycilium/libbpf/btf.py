# SPDX-License-Identifier: Apache-2.0
"""BTF, the type information of programs and maps: parsed here, turned into codecs and enums.

Format: the kernel's Documentation/bpf/btf.rst.
"""

from __future__ import annotations

import enum
import struct
from functools import cached_property
from typing import Any

import attrs

from pycilium.errors import SpecError
from pycilium.libbpf.codec import (
    ArrayCodec,
    BytesCodec,
    Codec,
    Field,
    IntCodec,
    StructCodec,
    UnionCodec,
)

_HEADER = struct.Struct("<HBBIIIII")
_TYPE = struct.Struct("<III")
_MAGIC = 0xEB9F


class Kind(enum.IntEnum):
    """BTF_KIND_*."""

    VOID = 0
    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


_TRANSPARENT = {Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG}


@attrs.frozen
class Member:
    """A member of a struct, union, enum or data section; offset in bits or a value."""

    name: str
    type_id: int
    offset: int
    size: int = 0


@attrs.frozen
class Type:
    """One BTF type; `extra` is what its kind needs beyond the header."""

    id: int
    kind: Kind
    name: str
    size: int
    members: tuple[Member, ...] = ()
    extra: tuple[int, ...] = ()
    flag: bool = False


class Btf:
    """The types of one object, by id and by name.

    Raises SpecError where the bytes are no BTF.
    """

    def __init__(self, raw: bytes) -> None:
        if len(raw) < _HEADER.size:
            raise SpecError("btf", len(raw), "at least a header of 24 bytes")
        magic, _, _, header, type_at, type_size, string_at, string_size = _HEADER.unpack_from(raw)
        if magic != _MAGIC:
            raise SpecError("btf.magic", hex(magic), hex(_MAGIC))
        self._strings = raw[header + string_at : header + string_at + string_size]
        self._codecs: dict[int, Codec] = {}
        self.types = self._parse(raw[header + type_at : header + type_at + type_size])

    @cached_property
    def by_name(self) -> dict[tuple[Kind, str], Type]:
        """Named types; the first of a name counts."""
        named: dict[tuple[Kind, str], Type] = {}
        for one in self.types:
            named.setdefault((one.kind, one.name), one)
        return named

    def find(self, name: str) -> Type:
        """The struct, union, enum or typedef of that name; KeyError where there is none."""
        for kind in (Kind.STRUCT, Kind.UNION, Kind.ENUM, Kind.TYPEDEF):
            if (kind, name) in self.by_name:
                return self.by_name[kind, name]
        raise KeyError(name)

    def resolve(self, type_id: int) -> Type:
        """A type without its typedefs and qualifiers."""
        found = self.types[type_id]
        while found.kind in _TRANSPARENT:
            found = self.types[found.size]
        return found

    def codec(self, type_id: int) -> Codec:
        """Bytes to values and back for a type."""
        if type_id not in self._codecs:
            self._codecs[type_id] = self._make_codec(self.resolve(type_id))
        return self._codecs[type_id]

    def enum(self, name: str) -> type[enum.IntEnum]:
        """A Python enum with the names and values of a C one."""
        found = self.by_name[Kind.ENUM, name]
        members = {member.name: member.offset for member in found.members}
        make: Any = enum.IntEnum  # a name that is known at run time only
        made: type[enum.IntEnum] = make(name, members)
        return made

    def _make_codec(self, found: Type) -> Codec:
        if found.kind in (Kind.INT, Kind.ENUM, Kind.ENUM64, Kind.PTR):
            return IntCodec(8 if found.kind == Kind.PTR else found.size, signed=found.flag)
        if found.kind == Kind.ARRAY:
            return self._array_codec(found)
        if found.kind == Kind.STRUCT:
            return StructCodec(found.name or "anonymous", found.size, self._fields(found))
        if found.kind == Kind.UNION:
            return UnionCodec(found.name or "anonymous", found.size, self._fields(found))
        raise SpecError("btf.kind", found.kind.name, "int, enum, array, struct or union")

    def _array_codec(self, found: Type) -> Codec:
        element, length = found.extra[0], found.extra[2]
        inner = self.codec(element)
        if isinstance(inner, IntCodec) and inner.size == 1:
            return BytesCodec(length)
        return ArrayCodec(inner, length)

    def _fields(self, found: Type) -> tuple[Field, ...]:
        fields = []
        for member in found.members:
            if found.flag and member.offset >> 24:
                raise SpecError(f"{found.name}.{member.name}", "bitfield", "whole bytes")
            fields.append(Field(member.name, member.offset // 8, self.codec(member.type_id)))
        return tuple(fields)

    def _name(self, offset: int) -> str:
        return self._strings[offset : self._strings.index(b"\0", offset)].decode()

    def _parse(self, raw: bytes) -> list[Type]:
        types = [Type(0, Kind.VOID, "void", 0)]
        position = 0
        while position < len(raw):
            name, info, size = _TYPE.unpack_from(raw, position)
            position += _TYPE.size
            one, used = self._parse_one(raw, position, len(types), name, info, size)
            types.append(one)
            position += used
        return types

    def _parse_one(
        self, raw: bytes, at: int, number: int, name: int, info: int, size: int
    ) -> tuple[Type, int]:
        count, kind, flag = info & 0xFFFF, Kind(info >> 24 & 0x1F), bool(info >> 31)
        members: tuple[Member, ...] = ()
        extra: tuple[int, ...] = ()
        used = 0
        if kind == Kind.INT:
            (encoding,) = struct.unpack_from("<I", raw, at)
            flag, used = bool(encoding >> 24 & 1), 4
        elif kind == Kind.ARRAY:
            extra, used = struct.unpack_from("<III", raw, at), 12
        elif kind in (Kind.STRUCT, Kind.UNION):
            members, used = self._members(raw, at, count, "<III"), 12 * count
        elif kind == Kind.DATASEC:
            members, used = self._sections(raw, at, count), 12 * count
        elif kind == Kind.ENUM:
            members, used = self._values(raw, at, count, flag), 8 * count
        elif kind == Kind.ENUM64:
            used = 12 * count
        elif kind == Kind.FUNC_PROTO:
            used = 8 * count
        elif kind in (Kind.VAR, Kind.DECL_TAG):
            used = 4
        return Type(number, kind, self._name(name), size, members, extra, flag), used

    def _members(self, raw: bytes, at: int, count: int, layout: str) -> tuple[Member, ...]:
        rows = struct.iter_unpack(layout, raw[at : at + 12 * count])
        return tuple(Member(self._name(name), type_id, offset) for name, type_id, offset in rows)

    def _sections(self, raw: bytes, at: int, count: int) -> tuple[Member, ...]:
        rows = struct.iter_unpack("<III", raw[at : at + 12 * count])
        return tuple(Member("", type_id, offset, size) for type_id, offset, size in rows)

    def _values(self, raw: bytes, at: int, count: int, signed: bool) -> tuple[Member, ...]:
        rows: Any = struct.iter_unpack("<Ii" if signed else "<II", raw[at : at + 8 * count])
        return tuple(Member(self._name(name), 0, value) for name, value in rows)
