# SPDX-License-Identifier: Apache-2.0
"""Protocols and ports in colours, and the fewest prefixes that paint the same picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pycilium.model.policy import RuleRef
from pycilium.model.port import PortRange

Colour = tuple[int, RuleRef]
Segment = tuple[int, int, Colour | None]
Prefix = tuple[int, int, int, Colour]
_ALL = 65535
_BITS = 16


class PortMap:
    """What happens to every protocol and port; what is painted first stays."""

    def __init__(self) -> None:
        self._any: Colour | None = None
        self._protocols: dict[int, list[Segment]] = {}

    def paint(self, ports: tuple[PortRange, ...] | None, colour: Colour) -> None:
        """Colour some ports (None: everything) where nothing is yet."""
        for one in (PortRange(0),) if ports is None else ports:
            if one.protocol:
                self._paint(one, colour)
            else:
                self.fill(colour)

    def fill(self, colour: Colour) -> None:
        """Colour everything where nothing is yet."""
        for protocol in self._protocols:
            self._paint(PortRange(protocol), colour)
        if self._any is None:
            self._any = colour

    def clear(self, verdict: int) -> None:
        """Take one verdict's colours away: there, others may paint again."""
        if self._any is not None and self._any[0] == verdict:
            self._any = None
        for protocol, segments in self._protocols.items():
            self._protocols[protocol] = [
                (lo, hi, None if colour is not None and colour[0] == verdict else colour)
                for lo, hi, colour in segments
            ]

    def marked(self, other: PortMap, mark: Callable[[Colour, Colour], Colour]) -> PortMap:
        """Both maps, each painted everywhere, as one: `mark` says which colour of each place."""
        found = PortMap()
        found._any = mark(self._rest(), other._rest())
        for protocol in self._protocols.keys() | other._protocols.keys():
            parts = self._segments(protocol), other._segments(protocol)
            found._protocols[protocol] = list(_zip(*parts, mark))
        return found

    def _rest(self) -> Colour:
        assert self._any is not None
        return self._any

    def _segments(self, protocol: int) -> list[Segment]:
        return self._protocols.get(protocol, [(0, _ALL, self._any)])

    def _paint(self, one: PortRange, colour: Colour) -> None:
        old = self._protocols.get(one.protocol)
        if old is None:
            old = [(0, _ALL, self._any)]
        self._protocols[one.protocol] = list(_fill(old, one.first, one.last, colour))

    def prefixes(self, *, without: int | None = None) -> Iterator[Prefix]:
        """Protocol, port, bits beyond identity and direction, colour: the fewest of them.

        without: a verdict that is said by having no entry, where no wider entry says another.
        """
        if _seen(self._any, without) is not None:
            without = None
        rest = _seen(self._any, without)
        if rest is not None:
            yield 0, 0, 0, rest
        for protocol in sorted(self._protocols):
            segments = ((lo, hi, _seen(c, without)) for lo, hi, c in self._protocols[protocol])
            for port, bits, colour in _Tree(list(_join(segments))).cover(rest):
                yield protocol, port, 8 + bits, colour


def _seen(colour: Colour | None, without: int | None) -> Colour | None:
    return None if colour is not None and colour[0] == without else colour


def _fill(segments: list[Segment], first: int, last: int, colour: Colour) -> Iterator[Segment]:
    for lo, hi, old in segments:
        if old is not None or hi < first or last < lo:
            yield lo, hi, old
            continue
        if lo < first:
            yield lo, first - 1, None
        yield max(lo, first), min(hi, last), colour
        if last < hi:
            yield last + 1, hi, None


def _zip(
    ones: list[Segment], others: list[Segment], mark: Callable[[Colour, Colour], Colour]
) -> Iterator[Segment]:
    """Two partitions of all ports as one, cut wherever either is."""
    starts = sorted({lo for lo, _, _ in ones} | {lo for lo, _, _ in others})
    for lo, end in zip(starts, [*starts[1:], _ALL + 1], strict=True):
        yield lo, end - 1, mark(_colour_at(ones, lo), _colour_at(others, lo))


def _colour_at(segments: list[Segment], port: int) -> Colour:
    found = next(colour for lo, hi, colour in segments if lo <= port <= hi)
    assert found is not None
    return found


def _join(segments: Iterator[Segment]) -> Iterator[Segment]:
    held: Segment | None = None
    for lo, hi, colour in segments:
        if held is not None and held[2] == colour:
            held = (held[0], hi, colour)
            continue
        if held is not None:
            yield held
        held = (lo, hi, colour)
    if held is not None:
        yield held


class _Tree:
    """Optimal routing table construction (Draves et al., 1999) over 16 bits.

    Nothing (None) cannot be painted over something: a part with nothing in it must inherit
    nothing.
    """

    def __init__(self, segments: list[Segment]) -> None:
        self._segments = segments
        self._known: dict[tuple[int, int], frozenset[Colour | None]] = {}

    def cover(self, inherited: Colour | None) -> Iterator[tuple[int, int, Colour]]:
        """Port, prefix bits and colour of every entry."""
        yield from self._assign(0, 0, inherited)

    def _part(self, start: int, bits: int) -> list[Segment]:
        end = start + (1 << (_BITS - bits)) - 1
        return [s for s in self._segments if s[0] <= end and s[1] >= start]

    def _choices(self, start: int, bits: int) -> frozenset[Colour | None]:
        found = self._known.get((start, bits))
        if found is None:
            found = self._known[start, bits] = self._find_choices(start, bits)
        return found

    def _find_choices(self, start: int, bits: int) -> frozenset[Colour | None]:
        part = self._part(start, bits)
        if len(part) == 1 or bits == _BITS:
            return frozenset({part[0][2]})
        if any(colour is None for _, _, colour in part):
            return frozenset({None})
        half = 1 << (_BITS - bits - 1)
        left, right = self._choices(start, bits + 1), self._choices(start + half, bits + 1)
        return left & right or left | right

    def _assign(
        self, start: int, bits: int, inherited: Colour | None
    ) -> Iterator[tuple[int, int, Colour]]:
        choices = self._choices(start, bits)
        if inherited not in choices:
            chosen = min(choices, key=repr)
            if chosen is not None:
                yield start, bits, chosen
            inherited = chosen
        part = self._part(start, bits)
        if len(part) > 1 and bits < _BITS:
            half = 1 << (_BITS - bits - 1)
            yield from self._assign(start, bits + 1, inherited)
            yield from self._assign(start + half, bits + 1, inherited)
