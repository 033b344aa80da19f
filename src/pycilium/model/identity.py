# SPDX-License-Identifier: Apache-2.0
"""Identities: a number for each set of labels. Reserved numbers are Cilium's."""

from __future__ import annotations

import time
from collections.abc import Callable

import attrs

from pycilium.errors import SpecError
from pycilium.model.labels import Label, Labels

HOST, WORLD = 1, 2
FIRST_ENDPOINT, LAST_ENDPOINT = 256, (1 << 24) - 1
FIRST_CIDR, LAST_CIDR = 1 << 24, (2 << 24) - 1
GRACE_SECONDS = 60.0
RESERVED = {
    0: "unknown", 1: "host", 2: "world", 3: "unmanaged", 4: "health", 5: "init",
    6: "remote-node", 7: "kube-apiserver", 8: "ingress", 9: "world-ipv4", 10: "world-ipv6",
}  # fmt: skip


@attrs.frozen
class Identity:
    """A number and the labels that it stands for."""

    number: int
    labels: Labels

    @classmethod
    def reserved(cls, name: str) -> Identity:
        """One of the reserved identities by name."""
        for number, known in RESERVED.items():
            if known == name:
                return cls(number, reserved_labels(name))
        raise SpecError("identity", name, f"one of {', '.join(RESERVED.values())}")

    @property
    def is_endpoint(self) -> bool:
        """Whether it stands for workloads, not for a reserved class or a prefix."""
        return FIRST_ENDPOINT <= self.number <= LAST_ENDPOINT

    def __str__(self) -> str:
        return f"{self.number} ({self.labels})"


def reserved_labels(name: str) -> Labels:
    """The labels of a reserved identity."""
    return Labels((Label("reserved", name),))


@attrs.frozen
class _Allocation:
    number: int
    references: int


@attrs.frozen
class _Resting:
    number: int
    until: float


class IdentityAllocator:
    """Numbers for label sets on one node, counted by use.

    Equal label sets have one number. A number that nobody uses any more rests for `grace`
    seconds, in which only its own labels get it back; others get it when the numbers have gone
    round.
    """

    def __init__(
        self, *, grace: float = GRACE_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._grace = grace
        self._clock = clock
        self._by_labels: dict[Labels, _Allocation] = {}
        self._by_number: dict[int, Labels] = {
            number: reserved_labels(name) for number, name in RESERVED.items()
        }
        self._next = {FIRST_ENDPOINT: FIRST_ENDPOINT, FIRST_CIDR: FIRST_CIDR}
        self._resting: dict[Labels, _Resting] = {}  # the first to wake first
        self._asleep: set[int] = set()

    def copy(self) -> IdentityAllocator:
        """An independent allocator in the same state, to plan with."""
        twin = IdentityAllocator(grace=self._grace, clock=self._clock)
        twin._by_labels = dict(self._by_labels)
        twin._by_number = dict(self._by_number)
        twin._next = dict(self._next)
        twin._resting = dict(self._resting)
        twin._asleep = set(self._asleep)
        return twin

    def acquire(self, labels: Labels, *, number: int | None = None) -> Identity:
        """The identity of these labels, made if need be; `number` restores an earlier one."""
        held = self._by_labels.get(labels)
        if held is None:
            chosen = self._choose(labels) if number is None else self._restore(number)
            held = _Allocation(chosen, 0)
            self._by_number[chosen] = labels
        self._by_labels[labels] = _Allocation(held.number, held.references + 1)
        return Identity(held.number, labels)

    def release(self, labels: Labels) -> None:
        """One use less; the last one sends the number to rest."""
        held = self._by_labels[labels]
        if held.references > 1:
            self._by_labels[labels] = _Allocation(held.number, held.references - 1)
        else:
            del self._by_labels[labels], self._by_number[held.number]
            self._resting[labels] = _Resting(held.number, self._clock() + self._grace)
            self._asleep.add(held.number)

    def find(self, labels: Labels) -> Identity | None:
        """The identity of labels that are in use."""
        held = self._by_labels.get(labels)
        return Identity(held.number, labels) if held else None

    def get(self, number: int) -> Identity:
        """By number; an unknown one has no labels."""
        return Identity(number, self._by_number.get(number, Labels()))

    def all(self) -> dict[int, Labels]:
        """Every identity that is in use, the reserved ones included."""
        return dict(self._by_number)

    @property
    def next_numbers(self) -> tuple[int, int]:
        """Where the search for unused numbers goes on, for endpoints and for prefixes."""
        return self._next[FIRST_ENDPOINT], self._next[FIRST_CIDR]

    def go_on_from(self, numbers: tuple[int, int]) -> None:
        """After a restart: an earlier process's numbers come back as late as its own would."""
        self._next = dict(zip((FIRST_ENDPOINT, FIRST_CIDR), numbers, strict=True))

    def _choose(self, labels: Labels) -> int:
        self._wake()
        rested = self._resting.pop(labels, None)
        if rested is None:
            return self._allocate(_scope(labels))
        self._asleep.discard(rested.number)
        return rested.number

    def _wake(self) -> None:
        """Numbers that have rested long enough are free for others."""
        now = self._clock()
        while self._resting:
            labels, rested = next(iter(self._resting.items()))
            if rested.until > now:
                return
            del self._resting[labels]
            self._asleep.discard(rested.number)

    def _allocate(self, scope: int) -> int:
        last = LAST_ENDPOINT if scope == FIRST_ENDPOINT else LAST_CIDR
        for _ in range(len(self._by_number) + len(self._asleep) + 1):
            number = self._next[scope]
            self._next[scope] = scope if number == last else number + 1
            if number not in self._by_number and number not in self._asleep:
                return number
        raise SpecError("identities", last - scope + 1, "fewer label sets than there are numbers")

    def _restore(self, number: int) -> int:
        if number in self._by_number or number in self._asleep:
            raise SpecError("identity", number, "a number that is not in use")
        return number


def _scope(labels: Labels) -> int:
    return FIRST_CIDR if any(label.source == "cidr" for label in labels) else FIRST_ENDPOINT
