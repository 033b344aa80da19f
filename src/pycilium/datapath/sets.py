# SPDX-License-Identifier: Apache-2.0
"""Policy sets in the kernel: one immutable inner map per identity, swapped whole into its slot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from pycilium.datapath.core import SET_MAP, pairs_of, write_pairs
from pycilium.datapath.wire import be16
from pycilium.errors import MapFullError
from pycilium.libbpf import Map

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pycilium.datapath.core import Core
    from pycilium.datapath.rules import Rules
    from pycilium.policy import PolicyEntry

Pairs = dict[bytes, bytes]


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

    def swap(self, identity: int, pairs: Pairs) -> None:
        """Put a new set in force: built aside, switched in one write, then the epoch."""
        slot, outer = self._slots[identity], self._core.maps["pcl_policies"]
        with outer.create_inner(max(1, len(pairs))) as inner:
            write_pairs(inner, pairs)
            outer[slot.number] = inner
        slot.pairs = pairs
        self._core.bump(slot.number)

    def sync(self, desired: Mapping[int, Pairs]) -> None:
        """Swap in the sets that differ; the others are not touched."""
        for identity, pairs in desired.items():
            slot = self._slots[identity]
            if slot.pairs is not pairs and slot.pairs != pairs:
                self.swap(identity, pairs)

    def adopt(self, identity: int) -> None:
        """Take the set that stands in the kernel as written, if there is one."""
        slot, outer = self._slots[identity], self._core.maps["pcl_policies"]
        try:
            number = outer[slot.number]
        except KeyError:
            return
        with Map.from_id(number, like=outer.inner) as inner:
            slot.pairs = pairs_of(inner)

    def encode(self, entries: Iterable[PolicyEntry]) -> Pairs:
        """A compiled set as bytes; MapFullError where it is too large for a slot."""
        inner = self._core.spec.maps["pcl_policies"].inner
        assert inner is not None
        assert inner.key is not None
        assert inner.value is not None
        pairs = {}
        for entry in entries:
            key = {
                "prefixlen": entry.prefix_length,
                "identity": entry.identity,
                "direction": entry.direction,
                "protocol": entry.protocol,
                "port_be": be16(entry.port),
            }
            value = {"verdict": entry.verdict, "rule": self._rules.number(entry.rule)}
            pairs[inner.key.encode(key)] = inner.value.encode(value)
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
