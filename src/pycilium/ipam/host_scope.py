# SPDX-License-Identifier: Apache-2.0
"""HostScope: the pools of one node, who holds what, and the store that remembers it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pycilium.errors import ClosedError, ConflictError, SpecError
from pycilium.ipam.allocation import Address, Allocation, Usage
from pycilium.ipam.pool import Pool, parse_address
from pycilium.ipam.range import Range
from pycilium.ipam.store import Store
from pycilium.model.labels import Labels

if TYPE_CHECKING:
    import os


def boot_time() -> float:
    """Seconds since boot: a clock that nobody sets, and that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class HostScope:
    """Made by open(). Iterable over allocations; len() is the number of owners.

    Each change is on disk before it counts: allocated is what live owners hold, whenever the
    process dies. Safe to call from several threads.
    """

    def __init__(self, pools: tuple[Pool, ...], store: Store, clock: Callable[[], float]) -> None:
        self.pools = pools
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._closed = False
        self._owners: dict[str, Allocation] = {}
        self._ranges = {
            (pool.name, network.version): Range(pool, network.version)
            for pool in pools
            for network in pool.networks
        }

    @classmethod
    def open(
        cls,
        pools: Pool | Iterable[Pool],
        *,
        path: str | os.PathLike[str] | None = None,
        wait: float = 0.0,
        clock: Callable[[], float] = boot_time,
    ) -> HostScope:
        """Open pools, the first that selects an owner's labels serving it.

        path: the file that remembers allocations (None: nothing is remembered), of one process at
        a time; wait: seconds to wait for another one to close it. clock: seconds that never go
        back while the machine runs. Raises SpecError for pools that share a name or an address,
        ConflictError where another process or another program has the file, KernelError.
        """
        several = (pools,) if isinstance(pools, Pool) else tuple(pools)
        _check_apart(several)
        store = Store.open(None if path is None else Path(path), wait)
        try:
            scope = cls(several, store, clock)
            scope._restore()
        except BaseException:
            store.close()
            raise
        return scope

    def allocate(
        self,
        owner: str,
        *,
        labels: Labels | Mapping[str, str] | str = "",
        pool: str | None = None,
        addresses: Iterable[str | Address] = (),
    ) -> Allocation:
        """Give an owner addresses; asked again, the ones that it holds.

        labels choose the pool unless `pool` names it. addresses: these and no others, one for each
        family at most, which may be reserved or in quarantine; the other family is not given then.
        Raises SpecError, ConflictError where somebody else holds such an address or this owner
        holds others, PoolExhaustedError, KernelError where it could not be written; after each of
        them nothing has changed.
        """
        wanted = tuple(sorted({parse_address("addresses", one) for one in addresses}, key=_order))
        known = labels if isinstance(labels, Labels) else Labels.of(labels)
        _check_owner(owner)
        with self._lock:
            self._require_open()
            held = self._owners.get(owner)
            if held is not None:
                return _same(held, wanted, pool)
            chosen = self._choose(known, pool, wanted)
            given = self._requested(chosen, wanted) if wanted else self._next(chosen)
            allocation = Allocation(owner, chosen.name, given)
            self._store.allocate(allocation)
            self._hold(allocation)
            self._compact()
            return allocation

    def release(self, owner: str) -> Allocation | None:
        """Take back what an owner holds; None where it holds nothing.

        Raises KernelError where it could not be written; the owner holds it still.
        """
        with self._lock:
            self._require_open()
            return self._release(owner)

    def keep(self, owners: Iterable[str], *, among: str = "") -> list[Allocation]:
        """Take back what all other owners hold whose name begins with `among`; what it was."""
        wanted = set(owners)
        with self._lock:
            self._require_open()
            gone = [one for one in self._owners if one.startswith(among) and one not in wanted]
            found = [self._release(owner) for owner in gone]
        return [one for one in found if one is not None]

    def get(self, owner: str) -> Allocation | None:
        """What an owner holds."""
        return self._owners.get(owner)

    def usage(self) -> list[Usage]:
        """How full each family of each pool is."""
        with self._lock:
            now = self._clock()
            return [one.usage(now) for one in self._ranges.values()]

    @property
    def problems(self) -> tuple[str, ...]:
        """What was found damaged when it was opened; empty is good."""
        return self._store.problems

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._closed = True
            self._store.close()

    def __iter__(self) -> Iterator[Allocation]:
        return iter(list(self._owners.values()))

    def __len__(self) -> int:
        return len(self._owners)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        names = ", ".join(one.name for one in self.pools)
        return f"<HostScope {names}: {len(self)} owners>"

    def _choose(self, labels: Labels, name: str | None, wanted: tuple[Address, ...]) -> Pool:
        """By name, by what was asked for, by labels, in this order."""
        for pool in self.pools:
            if name is not None:
                fits = pool.name == name
            elif wanted:
                fits = any((pool.name, one.version) in self._ranges for one in wanted) and all(
                    one in self._ranges.get((pool.name, one.version), ()) for one in wanted
                )
            else:
                fits = pool.selector.matches(labels)
            if fits:
                return pool
        raise _nothing_fits(self.pools, labels, name, wanted)

    def _requested(self, pool: Pool, wanted: tuple[Address, ...]) -> tuple[Address, ...]:
        if len({one.version for one in wanted}) != len(wanted):
            raise SpecError("addresses", [str(one) for one in wanted], "one of each family")
        for one in wanted:
            area = self._ranges.get((pool.name, one.version))
            if area is None or one not in area or not area.may_be_given(one):
                prefixes = ", ".join(map(str, pool.networks))
                raise SpecError(
                    "addresses", str(one), f"a host's address of pool {pool.name} ({prefixes})"
                )
            if area.is_given(one):
                raise ConflictError(f"address {one} is held by {self._holder(one)}")
        return wanted

    def _next(self, pool: Pool) -> tuple[Address, ...]:
        now = self._clock()
        return tuple(
            self._ranges[pool.name, network.version].peek(now) for network in pool.networks
        )

    def _holder(self, address: Address) -> str:
        return next(one.owner for one in self._owners.values() if address in one.addresses)

    def _hold(self, allocation: Allocation) -> None:
        self._owners[allocation.owner] = allocation
        for one, area in self._areas(allocation):
            area.hold(one)

    def _release(self, owner: str) -> Allocation | None:
        held = self._owners.get(owner)
        if held is None:
            return None
        now = self._clock()
        self._store.release(owner, now)
        self._forget(held, now)
        self._compact()
        return held

    def _forget(self, held: Allocation, at: float) -> None:
        del self._owners[held.owner]
        for one, area in self._areas(held):
            area.give_back(one, at)

    def _areas(self, allocation: Allocation) -> list[tuple[Address, Range]]:
        """Where its addresses are from; what an earlier configuration gave is from nowhere."""
        found = ((one, self._area(one)) for one in allocation.addresses)
        return [(one, area) for one, area in found if area is not None]

    def _area(self, address: Address) -> Range | None:
        return next((one for one in self._ranges.values() if address in one), None)

    def _restore(self) -> None:
        """From the store; a time of before a reboot counts from now on."""
        held, resting = self._store.restore()
        for allocation in held:
            self._hold(allocation)
        now = self._clock()
        for address, at in sorted(resting.items(), key=lambda one: one[1]):
            area = self._area(address)
            if area is not None and not area.is_given(address):
                area.hold(address)
                area.give_back(address, min(at, now))

    def _compact(self) -> None:
        if self._store.is_long(len(self._owners)):
            now = self._clock()
            resting = [
                (one, at)
                for area in self._ranges.values()
                for one, at in area.resting()
                if at + area.quarantine > now
            ]
            self._store.compact(self._owners.values(), resting)

    def _require_open(self) -> None:
        if self._closed:
            raise ClosedError("this HostScope is closed")


