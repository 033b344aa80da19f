# SPDX-License-Identifier: Apache-2.0
"""Flows: the kernel's events with names and rules put to the numbers.

What the ring had no room for is not silently missing: the stream says how many were lost, and
emitted = delivered + lost holds exactly.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import attrs

from pycilium.datapath.narrate import place
from pycilium.datapath.wire import Address, address_of, be16
from pycilium.libbpf import RingBuffer, split_records
from pycilium.model import Direction, Flow, Party

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pycilium.datapath.core import Core
    from pycilium.datapath.endpoints import Endpoints
    from pycilium.datapath.identities import Identities
    from pycilium.datapath.policies import Policies
    from pycilium.datapath.rules import Rules
    from pycilium.datapath.services import Services

_POLL_SECONDS = 0.02


@attrs.frozen
class LostFlows:
    """In the stream's place of what the ring had no room for since the last flow."""

    count: int

    def __str__(self) -> str:
        return f"{self.count} flows lost: the ring was full"


@attrs.frozen
class EventCounts:
    """Since the datapath was loaded: emitted = delivered + lost + waiting."""

    emitted: int
    delivered: int
    lost: int


class Flows:
    """One reader of pcl_events."""

    def __init__(
        self,
        core: Core,
        endpoints: Endpoints,
        identities: Identities,
        rules: Rules,
        services: Services,
        policies: Policies,
    ) -> None:
        self._core = core
        self._endpoints = endpoints
        self._identities = identities
        self._rules = rules
        self._services = services
        self._policies = policies
        self._event = core.spec.types["pcl_event"]
        self._reasons = core.spec.enums["pcl_reason"]
        self._files = core.spec.enums["pcl_file"]
        kinds = core.spec.enums["pcl_event_kind"]
        self._drop = kinds.PCL_EVENT_DROP
        self._audits = {
            int(kinds.PCL_EVENT_AUDIT_INGRESS): Direction.INGRESS,
            int(kinds.PCL_EVENT_AUDIT_EGRESS): Direction.EGRESS,
        }
        self._ring: RingBuffer | None = None
        self._delivered = 0
        self._lost = self.counts().lost

    def stream(self, timeout: float | None, *, follow: bool) -> Iterator[Flow | LostFlows]:
        """See Datapath.flows."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            self._core.require_open()
            found = self._take()
            yield from found
            if found and follow and timeout is not None:
                end = time.monotonic() + timeout
            left = _POLL_SECONDS if end is None else end - time.monotonic()
            if left <= 0:
                return
            if not found:
                time.sleep(min(left, _POLL_SECONDS))

    def counts(self) -> EventCounts:
        """Events written, delivered to this reader, lost."""
        written, lost = (sum(self._core.maps["pcl_event_counts"][i]) for i in (0, 1))
        return EventCounts(written + lost, self._delivered, lost)

    def close(self) -> None:
        """Unmap the ring."""
        if self._ring is not None:
            self._ring.close()
            self._ring = None

    def _take(self) -> list[Flow | LostFlows]:
        with self._core.lock:
            if self._ring is None:
                self._ring = RingBuffer(self._core.maps["pcl_events"])
            decode = self._event.decode
            events = [decode(one) for one in split_records(self._ring.drain())]
            self._delivered += len(events)
            found: list[Flow | LostFlows] = [self._flow(event) for event in events]
            lost = self.counts().lost
            if lost > self._lost:
                found.append(LostFlows(lost - self._lost))
                self._lost = lost
            return found

    def _flow(self, event: Any) -> Flow:
        dropped = event.kind == self._drop
        icmp = event.protocol in (1, 58)
        family = event.family or 4  # 0: no IP at all, such as ARP
        source = address_of(event.src.bytes, family)
        destination = address_of(event.dst.bytes, family)
        flow = Flow(
            time=event.time_ns / 1e9,
            source=self._party(source, 0 if icmp else be16(event.sport_be), event.src_identity),
            destination=self._party(
                destination, 0 if icmp else be16(event.dport_be), event.dst_identity
            ),
            protocol=event.protocol,
            allowed=not dropped,
            reason=self._reasons(event.reason).name,
            location=place(self._files, event.file, event.line),
            egress_rule=self._rule(event, event.egress_rule),
            ingress_rule=self._rule(event, event.ingress_rule),
            service=self._service(event.service),
            backend=self._backend(event),
            tcp_flags=event.tcp_flags,
            length=event.length,
            audited=self._audits.get(event.kind),
        )
        log = self._policies.log_of(flow.rule)
        return attrs.evolve(flow, log=log) if log else flow

    def _rule(self, event: Any, number: int) -> Any:
        """A default decision (0) is shown by the reason, not by a rule."""
        return self._rules.find(number, allowed=event.kind != self._drop) if number else None

    def _party(self, address: Address, port: int, identity: int) -> Party:
        endpoint = self._endpoints.by_address(address)
        known = self._identities[identity] if identity or endpoint is None else endpoint.identity
        return Party(address, port, known, endpoint.name if endpoint else "")

    def _service(self, number: int) -> str:
        service = self._services.find(number) if number else None
        return str(service.frontend) if service else ""

    def _backend(self, event: Any) -> str:
        if not event.backend_port_be:
            return ""
        address = address_of(event.backend.bytes, event.family)
        shown = f"[{address}]" if event.family == 6 else str(address)
        return f"{shown}:{be16(event.backend_port_be)}"
