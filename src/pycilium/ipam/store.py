# SPDX-License-Identifier: Apache-2.0
"""What a HostScope remembers: a log of who was given what, and what was given back when."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from pycilium.durable import Lock, Log
from pycilium.errors import KernelError
from pycilium.ipam.allocation import Address, Allocation

_SCHEMA = 1
_SLACK = 1024  # lines of the past that are not worth a rewrite


class Store:
    """A log and its lock; without a path, nothing is kept."""

    def __init__(self, log: Log | None, lock: Lock | None) -> None:
        self._log = log
        self._lock = lock
        self.problems: tuple[str, ...] = () if log is None else log.problems

    @classmethod
    def open(cls, path: Path | None, wait: float) -> Store:
        """Raises what Lock.acquire() and Log.open() raise."""
        if path is None:
            return cls(None, None)
        lock = Lock.acquire(path.with_name(path.name + ".lock"), wait=wait)
        try:
            return cls(Log.open(path, kind="pycilium.ipam", schema=_SCHEMA), lock)
        except BaseException:
            lock.close()
            raise

    def allocate(self, allocation: Allocation) -> None:
        """Write it down."""
        if self._log is not None:
            self._log.append(_allocated(allocation))

    def release(self, owner: str, at: float) -> None:
        """Write it down."""
        if self._log is not None:
            self._log.append({"release": owner, "at": at})

    def restore(self) -> tuple[list[Allocation], dict[Address, float]]:
        """Allocations that stand, and since when addresses rest."""
        replay = Replay()
        for record in () if self._log is None else self._log.records:
            try:
                replay.take(record)
            except (KeyError, TypeError, ValueError) as error:
                self.problems += (f"a record was left out ({error!r}): {record}",)
        self.problems += tuple(replay.problems)
        return list(replay.held.values()), replay.resting

    def is_long(self, owners: int) -> bool:
        """Whether most of the log is past."""
        return self._log is not None and self._log.lines > 2 * owners + _SLACK

    def compact(self, held: Iterable[Allocation], resting: Iterable[tuple[Address, float]]) -> None:
        """Write the state anew, without its past; where that fails the log stays as it is."""
        if self._log is not None:
            rests = [{"rest": str(address), "at": at} for address, at in resting]
            with suppress(KernelError):
                self._log.rewrite([*map(_allocated, held), *rests])

    def close(self) -> None:
        """Let go of log and lock."""
        if self._log is not None:
            self._log.close()
        if self._lock is not None:
            self._lock.close()


class Replay:
    """The records of a log, one after the other."""

    def __init__(self) -> None:
        self.held: dict[str, Allocation] = {}
        self.resting: dict[Address, float] = {}
        self.problems: list[str] = []
        self._holders: dict[Address, str] = {}

    def take(self, record: dict[str, Any]) -> None:
        """KeyError, TypeError and ValueError for what is none of ours."""
        if "allocate" in record:
            addresses = tuple(map(ip_address, record["addresses"]))
            self._allocate(Allocation(record["allocate"], record["pool"], addresses))
        elif "rest" in record:
            self.resting[ip_address(record["rest"])] = float(record["at"])
        else:
            self._release(record["release"], float(record["at"]))

    def _allocate(self, allocation: Allocation) -> None:
        """The later one has it: of the earlier one's end the record is lost."""
        for address in allocation.addresses:
            self.resting.pop(address, None)
            before = self.held.pop(self._holders.get(address, ""), None)
            if before is not None:
                self.problems.append(f"{before.owner} lost {address} to {allocation.owner}")
            self._holders[address] = allocation.owner
        self.held[allocation.owner] = allocation

    def _release(self, owner: str, at: float) -> None:
        gone = self.held.pop(owner, None)
        for address in () if gone is None else gone.addresses:
            self.resting[address] = at
            del self._holders[address]


def _allocated(one: Allocation) -> dict[str, Any]:
    addresses = [str(address) for address in one.addresses]
    return {"allocate": one.owner, "pool": one.pool, "addresses": addresses}