def _order(address: Address) -> int:
    return address.version


def _check_owner(owner: Any) -> None:
    if not isinstance(owner, str) or not owner or not owner.isprintable():
        raise SpecError("owner", owner, "printable text")


def _check_apart(pools: tuple[Pool, ...]) -> None:
    for at, pool in enumerate(pools):
        for other in pools[:at]:
            if pool.name == other.name:
                raise SpecError("pools", pool.name, "names that differ")
            for one in pool.networks:
                two = other.network(one.version)
                if two is not None and one.overlaps(two):
                    allowed = f"prefixes that do not overlap (pool {other.name} has {two})"
                    raise SpecError("pools", f"{pool.name}: {one}", allowed)


def _same(held: Allocation, wanted: tuple[Address, ...], pool: str | None) -> Allocation:
    if (wanted and wanted != held.addresses) or pool not in (None, held.pool):
        raise ConflictError(f"{held} is held already")
    return held


def _nothing_fits(
    pools: tuple[Pool, ...], labels: Labels, name: str | None, wanted: tuple[Address, ...]
) -> SpecError:
    if name is not None:
        return SpecError("pool", name, f"one of {', '.join(one.name for one in pools) or 'none'}")
    known = ", ".join(f"{one.name} ({' '.join(map(str, one.networks))})" for one in pools)
    if wanted:
        return SpecError("addresses", [str(one) for one in wanted], f"addresses of a pool: {known}")
    selectors = ", ".join(f"{one.name} ({one.selector})" for one in pools)
    return SpecError("labels", str(labels), f"labels that a pool selects: {selectors or 'none'}")
