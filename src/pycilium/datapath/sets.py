# SPDX-License-Identifier: Apache-2.0
"""Policy sets in the kernel: one inner map per identity, swapped whole into its slot.

What a packet can meet in a set never changes. Entries of an identity that nobody has yet, or any
more, come and go in place: no packet can tell, and nothing has to wait.
"""

from __future__ import annotations

import errno
from array import array
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING

import attrs

from pycilium.datapath.core import SET_MAP, pairs_of, write_pairs
from pycilium.datapath.wire import be16
from pycilium.errors import KernelError, MapFullError
from pycilium.libbpf import Map, packer
from pycilium.model.identity import RESERVED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Set

    from pycilium.datapath.core import Core
    from pycilium.datapath.rules import Rules
    from pycilium.policy import PolicyEntry

_IDENTITY = slice(4, 8)  # of the key's bytes
_SPARE = 64  # entries without a cost: a trie takes memory as it grows
_AT_ONCE = 256  # sets that are built aside before one write switches them


class Pairs(dict[bytes, bytes]):
    """One policy set as the kernel's bytes."""

    @cached_property
    def rules(self) -> frozenset[int]:
        """Every rule number in it: the second word of the values."""
        return frozenset(int.from_bytes(one[4:8], "little") for one in set(self.values()))


@attrs.define
class Slot:
    """A place in pcl_policies, who uses it, what stands in it (None: nothing yet), and its room."""

    number: int
    users: int = 0
    pairs: Pairs | None = None
    room: int = 0


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

    def sync(self, desired: Mapping[int, Pairs], in_use: Callable[[], Set[int]]) -> None:
        """Bring the sets that differ up to date; the others are not touched.

        in_use: gives the identities that an address has in the kernel.
        """
        changed = [
            (self._slots[identity], pairs)
            for identity, pairs in desired.items()
            if self._slots[identity].pairs is not pairs and self._slots[identity].pairs != pairs
        ]
        if not changed:
            return
        visible = {number.to_bytes(4, "little") for number in in_use() | RESERVED.keys()}
        swapped = [one for one in changed if not self._amend(*one, visible)]
        for start in range(0, len(swapped), _AT_ONCE):
            self._swap(swapped[start : start + _AT_ONCE])

    def _amend(self, slot: Slot, pairs: Pairs, visible: set[bytes]) -> bool:
        """Write and delete in place, where that concerns nobody; whether it was done."""
        if slot.pairs is None or len(pairs) > slot.room:
            return False
        added = dict(pairs.items() - slot.pairs.items())
        gone = slot.pairs.keys() - pairs.keys()
        if any(key[_IDENTITY] in visible for key in (*added, *gone)):
            return False
        try:
            inner = self._standing(slot)
        except KernelError as error:
            if error.errno != errno.EPERM:
                raise
            return False
        with inner:
            write_pairs(inner, added)
            inner.remove(gone)
        slot.pairs = pairs
        return True

    def _standing(self, slot: Slot) -> Map:
        """The set in a slot, KeyError where there is none; by its id: CAP_SYS_ADMIN, else EPERM."""
        outer = self._core.maps["pcl_policies"]
        return Map.from_id(outer[slot.number], like=outer.inner)

    def _swap(self, changed: list[tuple[Slot, Pairs]]) -> None:
        """Build sets aside, switch to them, then count their epochs up.

        One batch: each write of a map of maps waits until no program uses the old one, and a
        batch waits once for all.
        """
        outer = self._core.maps["pcl_policies"]
        with ExitStack() as built:
            inners = []
            for _, pairs in changed:
                inners.append(built.enter_context(outer.create_inner(self._room(pairs))))
                write_pairs(inners[-1], pairs)
            numbers = [slot.number for slot, _ in changed]
            descriptors = [inner.fd for inner in inners]
            outer.batch_update(_words(numbers), _words(descriptors), len(changed))
            for (slot, pairs), inner in zip(changed, inners, strict=True):
                slot.pairs, slot.room = pairs, inner.max_entries
        self._core.bump(*numbers)

    def _room(self, pairs: Pairs) -> int:
        """Entries that a new set may grow to in place."""
        return max(len(pairs), min(len(pairs) * 2 + _SPARE, self._core.set_limit()))

    def adopt(self, identity: int) -> None:
        """Take the set that stands in the kernel as written, if there is one."""
        slot = self._slots[identity]
        try:
            inner = self._standing(slot)
        except KeyError:
            return
        with inner:
            slot.pairs, slot.room = Pairs(pairs_of(inner)), inner.max_entries

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
