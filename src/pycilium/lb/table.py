# SPDX-License-Identifier: Apache-2.0
"""The service table: stable ids, contiguous slots, and changes in an order that never lies.

A service's backends are a run of slots. A change writes a fresh run and then the service, in
one entry: a packet sees the old run or the new one, never half of each. What has become free
is used again last, long after the last packet that read it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, MutableMapping

import attrs

from pycilium.errors import MapFullError, SpecError
from pycilium.lb.draft import Draft, differing
from pycilium.model.service import Backend, Frontend, ServiceLB


@attrs.frozen
class ServiceRow:
    """pcl_services: where a frontend's run of slots begins and how long it is."""

    id: int
    first: int
    count: int


@attrs.frozen
class BackendRow:
    """pcl_backends: one server at an index."""

    index: int
    id: int
    backend: Backend


@attrs.frozen
class Changes:
    """What to write, in this order: backends, slots, services; then what to delete."""

    backends: tuple[BackendRow, ...] = ()
    slots: tuple[tuple[int, int], ...] = ()
    services: Mapping[Frontend, ServiceRow] = attrs.field(factory=dict)
    removed: tuple[Frontend, ...] = ()
    added: int = 0
    changed: int = 0

    @property
    def writes(self) -> int:
        """Map entries written or deleted."""
        return len(self.backends) + len(self.slots) + len(self.services) + len(self.removed)


@attrs.frozen
class Sizes:
    """How much the maps hold."""

    services: int
    slots: int
    backends: int


@attrs.define
class _State:
    services: MutableMapping[Frontend, ServiceRow]
    wanted: MutableMapping[Frontend, ServiceLB]
    backends: MutableMapping[Backend, tuple[int, int]]  # index, references
    next_service: int
    next_slot: int
    next_backend: int
    free_slots: deque[tuple[int, int]]  # first, count
    free_backends: deque[int]
    free_services: deque[int]

    def draft(self) -> _State:
        """A state that can be changed; this one changes when that is accepted."""
        return attrs.evolve(
            self,
            services=Draft(self.services),
            wanted=Draft(self.wanted),
            backends=Draft(self.backends),
            free_slots=deque(self.free_slots),
            free_backends=deque(self.free_backends),
            free_services=deque(self.free_services),
        )

    def accept(self) -> _State:
        """Of a draft: the state below it, changed."""
        drafts = {name: getattr(self, name) for name in ("services", "wanted", "backends")}
        return attrs.evolve(self, **{name: draft.accept() for name, draft in drafts.items()})


class ServiceTable:
    """What the kernel's service maps hold, and what it takes to make them hold something else."""

    def __init__(self, sizes: Sizes | tuple[int, int, int]) -> None:
        self._sizes = sizes if isinstance(sizes, Sizes) else Sizes(*sizes)
        empty: dict[Frontend, ServiceRow] = {}
        self._state = _State(empty, {}, {}, 1, 0, 0, deque(), deque(), deque())
        self._order: tuple[ServiceLB, ...] = ()

    @classmethod
    def restore(
        cls,
        sizes: Sizes | tuple[int, int, int],
        rows: Mapping[Frontend, ServiceRow],
        runs: Mapping[Frontend, tuple[tuple[int, Backend], ...]],
    ) -> ServiceTable:
        """The table that left these rows, with (index, backend) of every slot of a row's run."""
        table = cls(sizes)
        state = table._state
        for frontend, run in runs.items():
            state.wanted[frontend] = ServiceLB(frontend, backends=[one for _, one in run])
            for index, backend in run:
                references = state.backends.get(backend, (index, 0))[1]
                state.backends[backend] = (index, references + 1)
        table._order = tuple(state.wanted.values())
        state.services.update(rows)
        state.next_service = 1 + max((row.id for row in rows.values()), default=0)
        state.next_slot, gaps = _gaps((row.first, row.count) for row in rows.values() if row.count)
        state.free_slots.extend(gaps)
        used = {index for index, _ in state.backends.values()}
        state.next_backend = 1 + max(used, default=-1)
        state.free_backends.extend(set(range(state.next_backend)) - used)
        return table

    @property
    def services(self) -> tuple[ServiceLB, ...]:
        """What is in force."""
        return self._order

    def find(self, service_id: int) -> ServiceLB | None:
        """By the number that events carry."""
        for frontend, row in self._state.services.items():
            if row.id == service_id:
                return self._state.wanted[frontend]
        return None

    def plan(self, desired: Iterable[ServiceLB]) -> Changes:
        """The changes that lead to exactly these services; nothing is changed.

        Raises SpecError for a frontend that two services claim, MapFullError.
        """
        return self.prepare(desired)[0]

    def prepare(self, desired: Iterable[ServiceLB]) -> tuple[Changes, Callable[[], None]]:
        """What plan() returns, and the call that puts it in force here."""
        order = tuple(desired)
        old, new = differing(self._order, order)
        planner = _Planner(self._state.draft(), self._sizes, len(self._order))
        changes = planner.run(_by_frontend(old), _by_frontend(new))

        def accept() -> None:
            self._state = planner.state.accept()
            self._order = order

        return changes, accept

    def commit(self, desired: Iterable[ServiceLB]) -> Changes:
        """Like plan(), and from now on they are in force."""
        changes, accept = self.prepare(desired)
        accept()
        return changes


