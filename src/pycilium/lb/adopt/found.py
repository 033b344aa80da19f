# SPDX-License-Identifier: Apache-2.0
"""What both readers find: services, the rules that lead to them, and what was not understood."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import attrs

from pycilium.errors import SpecError
from pycilium.model.frontend import Backend, Frontend
from pycilium.model.service import Network, ServiceKind, ServiceLB

OUTSIDE = (ServiceKind.NODE_PORT, ServiceKind.EXTERNAL_IP, ServiceKind.LOAD_BALANCER)


@attrs.frozen
class Unread:
    """A rule that was not understood: where it stands, its text, and why."""

    origin: str
    rule: str
    why: str

    def __str__(self) -> str:
        shown = self.rule if len(self.rule) <= 160 else f"{self.rule[:157]}..."
        text = f"{self.origin}: {self.why}: {shown}"
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


@attrs.frozen
class Removal:
    """One rule that goes: the command that takes it away, and the one that brings it back.

    table: of iptables; "" for nft, whose commands name theirs.
    """

    table: str
    remove: str
    restore: str


@attrs.frozen
class Adoption:
    """kube-proxy's rules of one family.

    jumps: what leads packets to all of kube-proxy's services; entries: what leads to one
    frontend. Without them established connections go on: conntrack knows their translation, and
    asks the rules about new ones only.
    """

    services: tuple[ServiceLB, ...]
    unread: tuple[Unread, ...]
    jumps: tuple[Removal, ...]
    entries: Mapping[Frontend, tuple[Removal, ...]]

    def removals(self, taken: set[Frontend]) -> tuple[Removal, ...]:
        """What goes when these frontends are taken over: the jumps, if nothing is left behind."""
        if not self.unread and all(one.frontend in taken for one in self.services):
            return self.jumps
        kept = (one for frontend, several in self.entries.items() if frontend in taken
                for one in several)  # fmt: skip
        return tuple(kept)


class UnreadableError(Exception):
    """A rule is not understood; `rule` is what errors shall show."""

    def __init__(self, why: str, origin: str, rule: str) -> None:
        super().__init__(why)
        self.unread = Unread(origin, rule, why)


@attrs.frozen
class Behind:
    """What a frontend's rules lead to; local: only backends of this node get connections."""

    backends: tuple[Backend, ...] = ()
    affinity: int = 0
    local: bool = False
    ranges: tuple[Network | str, ...] = ()

    def here(self, node: str) -> Behind:
        """The same backends, which run on this node."""
        backends = tuple(attrs.evolve(one, node=node) for one in self.backends)
        return attrs.evolve(self, backends=backends)

    def and_local(self, other: Behind) -> Behind:
        """With the backends of this node that another chain knows."""
        known = {(one.address, one.port): one for one in self.backends}
        known |= {(one.address, one.port): one for one in other.backends}
        return attrs.evolve(self, backends=tuple(known.values()))


def service(
    frontend: Frontend, kind: ServiceKind, name: str, behind: Behind, *, health_port: int = 0
) -> ServiceLB:
    """The value for one frontend. Raises SpecError."""
    more: dict[str, Any] = {}
    if behind.affinity:
        more |= {"session_affinity": "ClientIP", "affinity_timeout": behind.affinity}
    if behind.local:
        which: Literal["external", "internal"] = "external" if kind in OUTSIDE else "internal"
        more[f"{which}_traffic_policy"] = "Local"
    if behind.ranges:
        more["source_ranges"] = behind.ranges
    if kind is ServiceKind.LOAD_BALANCER and health_port:
        more["health_check_node_port"] = health_port
    return ServiceLB(frontend, backends=behind.backends, name=name, kind=kind, **more)


class Collector:
    """Services by frontend; what cannot be read is noted in place of raised."""

    def __init__(self) -> None:
        self._services: dict[Frontend, ServiceLB] = {}
        self._entries: dict[Frontend, list[Removal]] = {}
        self._unread: list[Unread] = []

    def __contains__(self, frontend: Frontend) -> bool:
        return frontend in self._services

    def attempt(self, work: Callable[[], None], origin: str, rule: str) -> None:
        """Do one rule's work, or note why not."""
        try:
            work()
        except UnreadableError as error:
            self._unread.append(error.unread)
        except SpecError as error:
            self._unread.append(Unread(origin, rule, str(error)))

    def add(self, one: ServiceLB, removal: Removal) -> None:
        """A service and the rule that leads to it. Raises SpecError where two rules disagree."""
        known = self._services.setdefault(one.frontend, one)
        if known != one:
            raise SpecError("frontend", str(one.frontend), f"one service; {known.name} has it")
        self._entries.setdefault(one.frontend, []).append(removal)

    def also(self, frontend: Frontend, removal: Removal) -> None:
        """Another rule about a frontend that is known."""
        self._entries.setdefault(frontend, []).append(removal)

    def result(self, jumps: tuple[Removal, ...]) -> Adoption:
        """Everything, with the rules that lead to all of it."""
        entries = {frontend: tuple(several) for frontend, several in self._entries.items()}
        services = tuple(self._services.values())
        return Adoption(services, tuple(dict.fromkeys(self._unread)), jumps, entries)
