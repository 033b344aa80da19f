# SPDX-License-Identifier: Apache-2.0
"""The kernel's events as flows, with names and rules put to the numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from pycilium.datapath.context import Context
from pycilium.datapath.endpoints import Endpoints
from pycilium.datapath.rows import address_of, big_endian
from pycilium.datapath.services import Services
from pycilium.libbpf import RingBuffer
from pycilium.model import Flow, Party


@attrs.frozen
class EventCounts:
    """emitted = delivered + lost + what still waits in the ring."""

    emitted: int
    lost: int
    delivered: int


class Flows:
    """The one consumer of pcl_events."""

    def __init__(self, context: Context, endpoints: Endpoints, services: Services) -> None:
        self._context = context
        self._endpoints = endpoints
        self._services = services
        self._ring = RingBuffer(context.map("pcl_events"))
        self._codec = context.spec.types["pcl_event"]
        self._reasons: Any = context.spec.enums["pcl_reason"]
        self._files: Any = context.spec.enums["pcl_file"]
        self._delivered = 0

    def read(self, timeout: float | None) -> Iterator[Flow]:
        """Flows as they come, until none has come for `timeout` seconds."""
        for record in self._ring.records(timeout):
            self._delivered += 1
            yield self._flow(self._codec.decode(record))

    def fileno(self) -> int:
        """Readable while events wait."""
        return self._ring.fileno()

    def counts(self) -> EventCounts:
        """Exact: the kernel counts what it could not put into the ring."""
        counts = self._context.map("pcl_event_counts")
        written, lost = sum(counts[0]), sum(counts[1])
        return EventCounts(written + lost, lost, self._delivered)

    def close(self) -> None:
        """Give the ring back."""
        self._ring.close()

    def _flow(self, event: Any) -> Flow:
        allowed = event.kind == 1
        backend = self._address(event.backend, event.family)
        port = big_endian(event.backend_port_be)
        service = self._services.table.find(event.service) if event.service else None
        location = self._files(event.file).name.removeprefix("PCL_FILE_").lower()
        return Flow(
            time=event.time_ns / 1e9,
            source=self._party(event.src, event.family, event.sport_be, event.src_identity),
            destination=self._party(
                event.dst, event.family, event.dport_be,
                0 if event.service else event.dst_identity, service=service is not None,
            ),
            protocol=event.protocol,
            allowed=allowed,
            reason=self._reasons(event.reason).name.removeprefix("PCL_"),
            location=f"{location}:{event.line}" if event.line else "",
            egress_rule=self._context.rules.find(event.egress_rule),
            ingress_rule=self._context.rules.find(event.ingress_rule),
            service=str(service or ""),
            backend=f"{self._name(backend)}{backend}:{port}" if event.backend_port_be else "",
            tcp_flags=event.tcp_flags,
            length=event.length,
        )  # fmt: skip

    def _address(self, union: Any, family: int) -> Any:
        return address_of(union.bytes, 6 if family == 6 else 4)

    def _name(self, address: Any) -> str:
        endpoint = self._endpoints.by_address(address)
        return f"{endpoint.name} " if endpoint else ""

    def _party(
        self, union: Any, family: int, port_be: int, identity: int, *, service: bool = False
    ) -> Party:
        address = self._address(union, family)
        endpoint = self._endpoints.by_address(address)
        known = endpoint.identity if endpoint else self._context.identities.get(identity)
        name = endpoint.name if endpoint else "service" if service else ""
        return Party(address, big_endian(port_be), known, name)
