# SPDX-License-Identifier: Apache-2.0
"""Changes to a large table that are not made yet, and what differs between two lists.

Both cost what changes, not what there is: one service of ten thousand is one service's work.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, Sequence
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")

_GONE = object()
_BLOCKS = (512, 32, 1)


class Draft(MutableMapping[K, V]):
    """A mapping over another one, which changes only by accept()."""

    def __init__(self, base: MutableMapping[K, V]) -> None:
        self._base = base
        self._changes: dict[K, V | object] = {}

    def __getitem__(self, key: K) -> V:
        found = self._changes.get(key, self._base.get(key, _GONE))
        if found is _GONE:
            raise KeyError(key)
        return found  # type: ignore[return-value]

    def __setitem__(self, key: K, value: V) -> None:
        self._changes[key] = value

    def __delitem__(self, key: K) -> None:
        self[key]
        self._changes[key] = _GONE

    def __iter__(self) -> Iterator[K]:
        changes = self._changes
        yield from (key for key in self._base if key not in changes)
        yield from (key for key, value in changes.items() if value is not _GONE)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def accept(self) -> MutableMapping[K, V]:
        """Make the changes in the mapping below, and return it."""
        for key, value in self._changes.items():
            if value is _GONE:
                self._base.pop(key, None)
            else:
                self._base[key] = value  # type: ignore[assignment]
        return self._base


def differing(old: Sequence[V], new: Sequence[V]) -> tuple[Sequence[V], Sequence[V]]:
    """Both without their equal beginnings and ends; blocks of the same objects compare fast."""
    start, left, right = 0, len(old), len(new)
    for block in _BLOCKS:
        end = min(left, right) - block
        while start <= end and old[start : start + block] == new[start : start + block]:
            start += block
    for block in _BLOCKS:
        while (
            min(left, right) - start >= block
            and old[left - block : left] == new[right - block : right]
        ):
            left, right = left - block, right - block
    return old[start:left], new[start:right]
