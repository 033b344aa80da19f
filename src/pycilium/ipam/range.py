# SPDX-License-Identifier: Apache-2.0
"""The addresses of one prefix: which are held, which rest, which comes next.

Addresses are handed out in order, each once; at the end those that were given back follow, the
longest rested first. So a reuse comes as late as it can, and the next address is found in
constant time however large the prefix and however full it is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from pycilium.errors import PoolExhaustedError
from pycilium.ipam.allocation import Address, Usage

if TYPE_CHECKING:
    from pycilium.ipam.pool import Pool


class Range:
    """Addresses are numbers inside; `now` is in seconds of one clock that never goes back."""

    def __init__(self, pool: Pool, family: int) -> None:
        network = pool.network(family)
        assert network is not None
        self._pool = pool
        self._kind = IPv4Address if family == 4 else IPv6Address
        self.network = network
        self._first = int(network.network_address)
        self._end = self._first + network.num_addresses
        self._reserved = _merge(
            [(int(one[0]), int(one[-1]) + 1) for one in pool.reserved if one.version == family]
            + self._never()
        )
        self._next = self._first
        self._held: set[int] = set()
        self._held_reserved = 0
        self._resting: OrderedDict[int, float] = OrderedDict()  # since when, the oldest first

    @property
    def quarantine(self) -> float:
        """Seconds that an address rests."""
        return self._pool.quarantine

    def __contains__(self, address: Address) -> bool:
        return address in self.network

    def is_given(self, address: Address) -> bool:
        """Whether somebody holds it."""
        return int(address) in self._held

    def may_be_given(self, address: Address) -> bool:
        """Whether it is an address that an owner can have at all."""
        return not any(low <= int(address) < high for low, high in self._never())

    def peek(self, now: float) -> Address:
        """The address that is next; PoolExhaustedError where there is none."""
        number = self._fresh()
        if number is None:
            number, since = next(iter(self._resting.items()), (None, now))
            if number is None or since + self.quarantine > now:
                raise self._exhausted(now, since)
        return self._kind(number)

    def hold(self, address: Address) -> None:
        """Somebody has it from now on, whatever it was before."""
        number = int(address)
        self._resting.pop(number, None)
        self._held.add(number)
        self._held_reserved += self._is_reserved(number)

    def give_back(self, address: Address, at: float) -> None:
        """Nobody has it; it rests. Calls come in the order of `at`."""
        number = int(address)
        self._held.remove(number)
        if self._is_reserved(number):
            self._held_reserved -= 1
        else:
            self._resting[number] = at

    def resting(self) -> list[tuple[Address, float]]:
        """What was given back and not given again, and when, the oldest first."""
        return [(self._kind(number), at) for number, at in self._resting.items()]

    def usage(self, now: float) -> Usage:
        """How full it is."""
        return Usage(
            pool=self._pool.name,
            family=self.network.version,
            size=self.network.num_addresses,
            allocated=len(self._held),
            quarantined=sum(at + self.quarantine > now for at in self._resting.values()),
            reserved=sum(high - low for low, high in self._reserved) - self._held_reserved,
        )

    def _fresh(self) -> int | None:
        """The first number that was never given: what it steps over, it never meets again."""
        while self._next < self._end:
            span = self._span(self._next)
            if span is not None:
                self._next = span[1]
            elif self._next in self._held or self._next in self._resting:
                self._next += 1
            else:
                return self._next
        return None

    def _span(self, number: int) -> tuple[int, int] | None:
        """The reserved span that a number is in."""
        at = bisect_right(self._reserved, (number, self._end + 1)) - 1
        return self._reserved[at] if at >= 0 and number < self._reserved[at][1] else None

    def _is_reserved(self, number: int) -> bool:
        return self._span(number) is not None

    def _never(self) -> list[tuple[int, int]]:
        """Both ends of an IPv4 prefix, the subnet-router anycast address of an IPv6 one."""
        size, family = self._end - self._first, self.network.version
        ends = [(self._first, self._first + 1)] if size > 2 else []
        return ends + ([(self._end - 1, self._end)] if size > 2 and family == 4 else [])

    def _exhausted(self, now: float, oldest: float) -> PoolExhaustedError:
        usage = self.usage(now)
        waits = oldest + self.quarantine - now if usage.quarantined else None
        return PoolExhaustedError(
            usage.pool,
            family=usage.family,
            needed=1,
            size=usage.size,
            allocated=usage.allocated,
            quarantined=usage.quarantined,
            reserved=usage.reserved,
            free_in=waits,
        )


def _merge(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sorted and without overlap."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(spans):
        if merged and low <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return merged
