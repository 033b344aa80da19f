# SPDX-License-Identifier: Apache-2.0
"""Numbers and places in the service maps: fresh ones first, freed ones last.

What has become free is used again long after the last packet that read it. Numbers of backends
are never used again: a connection that holds one never meets another server under it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import attrs

from pycilium.errors import MapFullError
from pycilium.lb.rows import Sizes

_MANY_GAPS = 64


@attrs.define
class Use:
    """How much of one map is taken, and what a change asks for beyond that."""

    name: str
    size: int
    used: int = 0
    asked: int = 0
    full: bool = False

    def require(self) -> None:
        """MapFullError with all that was asked for."""
        if self.full:
            raise MapFullError(self.name, needed=self.asked, used=self.used, size=self.size)

    def settle(self, freed: int) -> Use:
        """After the change."""
        return Use(self.name, self.size, self.used + self.asked - freed)


@attrs.define
class Room:
    """What is taken and what is free; a change asks, then require() says if it fits."""

    backends: Use
    slots: Use
    sources: Use
    next_service: int = 1
    next_backend: int = 1
    next_sources: int = 1
    next_slot: int = 0
    next_index: int = 0
    free_slots: deque[tuple[int, int]] = attrs.field(factory=deque)  # first, count
    free_indexes: deque[int] = attrs.field(factory=deque)

    @classmethod
    def of(cls, sizes: Sizes) -> Room:
        """All of it free."""
        return cls(
            Use("pcl_backends", sizes.backends),
            Use("pcl_slots", sizes.slots),
            Use("pcl_source_ranges", sizes.sources),
        )

    def draft(self) -> Room:
        """One to change; this one stays."""
        return attrs.evolve(
            self,
            backends=attrs.evolve(self.backends),
            slots=attrs.evolve(self.slots),
            sources=attrs.evolve(self.sources),
            free_slots=deque(self.free_slots),
            free_indexes=deque(self.free_indexes),
        )

    def new_service(self) -> int:
        """A number that no service has had."""
        self.next_service += 1
        return self.next_service - 1

    def new_backend(self) -> tuple[int, int]:
        """An index, and a number that no backend has had."""
        self.backends.asked += 1
        index = -1
        if self.next_index < self.backends.size:
            self.next_index += 1
            index = self.next_index - 1
        elif self.free_indexes:
            index = self.free_indexes.popleft()
        else:
            self.backends.full = True
        self.next_backend += 1
        return index, self.next_backend - 1

    def new_sources(self, count: int) -> int:
        """The number of a new set of source ranges."""
        self.sources.asked += count
        self.sources.full = self.sources.used + self.sources.asked > self.sources.size
        self.next_sources += 1
        return self.next_sources - 1

    def new_run(self, count: int) -> int:
        """Its first slot: never used ones, then the run that is large enough, longest free."""
        if count == 0:
            return 0
        self.slots.asked += count
        if self.next_slot + count <= self.slots.size:
            self.next_slot += count
            return self.next_slot - count
        for i, (first, length) in enumerate(self.free_slots):
            if length >= count:
                del self.free_slots[i]
                if length > count:
                    self.free_slots.append((first + count, length - count))
                return first
        self.slots.full = True
        return -1

    def require(self) -> None:
        """MapFullError where what was asked for does not fit."""
        for use in (self.backends, self.slots, self.sources):
            use.require()

    def free(self, indexes: Iterable[int], runs: Iterable[tuple[int, int]], sources: int) -> None:
        """End a change: give back what it does not use any more."""
        indexes, runs = list(indexes), [run for run in runs if run[1]]
        self.free_indexes.extend(indexes)
        self.backends = self.backends.settle(len(indexes))
        self.slots = self.slots.settle(sum(count for _, count in runs))
        self.sources = self.sources.settle(sources)
        self.free_slots.extend(runs)
        if len(self.free_slots) > _MANY_GAPS:
            self.free_slots = deque(_merge(self.free_slots))

    def take(self, runs: Iterable[tuple[int, int]], indexes: Iterable[int], sources: int) -> None:
        """What stands already, as adopt() finds it."""
        taken, used = [run for run in runs if run[1]], set(indexes)
        self.next_slot, gaps = _gaps(taken)
        self.free_slots.extend(gaps)
        self.slots.used = sum(count for _, count in taken)
        self.sources.used = sources
        self.next_index = 1 + max(used, default=-1)
        self.free_indexes.extend(set(range(self.next_index)) - used)
        self.backends.used = len(used)


def _gaps(runs: Iterable[tuple[int, int]]) -> tuple[int, list[tuple[int, int]]]:
    """Where the last run ends, and the free runs before that."""
    end, gaps = 0, []
    for first, count in sorted(runs):
        if first > end:
            gaps.append((end, first - end))
        end = max(end, first + count)
    return end, gaps


def _merge(runs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Neighbouring free runs become one."""
    merged: list[tuple[int, int]] = []
    for first, count in sorted(runs):
        if merged and merged[-1][0] + merged[-1][1] == first:
            merged[-1] = (merged[-1][0], merged[-1][1] + count)
        else:
            merged.append((first, count))
    return merged
