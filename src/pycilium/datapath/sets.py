# SPDX-License-Identifier: Apache-2.0
"""Policy sets in the kernel: one immutable inner map per identity, swapped whole into its slot."""

from __future__ import annotations

from array import array
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING

import attrs

from pycilium.datapath.core import SET_MAP, pairs_of, write_pairs
from pycilium.datapath.wire import be16
from pycilium.errors import MapFullError
from pycilium.libbpf import Map, packer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pycilium.datapath.core import Core
    from pycilium.datapath.rules import Rules
    from pycilium.policy import PolicyEntry

_AT_ONCE = 256  # sets that are built aside before one write switches them


class Pairs(dict[bytes, bytes]):
    """One policy set as the kernel's bytes."""

    @cached_property
    def rules(self) -> frozenset[int]:
        """Every rule number in it: the second word of the values."""
        return frozenset(int.from_bytes(one[4:8], "little") for one in set(self.values()))


@attrs.define
class Slot:
    """A place in pcl_policies, who uses it and what stands in it (None: nothing yet)."""

    number: int
    users: int = 0
    pairs: Pairs | None = None


class PolicySets:
    """Slots by identity; slot 0 is never used."""

    def __init__(self, core: Core, rules: Rules) -> None:
        self._core = core
        self._rules = rules
        self._slots: dict[int, Slot] = {}
        self._free: list[int] = []
        self._next = 1

    def __iter__(self) -> Iterator[int]:
        return iter(list(self._slots))

    def __len__(self) -> int:
        return len(self._slots)

    def __getitem__(self, identity: int) -> Slot:
        return self._slots[identity]

    def get(self, identity: int) -> Slot | None:
        """An identity's slot, if it has one."""
        return self._slots.get(identity)

    def add(self, identity: int, *, number: int | None = None) -> Slot:
        """A slot for an identity, one user more; MapFullError where all are taken."""
        slot = self._slots.get(identity)
        if slot is None:
            slot = self._slots[identity] = Slot(self._allocate() if number is None else number)
            self._next = max(self._next, slot.number + 1)
        slot.users += 1
        return slot

    def drop(self, identity: int) -> bool:
        """One user less; the last one empties the slot, which then drops. Whether it was."""
        slot = self._slots[identity]
        slot.users -= 1
        if slot.users:
            return False
        del self._slots[identity]
        if slot.pairs is not None:
            self._core.maps["pcl_policies"].remove([slot.number])
        self._core.bump(slot.number)
        self._free.append(slot.number)
        return True

    def sync(self, desired: Mapping[int, Pairs]) -> None:
        """Swap in the sets that differ; the others are not touched."""
        changed = [
            (self._slots[identity], pairs)
            for identity, pairs in desired.items()
            if self._slots[identity].pairs is not pairs and self._slots[identity].pairs != pairs
        ]
        for start in range(0, len(changed), _AT_ONCE):
            self._swap(changed[start : start + _AT_ONCE])

    def _swap(self, changed: list[tuple[Slot, Pairs]]) -> None:
        """Build sets aside, switch to them, then count their epochs up.

        One batch: each write of a map of maps waits until no program uses the old one, and a
        batch waits once for all.
        """
        outer = self._core.maps["pcl_policies"]
        with ExitStack() as built:
            descriptors = []
            for _, pairs in changed:
                inner = built.enter_context(outer.create_inner(max(1, len(pairs))))
                write_pairs(inner, pairs)
                descriptors.append(inner.fd)
            numbers = [slot.number for slot, _ in changed]
            outer.batch_update(_words(numbers), _words(descriptors), len(changed))
        for slot, pairs in changed:
            slot.pairs = pairs
        self._core.bump_all(numbers)

    def adopt(self, identity: int) -> None:
        """Take the set that stands in the kernel as written, if there is one."""
        slot, outer = self._slots[identity], self._core.maps["pcl_policies"]
        try:
            number = outer[slot.number]
        except KeyError:
            return
        with Map.from_id(number, like=outer.inner) as inner:
            slot.pairs = Pairs(pairs_of(inner))

    def encode(self, entries: Iterable[PolicyEntry]) -> Pairs:
        """A compiled set as bytes; MapFullError where it is too large for a slot."""
        inner = self._core.spec.maps["pcl_policies"].inner
        assert inner is not None
        key = packer(inner.key, "prefixlen", "identity", "direction", "protocol", "port_be")
        value, number = packer(inner.value, "verdict", "rule"), self._rules.number
        pairs = Pairs(
            (
                key(one.prefix_length, one.identity, one.direction, one.protocol, be16(one.port)),
                value(one.verdict, number(one.rule)),
            )
            for one in entries
        )
        if len(pairs) > self._core.set_limit():
            size = self._core.set_limit()
            raise MapFullError(SET_MAP, needed=len(pairs), used=0, size=size)
        return pairs

    def _allocate(self) -> int:
        size = self._core.maps["pcl_policies"].max_entries
        if self._next < size:
            return self._next
        if not self._free:
            raise MapFullError("pcl_policies", needed=1, used=len(self._slots), size=size - 1)
        return self._free.pop(0)


def _words(numbers: list[int]) -> bytes:
    """As u32 of the machine's order."""
    return array("I", numbers).tobytes()
