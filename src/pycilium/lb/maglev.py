# SPDX-License-Identifier: Apache-2.0
"""Weighted Maglev tables: which backend serves a hash, the same on every balancer.

Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer" (NSDI 2016), 3.4:
every backend has an order of its own in which it wants the table's slots, and they take turns.
Here a backend of weight w has its k-th turn at time k / w, so that turns are spread as the
weights are, whatever their size. The result depends on names and weights alone, not on their
order nor on an earlier table, and NumPy only makes it faster.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from itertools import chain, repeat
from operator import itemgetter
from typing import Any

from pycilium.errors import SpecError

__all__ = ["DEFAULT_SIZE", "SIZES", "check_size", "disruption", "forget", "table"]

SIZES = (251, 509, 1021, 2039, 4093, 8191, 16381, 32771, 65537, 131071)
DEFAULT_SIZE = 65537
_LARGEST = 1 << 22
_MAX_WEIGHT = 65535
_EMPTY = -1
_TAIL = 300  # the last size // _TAIL slots are found by position, not by trial


def table(weights: Mapping[str, int], size: int = DEFAULT_SIZE) -> Sequence[int]:
    """Slot to index of a backend in `weights`; empty where no backend has a weight.

    weights: 0 to 65,535 by name; 0 gets nothing. size: a prime, best at least 100 times the
    number of backends. The sequence is a NumPy array where NumPy is, and must not be changed.
    Raises SpecError.
    """
    check_size(size)
    members = tuple(_member(name, weight) for name, weight in weights.items())
    active = tuple(sorted(m for m in members if m[1]))
    if len(active) > size:
        raise SpecError("backends", len(active), f"at most {size}, the size of the table")
    if not active:
        return _integers([])
    order = {name: index for index, name in enumerate(weights)}
    return _renumbered(_populate(active, size), [order[name] for name, _ in active])


def check_size(size: int) -> None:
    """SpecError for what is no prime."""
    if not isinstance(size, int) or not 2 < size <= _LARGEST or not _is_prime(size):
        common = ", ".join(map(str, SIZES))
        raise SpecError("maglev size", size, f"a prime up to {_LARGEST}, such as {common}")


def forget() -> None:
    """Drop the tables that are kept: the next one is made from nothing, to be measured."""
    _populate.cache_clear()


def disruption(before: Sequence[int], after: Sequence[int]) -> float:
    """The part of the slots that changed hands, of two tables over the same numbering."""
    if len(before) != len(after):
        raise SpecError("after", len(after), f"a table of {len(before)} slots, like the first")
    moved = sum(a != b for a, b in zip(before, after, strict=True))
    return moved / len(before) if len(before) else 0.0


def _member(name: str, weight: int) -> tuple[str, int]:
    if isinstance(weight, bool) or not isinstance(weight, int) or not 0 <= weight <= _MAX_WEIGHT:
        raise SpecError(f"weight of {name}", weight, f"a whole number from 0 to {_MAX_WEIGHT}")
    return name, weight


@cache
def _is_prime(number: int) -> bool:
    return number > 1 and all(number % i for i in range(2, int(number**0.5) + 1))


@lru_cache(maxsize=1 << 16)
def _preference(name: str, size: int) -> tuple[int, int]:
    """First wanted slot, and the step from each to the next; a prime size makes it a tour."""
    digest = hashlib.blake2b(name.encode(), digest_size=16).digest()
    first, step = int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big")
    return first % size, step % (size - 1) + 1


@lru_cache(maxsize=64)
def _populate(active: tuple[tuple[str, int], ...], size: int) -> Sequence[int]:
    """Slot to position in `active`."""
    preferences = [_preference(name, size) for name, _ in active]
    turns = _turns([weight for _, weight in active], size)
    taken = [_EMPTY] * size
    tail = size // _TAIL
    _take(taken, preferences, turns[: size - tail])
    _take_last(taken, preferences, turns[size - tail :])
    return _integers(taken)


def _turns(weights: list[int], size: int) -> list[int]:
    """Who is next, for every slot; the same order with and without NumPy."""
    total = sum(weights)
    counts = [(size + len(weights)) * weight // total + 1 for weight in weights]
    if len(set(weights)) == 1:
        return (list(range(len(weights))) * (size // len(weights) + 1))[:size]
    numpy = _numpy()
    if numpy is None:
        times = chain.from_iterable(
            zip(map(weight.__rtruediv__, range(1, count + 1)), repeat(i))
            for i, (weight, count) in enumerate(zip(weights, counts, strict=True))
        )
        return [i for _, i in sorted(times)[:size]]
    who = numpy.repeat(numpy.arange(len(weights)), counts)
    when = numpy.concatenate(
        [numpy.arange(1, n + 1) / w for w, n in zip(weights, counts, strict=True)]
    )
    ordered: list[int] = who[numpy.argsort(when, kind="stable")[:size]].tolist()
    return ordered


def _take(taken: list[int], preferences: list[tuple[int, int]], turns: list[int]) -> None:
    """Each turn takes the backend's next slot that is free."""
    size = len(taken)
    at = [first for first, _ in preferences]
    steps = [step for _, step in preferences]
    for who in turns:
        slot, step = at[who], steps[who]
        while taken[slot] >= 0:
            slot += step
            if slot >= size:
                slot -= size
        taken[slot] = who
        at[who] = slot


def _take_last(taken: list[int], preferences: list[tuple[int, int]], turns: list[int]) -> None:
    """The same when trials would mostly fail: each backend's wishes among the free slots."""
    free = [slot for slot, who in enumerate(taken) if who < 0]
    wishes: dict[int, Iterable[int]] = {}
    for who in turns:
        if who not in wishes:
            wishes[who] = iter(_in_order(free, *preferences[who], len(taken)))
        for slot in wishes[who]:
            if taken[slot] < 0:
                taken[slot] = who
                break


def _in_order(free: list[int], first: int, step: int, size: int) -> list[int]:
    """Free slots as one backend's tour comes to them."""
    inverse = pow(step, -1, size)
    tour = sorted(((slot - first) * inverse % size, slot) for slot in free)
    return list(map(itemgetter(1), tour))


def _renumbered(populated: Sequence[int], order: list[int]) -> Sequence[int]:
    numpy = _numpy()
    if numpy is None:
        return array("i", map(order.__getitem__, populated))
    renumbered: Sequence[int] = numpy.asarray(order, dtype=numpy.int32)[populated]
    return renumbered


def _integers(values: list[int]) -> Sequence[int]:
    numpy = _numpy()
    if numpy is None:
        return array("i", values)
    integers: Sequence[int] = numpy.asarray(values, dtype=numpy.int32)
    return integers


@cache
def _numpy() -> Any:
    try:
        import numpy
    except ImportError:
        return None
    return numpy