def _by_frontend(desired: Iterable[ServiceLB]) -> dict[Frontend, ServiceLB]:
    found: dict[Frontend, ServiceLB] = {}
    for service in desired:
        if not isinstance(service, ServiceLB):
            raise SpecError("services", service, "a ServiceLB")
        if service.frontend in found:
            raise _claimed_twice(service)
        found[service.frontend] = service
    return found


def _claimed_twice(service: ServiceLB) -> SpecError:
    return SpecError("frontend", str(service.frontend), "one service for each frontend")


class _Planner:
    def __init__(self, state: _State, sizes: Sizes, used: int) -> None:
        self.state = state
        self._used = used
        self._sizes = sizes
        self._backends: list[BackendRow] = []
        self._slots: list[tuple[int, int]] = []
        self._services: dict[Frontend, ServiceRow] = {}
        self._freed: list[ServiceRow] = []

    def run(self, old: dict[Frontend, ServiceLB], desired: dict[Frontend, ServiceLB]) -> Changes:
        """From some of the services in force to others in their place."""
        removed = tuple(frontend for frontend in old if frontend not in desired)
        changed = [s for f, s in desired.items() if f in old and old[f].backends != s.backends]
        added = [service for frontend, service in desired.items() if frontend not in old]
        for service in added:
            if service.frontend in self.state.wanted:
                raise _claimed_twice(service)
        self._require_room(len(added), len(removed))
        released = [b for f in removed for b in old[f].backends]
        released += [b for service in changed for b in old[service.frontend].backends]
        for service in (*changed, *added):
            self._write(service)
        for frontend in removed:
            self._remove(frontend)
        for backend in released:
            self._release(backend)
        self._reuse_later()
        self.state.wanted.update(desired)
        return Changes(
            tuple(self._backends),
            tuple(self._slots),
            self._services,
            removed,
            len(added),
            len(changed),
        )

    def _require_room(self, added: int, removed: int) -> None:
        used, size = self._used, self._sizes.services
        if used - removed + added > size:
            raise MapFullError("pcl_services", needed=added, used=used, size=size)

    def _write(self, service: ServiceLB) -> None:
        indexes = [self._acquire(backend) for backend in service.backends]
        first = self._allocate_slots(len(indexes))
        self._slots += [(first + i, index) for i, index in enumerate(indexes)]
        old = self.state.services.get(service.frontend)
        if old is not None:
            self._freed.append(old)
        row = ServiceRow(old.id if old else self._service_id(), first, len(indexes))
        self.state.services[service.frontend] = self._services[service.frontend] = row

    def _remove(self, frontend: Frontend) -> None:
        del self.state.wanted[frontend]
        row = self.state.services.pop(frontend)
        self._freed.append(row)
        self.state.free_services.append(row.id)

    def _service_id(self) -> int:
        if self.state.next_service < 1 << 31 or not self.state.free_services:
            self.state.next_service += 1
            return self.state.next_service - 1
        return self.state.free_services.popleft()

    def _acquire(self, backend: Backend) -> int:
        held = self.state.backends.get(backend)
        if held is not None:
            self.state.backends[backend] = (held[0], held[1] + 1)
            return held[0]
        index = self._backend_index()
        self.state.backends[backend] = (index, 1)
        self._backends.append(BackendRow(index, index + 1, backend))
        return index

    def _backend_index(self) -> int:
        state = self.state
        if state.next_backend < self._sizes.backends:
            state.next_backend += 1
            return state.next_backend - 1
        if state.free_backends:
            return state.free_backends.popleft()
        used = len(state.backends)
        raise MapFullError("pcl_backends", needed=1, used=used, size=self._sizes.backends)

    def _release(self, backend: Backend) -> None:
        index, references = self.state.backends[backend]
        if references > 1:
            self.state.backends[backend] = (index, references - 1)
        else:
            del self.state.backends[backend]
            self.state.free_backends.append(index)

    def _allocate_slots(self, count: int) -> int:
        """Never used ones first, then the run that is large enough and longest free."""
        if count == 0:
            return 0
        state = self.state
        if state.next_slot + count <= self._sizes.slots:
            state.next_slot += count
            return state.next_slot - count
        for i, (first, length) in enumerate(state.free_slots):
            if length >= count:
                del state.free_slots[i]
                if length > count:
                    state.free_slots.append((first + count, length - count))
                return first
        used = sum(row.count for row in state.services.values())
        raise MapFullError("pcl_slots", needed=count, used=used, size=self._sizes.slots)

    def _reuse_later(self) -> None:
        runs = [(row.first, row.count) for row in self._freed if row.count]
        self.state.free_slots.extend(runs)
        if len(self.state.free_slots) > 64:
            self.state.free_slots = deque(_merge(self.state.free_slots))


def _gaps(runs: Iterable[tuple[int, int]]) -> tuple[int, list[tuple[int, int]]]:
    """Where the last run ends, and the free runs before that."""
    end, gaps = 0, []
    for first, count in sorted(runs):
        if first > end:
            gaps.append((end, first - end))
        end = max(end, first + count)
    return end, gaps


def _merge(runs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Neighbouring free runs become one."""
    merged: list[tuple[int, int]] = []
    for first, count in sorted(runs):
        if merged and merged[-1][0] + merged[-1][1] == first:
            merged[-1] = (merged[-1][0], merged[-1][1] + count)
        else:
            merged.append((first, count))
    return merged
