# SPDX-License-Identifier: Apache-2.0
"""AS_PATH: the autonomous systems that a route came through (RFC 4271, 5065, 6793)."""

from __future__ import annotations

import enum
import re
import struct
from collections.abc import Iterator
from functools import lru_cache

import attrs

from pycilium.errors import SpecError

AS_TRANS = 23456
MAX_ASN = 4294967295
_MAX_SEGMENT = 255


class SegmentType(enum.IntEnum):
    """How the numbers of a segment are to be read."""

    SET = 1
    SEQUENCE = 2
    CONFED_SEQUENCE = 3
    CONFED_SET = 4


_CONFED = (SegmentType.CONFED_SEQUENCE, SegmentType.CONFED_SET)
Segment = tuple[SegmentType, tuple[int, ...]]


@attrs.frozen(cache_hash=True)
class AsPath:
    """Segments, the nearest system first; "64512 64513 {64514 64515}" as text."""

    segments: tuple[Segment, ...] = ()

    @classmethod
    def of(cls, *numbers: int) -> AsPath:
        """One sequence."""
        return cls(((SegmentType.SEQUENCE, numbers),) if numbers else ())

    @classmethod
    def parse(cls, text: str) -> AsPath:
        """From text; a set is in braces. SpecError for anything else."""
        path: list[Segment] = []
        for group, number in _PARTS.findall(text):
            numbers = tuple(map(check_asn, map(int, group.split() if group else [number])))
            if not group and path and path[-1][0] is SegmentType.SEQUENCE:
                numbers = (*path.pop()[1], *numbers)
            path.append((SegmentType.SET if group else SegmentType.SEQUENCE, numbers))
        if _PARTS.sub("", text).strip():
            raise SpecError("as_path", text, "numbers, and sets in braces")
        return cls(tuple(path))

    @classmethod
    def decode(cls, data: bytes, *, wide: bool = True) -> AsPath:
        """From the wire, 4 octets for each number, or 2. ValueError where it is malformed."""
        size, letter = (4, "I") if wide else (2, "H")
        segments = []
        at = 0
        while at < len(data):
            if len(data) - at < 2:
                raise ValueError("one octet remains")
            kind, count = data[at], data[at + 1]
            end = at + 2 + count * size
            if not 1 <= kind <= 4 or not count or end > len(data):
                raise ValueError(f"segment of type {kind} with {count} numbers")
            numbers = struct.unpack_from(f"!{count}{letter}", data, at + 2)
            segments.append((SegmentType(kind), numbers))
            at = end
        return cls(tuple(segments))

    @lru_cache(maxsize=4096)  # noqa: B019 - paths are values, and most routes share few of them
    def encode(self, *, wide: bool = True) -> bytes:
        """For the wire; what does not fit in 2 octets is AS_TRANS there."""
        parts = []
        for kind, numbers in self.segments:
            for at in range(0, len(numbers), _MAX_SEGMENT):
                some = numbers[at : at + _MAX_SEGMENT]
                if not wide:
                    some = tuple(n if n <= 65535 else AS_TRANS for n in some)
                letter = "I" if wide else "H"
                parts.append(struct.pack(f"!BB{len(some)}{letter}", kind, len(some), *some))
        return b"".join(parts)

    @lru_cache(maxsize=4096)  # noqa: B019
    def prepend(self, asn: int, times: int = 1) -> AsPath:
        """With a number in front, as every eBGP speaker does."""
        more = (asn,) * times
        if self.segments and self.segments[0][0] is SegmentType.SEQUENCE:
            first = (SegmentType.SEQUENCE, (*more, *self.segments[0][1]))
            return AsPath((first, *self.segments[1:]))
        return AsPath(((SegmentType.SEQUENCE, more), *self.segments)) if more else self

    def merge(self, wide: AsPath) -> AsPath:
        """A path of 2-octet numbers with the AS4_PATH that came beside it (RFC 6793 §4.2.3)."""
        lead = self.length - wide.length
        if lead < 0:
            return self
        kept: list[Segment] = []
        for kind, numbers in self.segments:
            if lead <= 0:
                break
            is_sequence = kind is SegmentType.SEQUENCE
            kept.append((kind, numbers[:lead] if is_sequence else numbers))
            lead -= len(numbers) if is_sequence else 1
        rest = wide.segments
        if kept and rest and kept[-1][0] is rest[0][0] is SegmentType.SEQUENCE:
            rest = ((SegmentType.SEQUENCE, (*kept.pop()[1], *rest[0][1])), *rest[1:])
        return AsPath((*kept, *rest))

    @property
    def length(self) -> int:
        """For the decision: a set counts one, confederation segments nothing."""
        found = 0
        for kind, numbers in self.segments:
            if kind is SegmentType.SEQUENCE:
                found += len(numbers)
            elif kind is SegmentType.SET:
                found += 1
        return found

    @property
    def first(self) -> int | None:
        """The neighbour that sent it; None where the path is empty or starts with a set."""
        sequence = self.first_sequence
        return sequence[0] if sequence else None

    @property
    def first_sequence(self) -> tuple[int, ...]:
        """The numbers up to the first set."""
        for kind, numbers in self.segments:
            if kind not in _CONFED:
                return numbers if kind is SegmentType.SEQUENCE else ()
        return ()

    @property
    def origin(self) -> int | None:
        """The system that announced it; None where the path is empty or ends in a set."""
        if not self.segments or self.segments[-1][0] is not SegmentType.SEQUENCE:
            return None
        return self.segments[-1][1][-1]

    def __iter__(self) -> Iterator[int]:
        for _, numbers in self.segments:
            yield from numbers

    def __contains__(self, asn: int) -> bool:
        return any(asn in numbers for _, numbers in self.segments)

    def __str__(self) -> str:
        return " ".join(_segment_text(*one) for one in self.segments)


EMPTY_PATH = AsPath()


def check_asn(value: int, field: str = "asn") -> int:
    """An AS number that a speaker may have; SpecError otherwise."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < MAX_ASN:
        raise SpecError(field, value, f"a number from 1 to {MAX_ASN - 1}")
    if value == AS_TRANS:
        raise SpecError(field, value, "any AS number but AS_TRANS (RFC 6793)")
    return value


def _segment_text(kind: SegmentType, numbers: tuple[int, ...]) -> str:
    text = " ".join(map(str, numbers))
    shapes = {SegmentType.SET: "{%s}", SegmentType.CONFED_SEQUENCE: "(%s)"}
    return shapes.get(kind, "[%s]" if kind is SegmentType.CONFED_SET else "%s") % text


_PARTS = re.compile(r"\{([\d ]+)\}|(\d+)", re.ASCII)
