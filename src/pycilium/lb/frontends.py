# SPDX-License-Identifier: Apache-2.0
"""The frontends of a Kubernetes Service, each with what its kind of client gets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

import attrs

from pycilium.documents import Node
from pycilium.lb.kubernetes import Address, Port, Service, address, needed
from pycilium.model.frontend import Frontend
from pycilium.model.service import (
    MAX_AFFINITY_SECONDS,
    Algorithm,
    Forwarding,
    ServiceKind,
    SessionAffinity,
    SourceRangesMode,
    TrafficPolicy,
)

ANNOTATIONS = "pycilium.io/"
_ANY = {4: ip_address("0.0.0.0"), 6: ip_address("::")}
# Prefixes of one family only keep out the clients of the other: no client has this address.
_NOBODY = {4: "0.0.0.0/32", 6: "::/128"}
Options = dict[str, Any]


@attrs.frozen
class Around:
    """The node where node ports are served, and which numbers they have."""

    node_addresses: tuple[Address, ...]
    node_ports: range


def frontends(service: Service, around: Around) -> Iterator[tuple[Port, Frontend, Options]]:
    """Every frontend with the keywords of its ServiceLB. Raises SpecError."""
    if service.headless:
        return
    options, outside = _options(service), _outside(service)
    inside = _cluster_addresses(service)
    balanced = _balanced(service, outside)
    external = _addresses(service.spec, "externalIPs")
    node_ports = [port for port in service.ports if _has_node_port(service, port)]
    if not inside and not external and not balanced and not node_ports:
        raise service.node.error("a clusterIP: nothing here gives addresses away", "no clusterIP")
    for port in service.ports:
        for one in inside:
            yield port, Frontend(one, port.port, port.protocol), options
        for one in external:
            more = {**options, **outside, "kind": ServiceKind.EXTERNAL_IP}
            yield port, Frontend(one, port.port, port.protocol), more
        for one, more in balanced:
            yield port, Frontend(one, port.port, port.protocol), {**options, **more}
    for port in node_ports:
        number = _node_port(port, around)
        for one in around.node_addresses or _any(service, inside):
            more = {**options, **outside, "kind": ServiceKind.NODE_PORT}
            yield port, Frontend(one, number, port.protocol), more


def _options(service: Service) -> Options:
    """What holds for all clients."""
    spec = service.spec
    found: Options = {"publish_not_ready": service.publish_not_ready}
    if "sessionAffinity" in spec:
        found["session_affinity"] = _word(spec["sessionAffinity"], SessionAffinity)
    if "internalTrafficPolicy" in spec:
        found["internal_traffic_policy"] = _word(spec["internalTrafficPolicy"], TrafficPolicy)
    if "sessionAffinityConfig" in spec:
        config = spec["sessionAffinityConfig"].mapping("clientIP")
        client = config["clientIP"].mapping("timeoutSeconds") if "clientIP" in config else {}
        if "timeoutSeconds" in client:
            seconds = client["timeoutSeconds"].number(1, MAX_AFFINITY_SECONDS)
            found["affinity_timeout"] = seconds
    for name, kind in (("algorithm", Algorithm),):
        node = service.annotations.get(ANNOTATIONS + name)
        if node is not None:
            found[name] = _word(node, kind)
    return found


def _outside(service: Service) -> Options:
    """What holds for clients outside the cluster."""
    found: Options = {}
    if "externalTrafficPolicy" in service.spec:
        policy = service.spec["externalTrafficPolicy"]
        found["external_traffic_policy"] = _word(policy, TrafficPolicy)
    node = service.annotations.get(f"{ANNOTATIONS}forwarding")
    if node is not None:
        found["forwarding"] = _word(node, Forwarding)
    return found


def _word(node: Node, kind: Any) -> Any:
    return kind(node.one_of([one.value for one in kind]))


def _addresses(spec: Mapping[str, Node], key: str) -> list[Address]:
    return [address(one) for one in spec[key].items()] if key in spec else []


def _cluster_addresses(service: Service) -> list[Address]:
    spec = service.spec
    if "clusterIPs" in spec:
        return _addresses(spec, "clusterIPs")
    if "clusterIP" in spec and spec["clusterIP"].value:
        return [address(spec["clusterIP"])]
    return []


def _balanced(service: Service, outside: Options) -> list[tuple[Address, Options]]:
    """The addresses that a load balancer's controller gave, where the nodes serve them."""
    if service.type != "LoadBalancer":
        return []
    found = []
    for row in service.ingress:
        parts = row.mapping("ip", "hostname", "ipMode", "ports")
        mode = parts["ipMode"].one_of(("VIP", "Proxy")) if "ipMode" in parts else "VIP"
        if "ip" in parts and mode == "VIP":
            one = address(parts["ip"])
            ranges = _source_ranges(service, one.version)
            health = _health_check(service)
            kind = {"kind": ServiceKind.LOAD_BALANCER}
            found.append((one, {**outside, **ranges, **health, **kind}))
    return found


def _health_check(service: Service) -> Options:
    if "healthCheckNodePort" not in service.spec:
        return {}
    return {"health_check_node_port": service.spec["healthCheckNodePort"].number(0, 65535)}


def _source_ranges(service: Service, family: int) -> Options:
    if "loadBalancerSourceRanges" not in service.spec:
        return {}
    ranges = [_network(one) for one in service.spec["loadBalancerSourceRanges"].items()]
    node = service.annotations.get(f"{ANNOTATIONS}source-ranges-mode")
    mode = SourceRangesMode.ALLOW if node is None else _word(node, SourceRangesMode)
    own: list[Any] = [one for one in ranges if one.version == family]
    if ranges and not own and mode is SourceRangesMode.ALLOW:
        own = [_NOBODY[family]]
    return {"source_ranges": own, "source_ranges_mode": mode}


def _network(node: Node) -> IPv4Network | IPv6Network:
    try:
        return ip_network(node.text().strip())
    except ValueError:
        raise node.error("a prefix as in 10.0.0.0/8") from None


def _has_node_port(service: Service, port: Port) -> bool:
    if port.node_port is not None and port.node_port.value != 0:
        if service.type == "ClusterIP":
            raise port.node_port.error("no nodePort with type ClusterIP")
        return True
    if service.type == "NodePort":
        needed(port.node, {}, "nodePort")
    return False


def _node_port(port: Port, around: Around) -> int:
    assert port.node_port is not None
    return port.node_port.number(around.node_ports.start, around.node_ports.stop - 1)


def _any(service: Service, inside: list[Address]) -> list[Address]:
    """Every address of the node, in the service's families."""
    if "ipFamilies" in service.spec:
        words = [one.one_of(("IPv4", "IPv6")) for one in service.spec["ipFamilies"].items()]
        return [_ANY[int(word[-1])] for word in words]
    families = dict.fromkeys(one.version for one in inside) or {4: None}
    return [_ANY[family] for family in families]
