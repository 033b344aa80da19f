# SPDX-License-Identifier: Apache-2.0
"""Bytes to Python values and back, for the types that maps and events hold.

Integers are int, byte arrays bytes, other arrays tuples, structs and unions named tuples.
Every codec also takes bytes of its exact size.
"""

from __future__ import annotations

import struct
from collections import namedtuple
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import attrs

from pycilium.errors import SpecError

Buffer = bytes | bytearray | memoryview
_INT_FORMATS = {1: "b", 2: "h", 4: "i", 8: "q"}


class Codec(Protocol):
    """One type's layout."""

    @property
    def size(self) -> int:
        """Bytes that a value takes."""

    def encode(self, value: Any) -> bytes:
        """A value's bytes; SpecError where it does not fit."""

    def decode(self, buffer: Buffer, offset: int = 0) -> Any:
        """The value at an offset."""


@attrs.frozen
class IntCodec:
    """A little-endian integer of 1, 2, 4, 8 or 16 bytes."""

    size: int
    signed: bool = False

    def encode(self, value: Any) -> bytes:
        """Refuse what the size cannot hold."""
        if isinstance(value, bytes):
            return _exact(value, self.size)
        try:
            return int(value).to_bytes(self.size, "little", signed=self.signed)
        except (OverflowError, TypeError, ValueError):
            kind = "a signed" if self.signed else "an unsigned"
            raise SpecError("value", value, f"{kind} integer of {self.size * 8} bits") from None

    def decode(self, buffer: Buffer, offset: int = 0) -> int:
        """The integer at an offset."""
        return int.from_bytes(buffer[offset : offset + self.size], "little", signed=self.signed)


@attrs.frozen
class BytesCodec:
    """An array of single bytes; a shorter value is padded with zeros."""

    size: int

    def encode(self, value: Any) -> bytes:
        """Pad, but never cut."""
        data = bytes(value)
        if len(data) > self.size:
            raise SpecError("value", value, f"at most {self.size} bytes")
        return data.ljust(self.size, b"\0")

    def decode(self, buffer: Buffer, offset: int = 0) -> bytes:
        """The bytes at an offset."""
        return bytes(buffer[offset : offset + self.size])


@attrs.frozen
class ArrayCodec:
    """A fixed number of elements."""

    element: Codec
    length: int

    @property
    def size(self) -> int:
        """All elements."""
        return self.element.size * self.length

    def encode(self, value: Any) -> bytes:
        """Exactly as many elements as the array has."""
        if isinstance(value, bytes):
            return _exact(value, self.size)
        if len(value) != self.length:
            raise SpecError("value", value, f"{self.length} elements")
        return b"".join(self.element.encode(one) for one in value)

    def decode(self, buffer: Buffer, offset: int = 0) -> tuple[Any, ...]:
        """The elements at an offset."""
        step = self.element.size
        return tuple(self.element.decode(buffer, offset + i * step) for i in range(self.length))


@attrs.frozen
class Field:
    """A member and where it lies, in bytes."""

    name: str
    offset: int
    codec: Codec


class StructCodec:
    """A struct: a named tuple out; a mapping, named tuple or bytes in."""

    def __init__(self, name: str, size: int, fields: tuple[Field, ...]) -> None:
        self.name = name
        self.size = size
        self.fields = fields
        self._by_name = {field.name: field for field in fields}
        self.record: Any = namedtuple(name, [field.name for field in fields], rename=True)  # type: ignore[misc]
        self._flat = _flat_format(fields, size)
        self._packing = _flat_format(fields, size, opaque_unions=True)
        self._zeros = [(field.name, _zero(field.codec)) for field in fields]

    def encode(self, value: Any) -> bytes:
        """Missing fields are zero; an unknown field is a SpecError."""
        if isinstance(value, (bytes, bytearray)):
            return _exact(bytes(value), self.size)
        if type(value) is dict and self._packing is not None:
            packed = self._pack(value)
            if packed is not None:
                return packed
        return self._encode_members(value)

    def _pack(self, value: dict[str, Any]) -> bytes | None:
        """All fields in one step, as most are: integers, and bytes of the right size."""
        values = []
        for name, zero in self._zeros:
            one = value.get(name, zero)
            if type(one) is not type(zero) or (zero and len(one) != len(zero)):  # type: ignore[arg-type]
                return None
            values.append(one)
        if len(value) > len(values) or not value.keys() <= self._by_name.keys():
            return None
        try:
            return self._packing.pack(*values)  # type: ignore[union-attr]
        except struct.error:
            return None

    @property
    def pack(self) -> Callable[..., bytes] | None:
        """From all fields' values in their order, where they can be packed in one step."""
        return self._packing.pack if self._packing is not None else None

    def _encode_members(self, value: Any) -> bytes:
        data = bytearray(self.size)
        for name, one in _members(self.name, value):
            field = self._by_name.get(name)
            if field is None:
                raise SpecError(f"{self.name}.{name}", one, f"one of {', '.join(self._by_name)}")
            data[field.offset : field.offset + field.codec.size] = field.codec.encode(one)
        return bytes(data)

    def decode(self, buffer: Buffer, offset: int = 0) -> Any:
        """A named tuple of the fields."""
        if self._flat is not None:
            return self.record._make(self._flat.unpack_from(buffer, offset))
        return self.record._make(
            field.codec.decode(buffer, offset + field.offset) for field in self.fields
        )


