# SPDX-License-Identifier: Apache-2.0
"""A peer as people speak of it: a pod with labels in a namespace, or an address outside."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import attrs

from pycilium.errors import SpecError
from pycilium.model.identity import RESERVED
from pycilium.model.labels import Labels
from pycilium.model.port import PROTOCOLS, WITH_PORTS, is_port_name
from pycilium.policy.cluster import Cluster
from pycilium.policy.evaluate import Subject

Pairs = tuple[tuple[str, Any], ...]


def _pairs(given: Mapping[str, Any] | Pairs | None) -> Pairs:
    if given is None:
        return ()
    try:
        return tuple(sorted((key, _hashable(value)) for key, value in dict(given).items()))
    except (TypeError, ValueError):
        raise SpecError("labels", given, "a mapping of text to text") from None


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _optional_pairs(given: Mapping[str, Any] | Pairs | None) -> Pairs | None:
    return None if given is None else _pairs(given)


def _address(given: Any) -> IPv4Address | IPv6Address | None:
    if given is None or isinstance(given, (IPv4Address, IPv6Address)):
        return given
    if not isinstance(given, str):
        raise SpecError("ip", given, 'an address as text, as in "10.0.0.4"')
    try:
        return ip_address(given)
    except ValueError:
        raise SpecError("ip", given, "an address, as in 10.0.0.4") from None


@attrs.frozen(cache_hash=True)
class Peer:
    """One end of a connection, for questions to a PolicySet.

    With labels or a namespace it is a pod; with an ip alone it is outside the cluster, or the
    node that has this address; entity names a reserved identity ("host", "remote-node").
    named_ports: name to (protocol, number). Raises SpecError.
    """

    namespace: str | None = None
    labels: Pairs | None = attrs.field(default=None, converter=_optional_pairs)
    ip: IPv4Address | IPv6Address | None = attrs.field(default=None, converter=_address)
    named_ports: Pairs = attrs.field(default=(), converter=_pairs)
    service_account: str | None = None
    entity: str | None = None

    def __attrs_post_init__(self) -> None:
        for name, port in self.named_ports:
            _check_port(name, port)
        if self.entity is not None and self.entity not in RESERVED.values():
            raise SpecError("entity", self.entity, f"one of {', '.join(RESERVED.values())}")
        if not self.is_pod and self.ip is None and self.entity is None:
            raise SpecError("peer", self, "labels, a namespace, an ip or an entity")

    @property
    def is_pod(self) -> bool:
        """Whether it is a workload with an identity of its own."""
        return self.labels is not None or self.namespace is not None

    def subject(self, cluster: Cluster) -> Subject:
        """As the evaluator wants it, with what is known of its namespace."""
        if self.is_pod:
            return Subject(self._labels(cluster), self.ip)
        if self.entity is not None:
            return Subject(Labels(), self.ip, self.entity, enforced=self.entity == "host")
        assert self.ip is not None
        node = cluster.node_of(self.ip)
        if node is not None:
            return Subject(node.labels, self.ip, "remote-node", enforced=False)
        return Subject(Labels(), self.ip, "world", enforced=False)

    def _labels(self, cluster: Cluster) -> Labels:
        namespace = self.namespace or "default"
        return Labels.of_pod(
            dict(self.labels or ()),
            namespace,
            namespace_labels=cluster.namespace_labels(namespace),
            service_account=self.service_account,
            named_ports=dict(self.named_ports),
        )

    def __str__(self) -> str:
        labels = ",".join(f"{key}={value}" for key, value in self.labels or ())
        if self.is_pod:
            return f"{self.namespace or 'default'}/{labels or '*'}"
        return self.entity or str(self.ip)


def _check_port(name: object, port: object) -> None:
    if not is_port_name(name):
        raise SpecError("named_ports", name, "a port's name as in RFC 6335")
    allowed = '(protocol, number), as in ("TCP", 8080)'
    if not isinstance(port, (tuple, list)) or len(port) != 2:
        raise SpecError(f"named_ports.{name}", port, allowed)
    protocol, number = port
    if PROTOCOLS.get(str(protocol).lower()) not in WITH_PORTS:
        raise SpecError(f"named_ports.{name}", protocol, "TCP, UDP or SCTP")
    if not isinstance(number, int) or isinstance(number, bool) or not 0 < number < 65536:
        raise SpecError(f"named_ports.{name}", port, "a number from 1 to 65535")
