# SPDX-License-Identifier: Apache-2.0
"""Services: a frontend that clients use, the backends that serve it, and how one is chosen."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

import attrs

from pycilium.errors import SpecError
from pycilium.model.frontend import Backend, Frontend, to_member, words

Network = IPv4Network | IPv6Network
DEFAULT_AFFINITY_SECONDS = 10800
MAX_AFFINITY_SECONDS = 86400


class ServiceKind(enum.Enum):
    """From where a frontend is reached; the values are those of Kubernetes."""

    CLUSTER_IP = "ClusterIP"
    NODE_PORT = "NodePort"
    EXTERNAL_IP = "ExternalIP"
    LOAD_BALANCER = "LoadBalancer"
    HOST_PORT = "HostPort"


class SessionAffinity(enum.Enum):
    """Whether a client's connections keep to one backend."""

    NONE = "None"
    CLIENT_IP = "ClientIP"


class TrafficPolicy(enum.Enum):
    """Which backends count: all, or those of the client's own node."""

    CLUSTER = "Cluster"
    LOCAL = "Local"


class SourceRangesMode(enum.Enum):
    """What source ranges do with a client that is in one."""

    ALLOW = "allow"
    DENY = "deny"


class Algorithm(enum.Enum):
    """How a backend is chosen for a new connection."""

    RANDOM = "random"
    MAGLEV = "maglev"


class Forwarding(enum.Enum):
    """How packets from outside reach a backend on another node: hybrid is DSR for TCP."""

    SNAT = "snat"
    DSR = "dsr"
    HYBRID = "hybrid"


def _frontend(value: Frontend | str) -> Frontend:
    return value if isinstance(value, Frontend) else Frontend.parse(value)


def _backends(values: Iterable[Backend | str]) -> tuple[Backend, ...]:
    if isinstance(values, str):
        raise SpecError("backends", values, "a list")
    found = (one if isinstance(one, Backend) else Backend.parse(one) for one in values)
    return tuple(dict.fromkeys(found))


def _ranges(values: Iterable[Network | str]) -> tuple[Any, ...]:
    several = (values,) if isinstance(values, str) else values
    found = {_network(value) for value in several}
    return tuple(sorted(found, key=str))


def _network(value: Any) -> Any:
    try:
        return ip_network(value)
    except ValueError:
        return value  # refused by name in the service


def _kind(value: ServiceKind | str) -> ServiceKind:
    return to_member(ServiceKind, value)


def _affinity(value: SessionAffinity | str) -> SessionAffinity:
    return to_member(SessionAffinity, value)


def _policy(value: TrafficPolicy | str) -> TrafficPolicy:
    return to_member(TrafficPolicy, value)


def _mode(value: SourceRangesMode | str) -> SourceRangesMode:
    return to_member(SourceRangesMode, value)


def _algorithm(value: Algorithm | str) -> Algorithm:
    return to_member(Algorithm, value)


def _forwarding(value: Forwarding | str) -> Forwarding:
    return to_member(Forwarding, value)


_KINDS: dict[str, type[enum.Enum]] = {
    "kind": ServiceKind,
    "session_affinity": SessionAffinity,
    "external_traffic_policy": TrafficPolicy,
    "internal_traffic_policy": TrafficPolicy,
    "source_ranges_mode": SourceRangesMode,
    "algorithm": Algorithm,
    "forwarding": Forwarding,
}


