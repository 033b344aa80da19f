# SPDX-License-Identifier: Apache-2.0
"""The service table: what the kernel's maps hold, and what leads from that to something else.

A service's backends are a run of slots, one for each share of new connections. A change writes a
fresh run and then the service, in one entry: a packet sees the old run or the new one, never half
of each. A backend's row belongs to one service and says what it may get; a connection that holds
the row's number is cut by writing that row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping

import attrs

from pycilium.errors import SpecError
from pycilium.lb.choice import Place, candidates, outside_candidates, run_of
from pycilium.lb.draft import Draft, differing
from pycilium.lb.room import Room, Use
from pycilium.lb.rows import BackendRow, Changes, ServiceRow, Sizes, Standing
from pycilium.model.frontend import Backend, BackendState, Frontend
from pycilium.model.service import (
    DEFAULT_AFFINITY_SECONDS,
    Algorithm,
    Forwarding,
    Network,
    ServiceKind,
    ServiceLB,
    SessionAffinity,
    SourceRangesMode,
)

Check = Callable[[ServiceLB], None]
_TCP, _UDP = 6, 17
_DSR = {Forwarding.SNAT: (), Forwarding.DSR: (_TCP, _UDP), Forwarding.HYBRID: (_TCP,)}


@attrs.frozen
class _Placed:
    """A service in the maps; servers: index and number, in the order of its backends."""

    row: ServiceRow
    servers: tuple[tuple[int, int], ...]
    run: tuple[int, ...]


@attrs.define
class _State:
    placed: MutableMapping[Frontend, _Placed]
    wanted: MutableMapping[Frontend, ServiceLB]
    room: Room
    walls: MutableMapping[Frontend, int] = attrs.field(factory=dict)  # services behind each

    def draft(self) -> _State:
        """A state that can be changed; this one changes when that is accepted."""
        drafts = Draft(self.placed), Draft(self.wanted), self.room.draft(), Draft(self.walls)
        return _State(*drafts)

    def accept(self) -> _State:
        """Of a draft: the state below it, changed."""
        assert isinstance(self.placed, Draft)
        assert isinstance(self.wanted, Draft)
        assert isinstance(self.walls, Draft)
        walls = self.walls.accept()
        return _State(self.placed.accept(), self.wanted.accept(), self.room, walls)


class ServiceTable:
    """What the kernel's service maps hold, and what it takes to make them hold something else."""

    def __init__(self, sizes: Sizes | tuple[int, ...], place: Place = Place()) -> None:  # noqa: B008
        self._sizes = sizes if isinstance(sizes, Sizes) else Sizes(*sizes)
        self._place = place
        self._state = _State({}, {}, Room.of(self._sizes))
        self._order: tuple[ServiceLB, ...] = ()

    @classmethod
    def restore(
        cls,
        sizes: Sizes | tuple[int, ...],
        standing: Mapping[Frontend, Standing],
        *,
        last_backend: int = 0,
        walls: Collection[Frontend] = (),
        place: Place = Place(),  # noqa: B008
    ) -> ServiceTable:
        """The table that left this; last_backend: the highest number that any row has or had.

        walls: the addresses whose other ports are refused, as the maps hold them.
        """
        table = cls(sizes, place)
        state, room = table._state, table._state.room
        for frontend, one in standing.items():
            servers = tuple((server.index, server.id) for server in one.servers)
            state.wanted[frontend] = _read_back(frontend, one, walls)
            state.placed[frontend] = _Placed(one.row, servers, one.run)
            wall = _wall(state.wanted[frontend], place)
            if wall is not None:
                state.walls[wall] = state.walls.get(wall, 0) + 1
        table._order = tuple(state.wanted.values())
        rows = [one.row for one in standing.values()]
        room.next_service = 1 + max((row.id for row in rows), default=0)
        room.next_sources = 1 + max((row.sources for row in rows), default=0)
        room.next_backend = 1 + last_backend
        runs = ((row.first, row.slots) for row in rows)
        indexes = (server.index for one in standing.values() for server in one.servers)
        room.take(runs, indexes, sum(len(one.sources) for one in standing.values()))
        return table

    @property
    def services(self) -> tuple[ServiceLB, ...]:
        """What is in force."""
        return self._order

    @property
    def walls(self) -> frozenset[Frontend]:
        """The addresses whose other ports are refused, with port and protocol 0."""
        return frozenset(self._state.walls)

    @property
    def numbers(self) -> tuple[int, int]:
        """What the next service and the next backend will be."""
        return self._state.room.next_service, self._state.room.next_backend

    def find(self, service_id: int) -> ServiceLB | None:
        """By the number that events carry."""
        for frontend, placed in self._state.placed.items():
            if placed.row.id == service_id:
                return self._state.wanted[frontend]
        return None

    def row(self, frontend: Frontend) -> ServiceRow:
        """What the kernel holds for a frontend. Raises KeyError."""
        return self._state.placed[frontend].row

    def plan(self, desired: Iterable[ServiceLB], check: Check | None = None) -> Changes:
        """The changes that lead to exactly these services; nothing is changed.

        check: called with each service that is not in force as it is; it may raise.
        Raises SpecError for a frontend that two services claim, MapFullError.
        """
        return self.prepare(desired, check)[0]

    def prepare(
        self, desired: Iterable[ServiceLB], check: Check | None = None
    ) -> tuple[Changes, Callable[[], None]]:
        """What plan() returns, and the call that puts it in force here."""
        order = tuple(desired)
        old, new = differing(self._order, order)
        for service in new:
            if not isinstance(service, ServiceLB):
                raise SpecError("services", service, "a ServiceLB")
            if check is not None:
                check(service)
        standing = len(self._order) + len(self._state.walls)
        used = Use("pcl_services", self._sizes.services, standing)
        planner = _Planner(self._state.draft(), self._place, used)
        changes = planner.run(_by_frontend(old), _by_frontend(new))
        changes = attrs.evolve(changes, before=old, after=new)

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
        if service.frontend in found:
            raise _claimed_twice(service, found[service.frontend])
        found[service.frontend] = service
    return found


