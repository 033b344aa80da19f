# SPDX-License-Identifier: Apache-2.0
"""Services: the whole desired state in, rows of the service maps out.

Written in an order that never lies: backends, the slots that name them, then the service in
one entry, and what is gone last.
"""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any

from pycilium.datapath import service_columns
from pycilium.datapath.core import write_pairs
from pycilium.datapath.service_limits import refusal
from pycilium.datapath.service_rows import Step, Writer
from pycilium.datapath.wire import address_of, be16
from pycilium.errors import SpecError
from pycilium.lb import (
    BackendRow,
    Changes,
    Place,
    ServiceTable,
    Sizes,
    Standing,
    column_table,
)
from pycilium.model import Backend, Delta, Frontend, ServiceLB

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pycilium.datapath.core import Core
    from pycilium.datapath.sockets import Sockets
    from pycilium.lb.column_table import ColumnState
    from pycilium.lb.columns import ServiceColumns

_MAPS = ("pcl_services", "pcl_slots", "pcl_backends", "pcl_source_ranges")
_SHOWN = 8


class Services:
    """Iterable over what was applied; `apply` and `plan` take the full desired state."""

    def __init__(self, core: Core, sockets: Sockets) -> None:
        self._core = core
        self._sockets = sockets
        self._sizes = Sizes(*(core.maps[name].max_entries for name in _MAPS))
        self._writer = Writer(core)
        self._table = ServiceTable(self._sizes, self._place)
        self._columns: ColumnState | None = None
        self.pending: tuple[ServiceLB, ...] | None = None

    @property
    def _place(self) -> Place:
        config = self._core.config
        return Place(config.node_name, config.zone, bool(config.devices), config.maglev_size)

    @property
    def node_name(self) -> str:
        """What backends of this node name as theirs."""
        return self._core.config.node_name

    def __iter__(self) -> Iterator[ServiceLB]:
        if self._columns is not None:
            return service_columns.services_of(self._columns)
        return iter(self._table.services)

    def __len__(self) -> int:
        return len(self._table.services if self._columns is None else self._columns)

    def __repr__(self) -> str:
        shown = [str(one.frontend) for one in islice(self, _SHOWN)]
        more = [f"and {len(self) - _SHOWN} more"] if len(self) > _SHOWN else []
        return f"<Services {', '.join([*shown, *more])}>"

    def refused(self, desired: ServiceLB | Iterable[ServiceLB]) -> tuple[SpecError, ...]:
        """Why apply() would not take some of these services; empty where it takes all."""
        return tuple(self._refusals(_typed(desired)).values())

    def plan(self, desired: ServiceLB | Iterable[ServiceLB], *, go_on: bool = False) -> Delta:
        """What apply() would change, with the exact map entries; touches nothing."""
        wanted = self._supported(desired) if go_on else _listed(desired)
        with self._core.lock:
            self._core.require_open()
            self._leave_columns()
            changes = self._table.plan(wanted, self._require_support)
            return self._delta(changes, self._writer.steps(changes))

    def apply(self, desired: ServiceLB | Iterable[ServiceLB], *, go_on: bool = False) -> Delta:
        """Make these the services in force, all others gone; a second call writes nothing.

        go_on: leave out what the programs cannot do, which refused() tells.
        Raises SpecError and MapFullError before anything has changed.
        """
        wanted = self._supported(desired) if go_on else _listed(desired)
        with self._core.lock:
            self._core.require_open()
            self._leave_columns()
            changes, accept = self._table.prepare(wanted, self._require_support)
            steps = self._writer.steps(changes)
            with self._sockets.claimed(changes.after):
                self._save(wanted)
            for step in steps:
                self._carry_out(step)
            accept()
            self._sockets.release(changes.before)
            self._sockets.end_parted(changes.before, changes.after)
            return self._delta(changes, steps)

    def _save(self, wanted: tuple[ServiceLB, ...]) -> None:
        self.pending = wanted
        try:
            self._core.save()
        finally:
            self.pending = None

    def apply_columns(self, desired: ServiceColumns) -> Delta:
        """The same for very many plain services, as NumPy arrays: a few batches for all of them.

        Connections stay with backends that stay, as with apply(), and both may follow one another.
        Raises SpecError and MapFullError before anything has changed.
        """
        with self._core.lock:
            self._core.require_open()
            before = self._as_columns()
            changes = column_table.plan(before, desired, self._sizes)
            batches = service_columns.batches(self._core, before, changes)
            self._columns = before
            self._core.save()
            for batch in batches:
                service_columns.carry_out(self._core, batch)
            ranges = self._core.maps["pcl_source_ranges"]
            ranges.remove(list(ranges))
            self._columns = changes.after
            self._sockets.release(self._table.services)
            self._table = ServiceTable(self._sizes, self._place)
            if self._core.config.socket_lb:
                self._sockets.end_parted(*service_columns.losing(before, changes))
            return Delta(
                added=changes.added,
                changed=changes.changed,
                removed=len(changes.removed),
                entries=cache(lambda: tuple(service_columns.entries(self._core, batches))),
            )

    def release(self, frontends: Iterable[Frontend]) -> Delta:
        """Serve these no longer, and leave the connections that they have alone.

        For handing services over: new connections find nothing here and go where the host sends
        them. The others stay with their backends until a later apply() needs the room.
        """
        with self._core.lock:
            self._core.require_open()
            self._leave_columns()
            gone = {one.frontend for one in self} & set(frontends)
            rest = tuple(one for one in self if one.frontend not in gone)
            self.pending = rest
            try:
                self._core.save()
            finally:
                self.pending = None
            for step in self._writer.withdrawal(gone, self._table):
                self._carry_out(step)
            self._read_back()
            self.apply(rest)
            return Delta(removed=len(gone))

    def _as_columns(self) -> ColumnState:
        if self._columns is not None:
            return self._columns
        if not len(self._table.services):
            return column_table.empty(*self._table.numbers)
        return service_columns.read(self._core)

    def manifest(self) -> tuple[ServiceLB, ...] | None:
        """What adopt() is to be given: None where the maps themselves tell it."""
        if self.pending is not None:
            return self.pending
        return self._table.services if self._columns is None else None

    def find(self, number: int) -> ServiceLB | None:
        """By the number that events and traces carry."""
        if self._columns is not None:
            return service_columns.find(self._columns, number)
        return self._table.find(number)

    def adopt(self, desired: Iterable[ServiceLB] | None) -> None:
        """After a restart: read what stands in the kernel, then write what differs."""
        if desired is None:
            self._columns = service_columns.read(self._core)
            return
        self._read_back()
        self._sockets.services_found(self._table.services)
        self.apply(list(desired))

    def _leave_columns(self) -> None:
        """Objects again: from what stands in the kernel."""
        if self._columns is not None:
            self._read_back()
            self._columns = None

    def _read_back(self) -> None:
        servers, last = self._servers()
        sources = self._sources()
        slots = self._core.maps["pcl_slots"]
        standing, walls = {}, set()
        for key, value in self._core.maps["pcl_services"].pairs():
            frontend = Frontend(
                address_of(key.addr.bytes, key.family), be16(key.port_be), key.protocol
            )
            row = self._writer.row_of(value)
            if row.wall:
                walls.add(frontend)
                continue
            standing[frontend] = Standing(
                row,
                tuple(servers[value.id]),
                tuple(slots[value.first + i] for i in range(row.slots)),
                tuple(sources[value.sources]) if value.sources else (),
            )
        self._table = ServiceTable.restore(
            self._sizes, standing, last_backend=last, walls=walls, place=self._place
        )
        wanted = self._table.walls
        stale = Changes(walls=tuple(wanted - walls), unwalled=tuple(walls - wanted))
        for step in self._writer.steps(stale):
            self._carry_out(step)

    def _servers(self) -> tuple[dict[int, list[BackendRow]], int]:
        """Rows of pcl_backends by service, and the highest number that any has or had."""
        found: dict[int, list[BackendRow]] = defaultdict(list)
        last = 0
        for index, value in self._core.maps["pcl_backends"].pairs():
            last = max(last, value.id)
            state = self._writer.state_of(value.state)
            if state is not None:
                address = address_of(value.addr.bytes, value.family)
                backend = Backend(address, be16(value.port_be), state=state)
                found[value.service].append(BackendRow(index, value.id, value.service, backend))
        return found, last

    def _sources(self) -> dict[int, list[Any]]:
        return self._writer.ranges_of(self._core.maps["pcl_source_ranges"].pairs())

    def _refusals(self, services: tuple[ServiceLB, ...]) -> dict[ServiceLB, SpecError]:
        """Those that apply() would not take, by what they ask for and by what is in their way."""
        found = {one: error for one in services if (error := self._refusal(one)) is not None}
        rest = [one for one in services if one not in found] if found else services
        return found | self._sockets.refusals(rest)

    def _supported(self, desired: Any) -> tuple[ServiceLB, ...]:
        services = _typed(desired)
        refused = self._refusals(services)
        return tuple(one for one in services if one not in refused) if refused else services

    def _require_support(self, service: ServiceLB) -> None:
        error = self._refusal(service)
        if error is not None:
            raise error

    def _carry_out(self, step: Step) -> None:
        table = self._core.maps[step.map]
        if step.delete:
            table.batch_delete(b"".join(step.pairs), len(step.pairs))
        else:
            write_pairs(table, step.pairs)

    def _refusal(self, service: ServiceLB) -> SpecError | None:
        sockets = self._core.config.socket_lb is not None
        return refusal(service, self._place, sockets=sockets)

    def _delta(self, changes: Changes, steps: tuple[Step, ...]) -> Delta:
        return Delta(
            added=changes.added,
            changed=changes.changed,
            removed=len(changes.removed),
            entries=cache(lambda: tuple(self._writer.entries(steps))),
        )


def _listed(desired: Any) -> tuple[ServiceLB, ...]:
    several = [desired] if isinstance(desired, ServiceLB) else desired
    if not isinstance(several, (list, tuple)):
        raise SpecError("services", desired, "a ServiceLB or a list of them")
    return tuple(several)


def _typed(desired: Any) -> tuple[ServiceLB, ...]:
    listed = _listed(desired)
    for one in listed:
        if not isinstance(one, ServiceLB):
            raise SpecError("services", one, "a ServiceLB")
    return listed
