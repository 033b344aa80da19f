# SPDX-License-Identifier: Apache-2.0
"""Numbers that the kernel carries for things that only user space knows."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from pycilium.errors import MapFullError
from pycilium.model import Labels, RuleRef
from pycilium.model.policy import DEFAULT_ALLOW, HOST_ALLOW


class RuleRegistry:
    """Rule references by number, stable for as long as a datapath lives; 0 is none."""

    def __init__(self, known: Iterable[tuple[int, RuleRef]] = ()) -> None:
        self._by_ref: dict[RuleRef, int] = {}
        self._by_number: dict[int, RuleRef] = {}
        for number, ref in known:
            self._by_ref[ref] = number
            self._by_number[number] = ref

    @classmethod
    def with_defaults(cls) -> RuleRegistry:
        """With the rules that no policy contains."""
        return cls(enumerate((DEFAULT_ALLOW, HOST_ALLOW), 1))

    def number(self, ref: RuleRef) -> int:
        """The number of a rule, a new one if need be."""
        if ref not in self._by_ref:
            number = len(self._by_number) + 1
            self._by_ref[ref] = number
            self._by_number[number] = ref
        return self._by_ref[ref]

    def find(self, number: int) -> RuleRef | None:
        """The rule of a number."""
        return self._by_number.get(number)

    def items(self) -> list[tuple[int, RuleRef]]:
        """All of them."""
        return list(self._by_number.items())


class SlotTable:
    """Policy slots: one for each label set that endpoints have; slot 0 is never used."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._slots: dict[Labels, int] = {}
        self._uses: dict[Labels, int] = {}
        self._next = 1
        self._free: deque[int] = deque()

    def acquire(self, labels: Labels, *, slot: int | None = None) -> int:
        """The slot of these labels, a new one if need be; MapFullError."""
        if labels not in self._slots:
            self._slots[labels] = self._allocate() if slot is None else self._restore(slot)
        self._uses[labels] = self._uses.get(labels, 0) + 1
        return self._slots[labels]

    def release(self, labels: Labels) -> int | None:
        """One use less; the slot if it was the last."""
        self._uses[labels] -= 1
        if self._uses[labels]:
            return None
        del self._uses[labels]
        slot = self._slots.pop(labels)
        self._free.append(slot)
        return slot

    def find(self, labels: Labels) -> int | None:
        """The slot of labels that are in use."""
        return self._slots.get(labels)

    def items(self) -> list[tuple[Labels, int]]:
        """Label sets and their slots."""
        return list(self._slots.items())

    def _allocate(self) -> int:
        if self._next < self._size:
            self._next += 1
            return self._next - 1
        if self._free:
            return self._free.popleft()
        used = len(self._slots)
        raise MapFullError("pcl_policies", needed=1, used=used, size=self._size)

    def _restore(self, slot: int) -> int:
        self._next = max(self._next, slot + 1)
        return slot
