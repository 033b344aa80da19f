# SPDX-License-Identifier: Apache-2.0
"""Services: the whole desired state in, rows of the service maps out.

Written in an order that never lies: backends, the slots that name them, then the service in
one entry, and what is gone last.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from pycilium.datapath import render
from pycilium.datapath.core import write_pairs
from pycilium.datapath.wire import addr, address_of, be16
from pycilium.errors import SpecError
from pycilium.lb import ServiceRow, ServiceTable
from pycilium.model import Backend, Delta, Frontend, ServiceLB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pycilium.datapath.core import Core
    from pycilium.lb import Changes
    from pycilium.model import Change

Rows = dict[bytes, bytes]
_MAPS = ("pcl_backends", "pcl_slots", "pcl_services")


class Services:
    """Iterable over what was applied; `apply` and `plan` take the full desired state."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._sizes = tuple(
            core.maps[name].max_entries for name in ("pcl_services", "pcl_slots", "pcl_backends")
        )
        self._table = ServiceTable(self._sizes)  # type: ignore[arg-type]
        self.pending: tuple[ServiceLB, ...] | None = None
        self.changed: Callable[[Sequence[ServiceLB], Sequence[ServiceLB]], None] | None = None

    def __iter__(self) -> Iterator[ServiceLB]:
        return iter(self._table.services)

    def __len__(self) -> int:
        return len(self._table.services)

    def __repr__(self) -> str:
        return f"<Services {', '.join(str(one.frontend) for one in self)}>"

    def plan(self, desired: ServiceLB | Iterable[ServiceLB]) -> Delta:
        """What apply() would change, with the exact map entries; touches nothing."""
        wanted = _checked(desired)
        with self._core.lock:
            self._core.require_open()
            changes = self._table.plan(wanted)
            return self._delta(changes, self._rows(changes))

    def apply(self, desired: ServiceLB | Iterable[ServiceLB]) -> Delta:
        """Make these the services in force, all others gone; a second call writes nothing.

        Raises SpecError and MapFullError before anything has changed.
        """
        wanted = _checked(desired)
        with self._core.lock:
            self._core.require_open()
            changes, accept = self._table.prepare(wanted)
            rows = self._rows(changes)
            self.pending = wanted
            try:
                self._core.save()
            finally:
                self.pending = None
            before = self._table.services
            self._write(changes, rows)
            accept()
            if self.changed is not None:
                self.changed(before, wanted)
            return self._delta(changes, rows)

    def find(self, number: int) -> ServiceLB | None:
        """By the number that events and traces carry."""
        return self._table.find(number)

    def adopt(self, desired: Iterable[ServiceLB]) -> None:
        """After a restart: read what stands in the kernel, then write what differs."""
        standing = {}
        for key, row in self._core.maps["pcl_services"].pairs():
            frontend = Frontend(
                address_of(key.addr.bytes, key.family), be16(key.port_be), key.protocol
            )
            standing[frontend] = ServiceRow(row.id, row.first, row.count)
        self._table = ServiceTable.restore(self._sizes, standing, self._runs(standing))  # type: ignore[arg-type]
        self.apply(list(desired))

    def _runs(
        self, standing: dict[Frontend, ServiceRow]
    ) -> dict[Frontend, tuple[tuple[int, Backend], ...]]:
        """Index and backend behind every slot of every service."""
        slots, backends = self._core.maps["pcl_slots"], self._core.maps["pcl_backends"]
        found = {}
        for frontend, row in standing.items():
            indexes = [slots[row.first + i] for i in range(row.count)]
            found[frontend] = tuple((index, _backend(backends[index])) for index in indexes)
        return found

    def _write(self, changes: Changes, rows: dict[str, Rows]) -> None:
        for name, pairs in rows.items():
            write_pairs(self._core.maps[name], pairs)
        table = self._core.maps["pcl_services"]
        table.remove(_key(frontend) for frontend in changes.removed)

    def _rows(self, changes: Changes) -> dict[str, Rows]:
        backends = {
            row.index: {
                "addr": addr(row.backend.address),
                "port_be": be16(row.backend.port),
                "family": row.backend.address.version,
                "id": row.id,
            }
            for row in changes.backends
        }
        services = [
            (_key(frontend), {"id": row.id, "first": row.first, "count": row.count})
            for frontend, row in changes.services.items()
        ]
        tables: tuple[list[tuple[Any, Any]], ...] = (
            list(backends.items()),
            list(changes.slots),
            services,
        )
        return {name: self._encode(name, rows) for name, rows in zip(_MAPS, tables, strict=True)}

    def _encode(self, name: str, rows: list[tuple[Any, Any]]) -> Rows:
        spec = self._core.spec.maps[name]
        assert spec.key is not None
        assert spec.value is not None
        return {spec.key.encode(key): spec.value.encode(value) for key, value in rows}

    def _delta(self, changes: Changes, rows: dict[str, Rows]) -> Delta:
        return Delta(
            added=changes.added,
            changed=changes.changed,
            removed=len(changes.removed),
            entries=cache(lambda: tuple(self._entries(changes, rows))),
        )

    def _entries(self, changes: Changes, rows: dict[str, Rows]) -> Iterator[Change]:
        for name, pairs in rows.items():
            yield from render.changes(self._core.spec.maps[name], name, {}, pairs)
        gone = self._encode("pcl_services", [(_key(one), {}) for one in changes.removed])
        yield from render.changes(self._core.spec.maps["pcl_services"], "pcl_services", gone, {})


def _checked(desired: Any) -> tuple[ServiceLB, ...]:
    several = [desired] if isinstance(desired, ServiceLB) else desired
    if not isinstance(several, (list, tuple)):
        raise SpecError("services", desired, "a ServiceLB or a list of them")
    return tuple(several)


def _key(frontend: Frontend) -> dict[str, Any]:
    return {
        "addr": addr(frontend.address),
        "port_be": be16(frontend.port),
        "protocol": frontend.protocol,
        "family": frontend.address.version,
    }


def _backend(row: Any) -> Backend:
    return Backend(address_of(row.addr.bytes, row.family), be16(row.port_be))
