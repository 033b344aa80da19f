# SPDX-License-Identifier: Apache-2.0
"""Rows of the service table as map entries, and map entries as rows."""

from __future__ import annotations

from collections import defaultdict
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import attrs

from pycilium.datapath import render
from pycilium.datapath.config import jiffies, seconds
from pycilium.datapath.wire import addr, address_of, be16
from pycilium.lb import ServiceRow
from pycilium.libbpf import packer
from pycilium.model import BackendState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pycilium.datapath.core import Core
    from pycilium.lb import BackendRow, Changes, ServiceTable
    from pycilium.model import Change, Frontend
    from pycilium.model.service import Network


_DSR = {6: "PCL_SERVICE_DSR_TCP", 17: "PCL_SERVICE_DSR_UDP"}
_WALL = ServiceRow(0, 0, 0, outside=True, wall=True)


@attrs.frozen
class Step:
    """Entries of one map that are written, or deleted, in one go."""

    map: str
    pairs: Mapping[bytes, bytes]
    delete: bool = False


class Writer:
    """Knows the structs of one loaded object."""

    def __init__(self, core: Core) -> None:
        self._specs = core.spec.maps
        self._static_bits = int(core.limits.PCL_SOURCES_STATIC_BITS)
        self._flags = core.spec.enums["pcl_service_flags"]
        states = core.spec.enums["pcl_backend_state"]
        self._numbers = {one: int(states[f"PCL_BACKEND_{one.name}"]) for one in BackendState}
        services, backends = self._specs["pcl_services"], self._specs["pcl_backends"]
        self._pack_key = packer(services.key, "addr", "port_be", "protocol", "family", "pad")
        self._pack_service = packer(
            services.value,
            "id", "first", "count", "flags", "affinity", "sources", "outside_first",
            "outside_count",
        )  # fmt: skip
        self._pack_backend = packer(
            backends.value, "addr", "port_be", "state", "family", "id", "service", "index"
        )
        self._states = {number: state for state, number in self._numbers.items()}

    def steps(self, changes: Changes) -> tuple[Step, ...]:
        """What carries out the changes, in order; nothing that would write nothing."""
        services = [(self._key(one), self._service(row)) for one, row in changes.services.items()]
        wall = self._service(_WALL)
        walls = [(self._key(one), wall) for one in changes.walls]
        unwalled: list[tuple[Any, Any]] = [(self._key(one), {}) for one in changes.unwalled]
        removed: list[tuple[Any, Any]] = [(self._key(frontend), {}) for frontend in changes.removed]
        plan: tuple[tuple[str, list[tuple[Any, Any]], bool], ...] = (
            ("pcl_backends", self._backends(changes.backends), False),
            ("pcl_source_ranges", self._sources(changes.sources), False),
            ("pcl_slots", list(changes.slots), False),
            ("pcl_services", unwalled + removed, True),  # first: what comes may need the room
            ("pcl_services", services + walls, False),
            ("pcl_backends", self._backends(changes.retired), False),
            ("pcl_source_ranges", self._sources(changes.unused), True),
        )
        return tuple(
            Step(name, self._encode(name, rows), gone) for name, rows, gone in plan if rows
        )

    def withdrawal(self, frontends: Iterable[Frontend], table: ServiceTable) -> tuple[Step, ...]:
        """Takes services out of sight, with their source ranges; backends keep their rows."""
        gone = {one.frontend: one for one in table.services if one.frontend in set(frontends)}
        numbered = [(table.row(frontend).sources, one) for frontend, one in gone.items()]
        sources = [(number, net) for number, one in numbered if number for net in one.source_ranges]
        plan: tuple[tuple[str, list[tuple[Any, Any]]], ...] = (
            ("pcl_services", [(self._key(frontend), {}) for frontend in gone]),
            ("pcl_source_ranges", self._sources(sources)),
        )
        return tuple(Step(name, self._encode(name, rows), True) for name, rows in plan if rows)

    def entries(self, steps: Iterable[Step]) -> Iterator[Change]:
        """The steps as text."""
        for step in steps:
            before, after = (step.pairs, {}) if step.delete else ({}, step.pairs)
            yield from render.changes(self._specs[step.map], step.map, before, after)

    def row_of(self, value: Any) -> ServiceRow:
        """struct pcl_service_value as a row."""
        return ServiceRow(
            value.id,
            value.first,
            value.count,
            affinity=seconds(value.affinity),
            sources=value.sources,
            deny=bool(value.flags & self._flags.PCL_SERVICE_SOURCES_DENY),
            outside=bool(value.flags & self._flags.PCL_SERVICE_OUTSIDE),
            outside_start=value.outside_first - value.first if value.outside_count else 0,
            outside_count=value.outside_count,
            maglev=bool(value.flags & self._flags.PCL_SERVICE_MAGLEV),
            dsr=tuple(number for number, name in _DSR.items() if value.flags & self._flags[name]),
            wall=bool(value.flags & self._flags.PCL_SERVICE_NOTHING),
        )

    def state_of(self, number: int) -> BackendState | None:
        """enum pcl_backend_state; None where there is no backend."""
        return self._states.get(number)

    def ranges_of(self, pairs: Iterable[tuple[Any, Any]]) -> dict[int, list[Network]]:
        """Entries of pcl_source_ranges by set. The family of a prefix is told by its service."""
        found: dict[int, list[Any]] = defaultdict(list)
        for key, family in pairs:
            length = key.prefixlen - self._static_bits
            network = ip_network((address_of(key.addr.bytes, family), length))
            found[key.set].append(network)
        return found

    def _encode(self, name: str, rows: list[tuple[Any, Any]]) -> dict[bytes, bytes]:
        spec = self._specs[name]
        assert spec.key is not None
        assert spec.value is not None
        key, value = spec.key.encode, spec.value.encode
        return {
            k if type(k) is bytes else key(k): v if type(v) is bytes else value(v) for k, v in rows
        }

    def _key(self, frontend: Frontend) -> bytes:
        address, port = frontend.address, be16(frontend.port)
        return self._pack_key(addr(address), port, frontend.protocol, address.version, 0)

    def _service(self, row: ServiceRow) -> bytes:
        outside = row.first + row.outside_start if row.outside_count else 0
        return self._pack_service(
            row.id, row.first, row.count, self._flags_of(row), jiffies(row.affinity), row.sources,
            outside, row.outside_count,
        )  # fmt: skip

    def _flags_of(self, row: ServiceRow) -> int:
        names = {
            "PCL_SERVICE_SOURCES_DENY": row.deny,
            "PCL_SERVICE_OUTSIDE": row.outside,
            "PCL_SERVICE_MAGLEV": row.maglev,
            "PCL_SERVICE_NOTHING": row.wall,
            **{name: number in row.dsr for number, name in _DSR.items()},
        }
        return sum(int(self._flags[name]) for name, is_set in names.items() if is_set)

    def _backends(self, rows: Iterable[BackendRow]) -> list[tuple[Any, Any]]:
        return [(row.index, self._backend(row)) for row in rows]

    def _backend(self, row: BackendRow) -> bytes:
        if row.gone:
            return self._pack_backend(b"", 0, 0, 0, row.id, 0, 0)
        address, state = row.backend.address, self._numbers[row.backend.state]
        port = be16(row.backend.port)
        return self._pack_backend(
            addr(address), port, state, address.version, row.id, row.service, row.index
        )

    def _sources(self, rows: Iterable[tuple[int, Network]]) -> list[tuple[Any, Any]]:
        return [
            (
                {
                    "prefixlen": self._static_bits + one.prefixlen,
                    "set": number,
                    "addr": addr(one.network_address),
                },
                one.version,
            )
            for number, one in rows
        ]