@attrs.frozen
class ServiceLB:
    """One frontend over any number of backends of the same address family.

    ServiceLB("10.96.0.10:5432/tcp", backends=["10.1.0.20:5432"])

    A Kubernetes Service is one of these for each address, port and kind, with the same `name`;
    `pycilium.lb.manifests` makes them. Every enum also takes its value as text. Seconds in
    `affinity_timeout`: 1 to 86400. `source_ranges`: prefixes of clients, allowed or denied.

    `dp.services.apply` enforces it where endpoints send and, with `Datapath.open(devices=…)`, where
    clients outside come in; kinds for these need the devices. SCTP without a change of port.
    Raises SpecError that names the service, the field, the value and what is allowed.
    """

    frontend: Frontend = attrs.field(converter=_frontend)
    backends: tuple[Backend, ...] = attrs.field(converter=_backends, kw_only=True)
    name: str = attrs.field(default="", kw_only=True)
    kind: ServiceKind = attrs.field(
        default=ServiceKind.CLUSTER_IP,
        converter=_kind,
        kw_only=True,
    )
    session_affinity: SessionAffinity = attrs.field(
        default=SessionAffinity.NONE,
        converter=_affinity,
        kw_only=True,
    )
    affinity_timeout: int = attrs.field(default=DEFAULT_AFFINITY_SECONDS, kw_only=True)
    external_traffic_policy: TrafficPolicy = attrs.field(
        default=TrafficPolicy.CLUSTER,
        converter=_policy,
        kw_only=True,
    )
    internal_traffic_policy: TrafficPolicy = attrs.field(
        default=TrafficPolicy.CLUSTER,
        converter=_policy,
        kw_only=True,
    )
    source_ranges: tuple[Network, ...] = attrs.field(default=(), converter=_ranges, kw_only=True)
    source_ranges_mode: SourceRangesMode = attrs.field(
        default=SourceRangesMode.ALLOW,
        converter=_mode,
        kw_only=True,
    )
    algorithm: Algorithm = attrs.field(default=Algorithm.RANDOM, converter=_algorithm, kw_only=True)
    forwarding: Forwarding = attrs.field(
        default=Forwarding.SNAT, converter=_forwarding, kw_only=True
    )
    publish_not_ready: bool = attrs.field(default=False, kw_only=True)
    health_check_node_port: int = attrs.field(default=0, kw_only=True)

    def __attrs_post_init__(self) -> None:
        for name, kind in _KINDS.items():
            if not isinstance(getattr(self, name), kind):
                raise self.error(name, getattr(self, name), words(kind))
        self._check_numbers()
        self._check_families()
        self._check_backends()
        if self.kind is ServiceKind.CLUSTER_IP:
            self._check_inside()

    def error(self, field: str, value: object, allowed: str) -> SpecError:
        """What is wrong with one field of this service."""
        return SpecError(f"service {self.name or self.frontend}: {field}", value, allowed)

    def _check_numbers(self) -> None:
        for field, lowest, highest, unit in (
            ("affinity_timeout", 1, MAX_AFFINITY_SECONDS, " seconds"),
            ("health_check_node_port", 0, 65535, ""),
        ):
            value = getattr(self, field)
            whole = isinstance(value, int) and not isinstance(value, bool)
            if not whole or not lowest <= value <= highest:
                raise self.error(field, value, f"{lowest} to {highest}{unit}")
        if not isinstance(self.publish_not_ready, bool):
            raise self.error("publish_not_ready", self.publish_not_ready, "True or False")

    def _check_families(self) -> None:
        family = self.frontend.address.version
        for backend in self.backends:
            if backend.address.version != family:
                allowed = f"an IPv{family} address, like its frontend"
                raise self.error("backend", str(backend), allowed)
        for one in self.source_ranges:
            if not isinstance(one, (IPv4Network, IPv6Network)):
                raise self.error("source_ranges", one, 'prefixes such as "10.0.0.0/8"')
            if one.version != family:
                raise self.error("source_ranges", str(one), f"an IPv{family} prefix")

    def _check_backends(self) -> None:
        """The same server twice has one weight and one state."""
        seen: set[tuple[object, int]] = set()
        for backend in self.backends:
            key = backend.address, backend.port
            if key in seen:
                raise self.error("backend", str(backend), "each address and port once")
            seen.add(key)

    def _check_inside(self) -> None:
        """What only means something for clients outside the cluster."""
        allowed = f"it with another kind than {self.kind.value}"
        if self.external_traffic_policy is not TrafficPolicy.CLUSTER:
            value = self.external_traffic_policy.value
            raise self.error("external_traffic_policy", value, allowed)
        if self.forwarding is not Forwarding.SNAT:
            raise self.error("forwarding", self.forwarding.value, allowed)
        if self.health_check_node_port:
            raise self.error("health_check_node_port", self.health_check_node_port, allowed)

    def __str__(self) -> str:
        return f"{self.name or 'service'} {self.frontend} over {len(self.backends)} backends"