class UnionCodec:
    """A union: every view out; one view, or bytes, in."""

    def __init__(self, name: str, size: int, fields: tuple[Field, ...]) -> None:
        self.name = name
        self.size = size
        self.fields = fields
        self._by_name = {field.name: field for field in fields}
        self.record: Any = namedtuple(name, [field.name for field in fields], rename=True)  # type: ignore[misc]

    def encode(self, value: Any) -> bytes:
        """From the first view of a decoded union, a mapping with one view, or bytes."""
        if isinstance(value, (bytes, bytearray)):
            return BytesCodec(self.size).encode(value)
        views = list(_members(self.name, value))
        if len(views) == len(self.fields) and not isinstance(value, Mapping):
            views = views[:1]
        if len(views) != 1 or views[0][0] not in self._by_name:
            raise SpecError(self.name, value, f"exactly one of {', '.join(self._by_name)}")
        name, one = views[0]
        return self._by_name[name].codec.encode(one).ljust(self.size, b"\0")

    def decode(self, buffer: Buffer, offset: int = 0) -> Any:
        """A named tuple of all views."""
        return self.record._make(field.codec.decode(buffer, offset) for field in self.fields)


def struct_fields(codec: Codec | None) -> tuple[tuple[str, int, int, bool], ...]:
    """Name, offset, size and whether it is a whole number, of each field of a struct.

    For arrays of many; SpecError where the codec is of no struct.
    """
    if not isinstance(codec, StructCodec):
        raise SpecError("codec", codec, "a struct")
    return tuple(
        (one.name, one.offset, one.codec.size, isinstance(one.codec, IntCodec))
        for one in codec.fields
    )


def packer(codec: Codec | None, *names: str) -> Callable[..., bytes]:
    """A function from these fields' values, in their order, to bytes; for many of a kind.

    SpecError where the codec's struct has other fields or cannot be packed in one step. The
    function raises struct.error for a value that does not fit.
    """
    if not isinstance(codec, StructCodec) or codec.pack is None:
        raise SpecError("codec", codec, "a struct of integers and bytes")
    fields = tuple(field.name for field in codec.fields)
    if names != fields:
        raise SpecError(codec.name, names, f"the fields {', '.join(fields)}, in this order")
    return codec.pack


def _members(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return value.items()
    if hasattr(value, "_asdict"):
        return value._asdict().items()
    raise SpecError(name, value, "a mapping, a record or bytes")


def _zero(codec: Codec) -> int | bytes:
    return 0 if isinstance(codec, IntCodec) else bytes(codec.size)


def _flat_format(
    fields: tuple[Field, ...], size: int, *, opaque_unions: bool = False
) -> struct.Struct | None:
    """One struct format where all fields are integers or bytes: much faster than each alone."""
    layout, position = "<", 0
    for field in fields:
        layout += f"{field.offset - position}x"
        if isinstance(field.codec, IntCodec) and field.codec.size in _INT_FORMATS:
            letter = _INT_FORMATS[field.codec.size]
            layout += letter if field.codec.signed else letter.upper()
        elif isinstance(field.codec, BytesCodec) or (
            opaque_unions and isinstance(field.codec, UnionCodec)
        ):
            layout += f"{field.codec.size}s"
        else:
            return None
        position = field.offset + field.codec.size
    return struct.Struct(f"{layout}{size - position}x")


def _exact(value: bytes, size: int) -> bytes:
    if len(value) != size:
        raise SpecError("value", value, f"{size} bytes")
    return value