def _claimed_twice(service: ServiceLB, other: ServiceLB) -> SpecError:
    holder = f"; service {other.name} has it" if other.name else ""
    allowed = f"one service for each frontend{holder}"
    return service.error("frontend", str(service.frontend), allowed)


def _read_back(frontend: Frontend, one: Standing, walls: Collection[Frontend]) -> ServiceLB:
    """What the maps tell of a service: enough to see what differs."""
    walled = Frontend(frontend.address, 0, 0) in walls
    outside = ServiceKind.EXTERNAL_IP if walled else ServiceKind.NODE_PORT
    affinity = SessionAffinity.CLIENT_IP if one.row.affinity else SessionAffinity.NONE
    return ServiceLB(
        frontend,
        backends=[server.backend for server in one.servers],
        session_affinity=affinity,
        affinity_timeout=one.row.affinity or DEFAULT_AFFINITY_SECONDS,
        source_ranges=one.sources,
        source_ranges_mode=SourceRangesMode.DENY if one.row.deny else SourceRangesMode.ALLOW,
        kind=outside if one.row.outside else ServiceKind.CLUSTER_IP,
    )


def _wall(service: ServiceLB, place: Place) -> Frontend | None:
    """Its address is the service's alone, so that no other port of it leads anywhere."""
    own = service.kind in (ServiceKind.NODE_PORT, ServiceKind.HOST_PORT)
    return None if own or not place.outside else Frontend(service.frontend.address, 0, 0)


