# SPDX-License-Identifier: Apache-2.0
"""Documents of the kinds Service, EndpointSlice and Endpoints."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import attrs

from pycilium.documents import Node
from pycilium.metadata import METADATA, namespace_of
from pycilium.model.frontend import BackendState
from pycilium.model.port import is_port_name

Address = IPv4Address | IPv6Address
SERVICE_NAME = "kubernetes.io/service-name"
PROTOCOLS = {"TCP": 6, "UDP": 17, "SCTP": 132}
TYPES = ("ClusterIP", "NodePort", "LoadBalancer")
_SPEC = (
    "allocateLoadBalancerNodePorts", "clusterIP", "clusterIPs", "externalIPs", "externalName",
    "externalTrafficPolicy", "healthCheckNodePort", "internalTrafficPolicy", "ipFamilies",
    "ipFamilyPolicy", "loadBalancerClass", "loadBalancerIP", "loadBalancerSourceRanges", "ports",
    "publishNotReadyAddresses", "selector", "sessionAffinity", "sessionAffinityConfig",
    "trafficDistribution", "type",
)  # fmt: skip
_DISTRIBUTIONS = ("PreferClose", "PreferSameZone", "PreferSameNode")


@attrs.frozen
class Port:
    """One port of a service; number of its node port 0 for none."""

    node: Node
    name: str
    port: int
    protocol: int
    node_port: Node | None


@attrs.frozen
class Service:
    """A Service document, read as far as load balancing needs it; name: namespace/name."""

    name: str
    type: str
    headless: bool
    ports: tuple[Port, ...]
    spec: Mapping[str, Node]
    ingress: tuple[Node, ...]
    annotations: Mapping[str, Node]
    publish_not_ready: bool
    node: Node


@attrs.frozen
class Endpoint:
    """One address behind a service; ports by name and protocol."""

    address: Address
    ports: Mapping[tuple[str, int], int]
    state: BackendState
    serving: bool = True
    node: str = ""
    zone: str = ""
    for_nodes: tuple[str, ...] = ()
    for_zones: tuple[str, ...] = ()


def read_service(document: Node) -> Service:
    """A Service. Raises SpecError."""
    top = document.mapping("apiVersion", "kind", "metadata", "spec", "status")
    metadata, name = _named(document, top)
    spec = needed(document, top, "spec").mapping(*_SPEC)
    kind = spec["type"].value if "type" in spec else "ClusterIP"
    if kind == "ExternalName":
        raise spec["type"].error("a type with a frontend: ExternalName is an alias in DNS")
    if "type" in spec:
        spec["type"].one_of(TYPES)
    if "trafficDistribution" in spec:
        spec["trafficDistribution"].one_of(_DISTRIBUTIONS)
    publish = "publishNotReadyAddresses" in spec and spec["publishNotReadyAddresses"].flag()
    headless = "clusterIP" in spec and spec["clusterIP"].value == "None"
    return Service(
        name,
        kind,
        headless,
        () if headless else tuple(_ports(document, spec)),
        spec,
        tuple(_ingress(top)),
        metadata["annotations"].mapping() if "annotations" in metadata else {},
        publish,
        document,
    )


def read_slice(document: Node) -> tuple[str, list[Endpoint]]:
    """The service that an EndpointSlice belongs to, and its endpoints. Raises SpecError."""
    top = document.mapping(
        "apiVersion", "kind", "metadata", "addressType", "endpoints", "ports"
    )  # fmt: skip
    metadata, name = _named(document, top)
    labels = metadata["labels"].mapping() if "labels" in metadata else {}
    if SERVICE_NAME not in labels:
        raise document.error(f"a label {SERVICE_NAME}", name)
    family = {"IPv4": 4, "IPv6": 6}[needed(document, top, "addressType").one_of(("IPv4", "IPv6"))]
    ports = _endpoint_ports(top)
    rows = top["endpoints"].items() if "endpoints" in top else []
    found = [one for row in rows for one in _slice_endpoints(row, ports, family)]
    return f"{name.partition('/')[0]}/{labels[SERVICE_NAME].text()}", found


def read_endpoints(document: Node) -> tuple[str, list[Endpoint]]:
    """The service that an Endpoints object belongs to, and its endpoints. Raises SpecError."""
    top = document.mapping("apiVersion", "kind", "metadata", "subsets")
    _, name = _named(document, top)
    found = []
    for subset in top["subsets"].items() if "subsets" in top else []:
        parts = subset.mapping("addresses", "notReadyAddresses", "ports")
        ports = _endpoint_ports(parts)
        for key, state in (
            ("addresses", BackendState.ACTIVE),
            ("notReadyAddresses", BackendState.QUARANTINED),
        ):
            for row in parts[key].items() if key in parts else []:
                fields = row.mapping("ip", "hostname", "nodeName", "targetRef")
                node = fields["nodeName"].text() if "nodeName" in fields else ""
                ip = address(needed(row, fields, "ip"))
                serving = state is BackendState.ACTIVE
                found.append(Endpoint(ip, ports, state, serving, node))
    return name, found


def address(node: Node, family: int = 0) -> Address:
    """An IP address; family: the one that it must be of."""
    wanted = {0: "an address", 4: "an IPv4 address", 6: "an IPv6 address"}[family]
    try:
        found = ip_address(node.text())
    except ValueError:
        raise node.error(f"{wanted}, as in {'fd00::10' if family == 6 else '10.0.0.4'}") from None
    if family and found.version != family:
        raise node.error(wanted)
    return found


def needed(around: Node, parts: Mapping[str, Node], key: str) -> Node:
    """A field that must be there."""
    if key not in parts:
        raise around.error(f"a field {key}", f"no {key}")
    return parts[key]


def _named(document: Node, top: Mapping[str, Node]) -> tuple[dict[str, Node], str]:
    metadata = needed(document, top, "metadata").mapping(*METADATA)
    name = needed(top["metadata"], metadata, "name").text()
    return metadata, f"{namespace_of(metadata)}/{name}"


def _ports(document: Node, spec: Mapping[str, Node]) -> list[Port]:
    found: list[Port] = []
    rows = needed(document, spec, "ports").items()
    for row in rows:
        parts = row.mapping("name", "protocol", "port", "targetPort", "nodePort", "appProtocol")
        number = needed(row, parts, "port").number(1, 65535)
        name = parts["name"].text() if "name" in parts else ""
        if not name and len(rows) > 1:
            raise row.error("a name for each of several ports", "no name")
        if name in (one.name for one in found):
            raise parts["name"].error("each name once")
        if "targetPort" in parts and not is_port_name(parts["targetPort"].value):
            parts["targetPort"].number(1, 65535, "or a port's name")
        found.append(Port(row, name, number, _protocol(parts), parts.get("nodePort")))
    return found


def _protocol(parts: Mapping[str, Node]) -> int:
    return PROTOCOLS[parts["protocol"].one_of(tuple(PROTOCOLS)) if "protocol" in parts else "TCP"]


def _ingress(top: Mapping[str, Node]) -> list[Node]:
    status = top["status"].mapping() if "status" in top else {}
    balancer = status["loadBalancer"].mapping() if "loadBalancer" in status else {}
    return balancer["ingress"].items() if "ingress" in balancer else []


def _endpoint_ports(parts: Mapping[str, Node]) -> dict[tuple[str, int], int]:
    found = {}
    for row in parts["ports"].items() if "ports" in parts else []:
        fields = row.mapping("name", "protocol", "port", "appProtocol")
        name = fields["name"].text() if "name" in fields else ""
        found[name, _protocol(fields)] = needed(row, fields, "port").number(1, 65535)
    return found


def _slice_endpoints(row: Node, ports: Mapping[tuple[str, int], int], family: int) -> Any:
    parts = row.mapping(
        "addresses", "conditions", "hostname", "targetRef", "nodeName", "zone", "hints",
        "deprecatedTopology",
    )  # fmt: skip
    state, serving = _condition(parts)
    hints = parts["hints"].mapping("forZones", "forNodes") if "hints" in parts else {}
    for one in needed(row, parts, "addresses").items():
        yield Endpoint(
            address(one, family),
            ports,
            state,
            serving,
            parts["nodeName"].text() if "nodeName" in parts else "",
            parts["zone"].text() if "zone" in parts else "",
            for_nodes=_hints(hints, "forNodes"),
            for_zones=_hints(hints, "forZones"),
        )


def _condition(parts: Mapping[str, Node]) -> tuple[BackendState, bool]:
    """Its state, and whether it may serve where nothing else does; what is not said is ready."""
    said = (
        parts["conditions"].mapping("ready", "serving", "terminating")
        if "conditions" in parts
        else {}
    )
    ready = said["ready"].flag() if "ready" in said else True
    serving = said["serving"].flag() if "serving" in said else ready
    if "terminating" in said and said["terminating"].flag():
        return BackendState.TERMINATING, serving
    return (BackendState.ACTIVE, True) if ready else (BackendState.QUARANTINED, False)


def _hints(hints: Mapping[str, Node], key: str) -> tuple[str, ...]:
    rows = hints[key].items() if key in hints else []
    return tuple(needed(row, row.mapping("name"), "name").text() for row in rows)