class _Planner:
    def __init__(self, state: _State, place: Place, used: Use) -> None:
        self.state = state
        self._room = state.room
        self._place = place
        self._used = used
        self._backends: list[BackendRow] = []
        self._sources: list[tuple[int, Network]] = []
        self._slots: list[tuple[int, int]] = []
        self._services: dict[Frontend, ServiceRow] = {}
        self._retired: list[BackendRow] = []
        self._unused: list[tuple[int, Network]] = []
        self._free_runs: list[tuple[int, int]] = []
        self._walls: list[Frontend] = []
        self._unwalled: list[Frontend] = []

    def run(self, old: dict[Frontend, ServiceLB], desired: dict[Frontend, ServiceLB]) -> Changes:
        """From some of the services in force to others in their place."""
        removed = tuple(frontend for frontend in old if frontend not in desired)
        changed = [one for f, one in desired.items() if f in old and old[f] != one]
        added = [one for frontend, one in desired.items() if frontend not in old]
        for service in added:
            if service.frontend in self.state.wanted:
                raise _claimed_twice(service, self.state.wanted[service.frontend])
        leaving = [*removed, *(one.frontend for one in changed)]
        self._count_walls([*added, *changed], [old[one] for one in leaving])
        self._used.asked = len(added) + len(self._walls)
        gone = len(removed) + len(self._unwalled)
        self._used.full = self._used.used + self._used.asked - gone > self._used.size
        self._used.require()
        for service in (*changed, *added):
            self._write(service, old.get(service.frontend))
        for frontend in removed:
            self._remove(frontend)
        self._room.require()
        free = [row.index for row in self._retired if row.gone]
        self._room.free(free, self._free_runs, len(self._unused))
        self.state.wanted.update(desired)
        return self._changes(removed, len(added), len(changed))

    def _count_walls(self, added: Iterable[ServiceLB], removed: Iterable[ServiceLB]) -> None:
        counts = self.state.walls
        before: dict[Frontend, int] = {}
        for services, one in ((added, 1), (removed, -1)):
            for wall in filter(None, (_wall(service, self._place) for service in services)):
                before.setdefault(wall, counts.get(wall, 0))
                counts[wall] = counts.get(wall, 0) + one
        for wall, count in before.items():
            if not counts[wall]:
                del counts[wall]
            if bool(count) != (wall in counts):
                (self._unwalled if count else self._walls).append(wall)

    def _changes(self, removed: tuple[Frontend, ...], added: int, changed: int) -> Changes:
        return Changes(
            backends=tuple(self._backends),
            sources=tuple(self._sources),
            slots=tuple(self._slots),
            services=self._services,
            retired=tuple(self._retired),
            removed=removed,
            walls=tuple(self._walls),
            unwalled=tuple(self._unwalled),
            unused=tuple(self._unused),
            added=added,
            changed=changed,
        )

    def _write(self, service: ServiceLB, old: ServiceLB | None) -> None:
        placed = self.state.placed.get(service.frontend)
        number = placed.row.id if placed else self._room.new_service()
        servers = self._place_backends(service, old, number, placed)
        inside = self._run(service, servers, candidates(service, self._place))
        outside = self._run(service, servers, outside_candidates(service, self._place))
        run = inside if outside == inside else inside + outside
        if placed is not None and run == placed.run:
            first = placed.row.first
        else:
            first = self._write_run(run, placed)
        row = ServiceRow(
            number,
            first,
            len(inside),
            affinity=_affinity(service),
            sources=self._source_set(service, old, placed),
            deny=bool(service.source_ranges)
            and service.source_ranges_mode is SourceRangesMode.DENY,
            outside=service.kind is not ServiceKind.CLUSTER_IP,
            outside_start=len(run) - len(outside),
            outside_count=len(outside),
            maglev=service.algorithm is Algorithm.MAGLEV,
            dsr=_DSR[service.forwarding],
        )
        if placed is None or row != placed.row:
            self._services[service.frontend] = row
        self.state.placed[service.frontend] = _Placed(row, tuple(servers.values()), run)

    def _place_backends(
        self, service: ServiceLB, old: ServiceLB | None, number: int, placed: _Placed | None
    ) -> dict[Backend, tuple[int, int]]:
        """Who stays keeps index and number; who is new gets them; who has gone is retired."""
        held = {}
        if old is not None and placed is not None:
            pairs = zip(old.backends, placed.servers, strict=True)
            held = {(one.address, one.port): (one, server) for one, server in pairs}
        servers = {}
        for backend in service.backends:
            before, server = held.pop((backend.address, backend.port), (None, (0, 0)))
            if before is None:
                server = self._room.new_backend()
                self._backends.append(BackendRow(*server, number, backend))
            elif before.state is not backend.state:
                self._restate(BackendRow(*server, number, backend))
            servers[backend] = server
        self._retire((one, server) for one, server in held.values())
        return servers

    def _restate(self, row: BackendRow) -> None:
        """Active before a run names it, and anything else after no run does."""
        active = row.backend.state is BackendState.ACTIVE
        (self._backends if active else self._retired).append(row)

    def _retire(self, servers: Iterable[tuple[Backend, tuple[int, int]]]) -> None:
        for backend, (index, number) in servers:
            self._retired.append(BackendRow(index, number, 0, backend, gone=True))

    def _run(
        self,
        service: ServiceLB,
        servers: dict[Backend, tuple[int, int]],
        chosen: tuple[Backend, ...],
    ) -> tuple[int, ...]:
        return tuple(servers[one][0] for one in run_of(service, chosen, self._place))

    def _write_run(self, run: tuple[int, ...], placed: _Placed | None) -> int:
        first = self._room.new_run(len(run))
        self._slots += [(first + i, index) for i, index in enumerate(run)]
        if placed is not None:
            self._free_runs.append((placed.row.first, len(placed.run)))
        return first

    def _source_set(self, service: ServiceLB, old: ServiceLB | None, placed: _Placed | None) -> int:
        """A set is never changed: other ranges are another set, switched with the service."""
        before = old.source_ranges if old else ()
        standing = placed.row.sources if placed else 0
        if before == service.source_ranges:
            return standing
        self._unused += [(standing, one) for one in before]
        if not service.source_ranges:
            return 0
        number = self._room.new_sources(len(service.source_ranges))
        self._sources += [(number, one) for one in service.source_ranges]
        return number

    def _remove(self, frontend: Frontend) -> None:
        service = self.state.wanted.pop(frontend)
        placed = self.state.placed.pop(frontend)
        self._free_runs.append((placed.row.first, len(placed.run)))
        self._unused += [(placed.row.sources, one) for one in service.source_ranges]
        self._retire(zip(service.backends, placed.servers, strict=True))


def _affinity(service: ServiceLB) -> int:
    if service.session_affinity is SessionAffinity.NONE:
        return 0
    return service.affinity_timeout
