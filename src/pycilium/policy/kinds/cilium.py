# SPDX-License-Identifier: Apache-2.0
"""CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy (cilium.io/v2)."""

from __future__ import annotations

from collections.abc import Iterator

from pycilium.documents import Node
from pycilium.errors import SpecError
from pycilium.model.l7 import DnsRule, HeaderMatch, HttpRule, L7Rules
from pycilium.model.labels import NAMESPACE_KEY
from pycilium.model.peer import (
    CidrGroupPeer,
    CidrPeer,
    Entity,
    FqdnPeer,
    NodePeer,
    RulePeer,
    ServicePeer,
    parse_entity,
)
from pycilium.model.policy import Action, Direction, Policy, Rule
from pycilium.model.port import PROTOCOL_NAMES, PROTOCOLS, PortMatch, PortRange
from pycilium.model.selector import Requirement, Selector
from pycilium.policy.kinds import fields
from pycilium.policy.kinds.fields import Context
from pycilium.policy.kinds.names import domain_name, domain_pattern, regex

MAX_PORTS = 40
_SPEC = (
    "endpointSelector", "nodeSelector", "ingress", "ingressDeny", "egress", "egressDeny",
    "enableDefaultDeny", "log", "description", "labels",
)  # fmt: skip
_SECTIONS = (
    ("ingress", Direction.INGRESS, Action.ALLOW),
    ("ingressDeny", Direction.INGRESS, Action.DENY),
    ("egress", Direction.EGRESS, Action.ALLOW),
    ("egressDeny", Direction.EGRESS, Action.DENY),
)
_PEERS = {
    Direction.INGRESS: ("fromEndpoints", "fromEntities", "fromCIDR", "fromCIDRSet", "fromNodes"),
    Direction.EGRESS: (
        "toEndpoints", "toEntities", "toCIDR", "toCIDRSet", "toNodes", "toServices", "toFQDNs",
    ),
}  # fmt: skip
_REFUSED = {
    "toGroups": "AWS security groups need AWS",
    "fromGroups": "AWS security groups need AWS",
    "toRequires": "it is deprecated; use toEndpoints with all labels",
    "fromRequires": "it is deprecated; use fromEndpoints with all labels",
    "authentication": "mutual authentication is not enforced",
    "terminatingTLS": "TLS is not intercepted",
    "originatingTLS": "TLS is not intercepted",
    "serverNames": "TLS names are not looked at",
    "listener": "there are no custom listeners",
}
_PROTOCOLS = ("ANY", "TCP", "UDP", "SCTP", "ICMP", "ICMPv6")
_ICMP_TYPES = {
    "IPv4": {
        "EchoReply": 0, "DestinationUnreachable": 3, "Redirect": 5, "Echo": 8, "EchoRequest": 8,
        "RouterAdvertisement": 9, "RouterSelection": 10, "TimeExceeded": 11,
        "ParameterProblem": 12, "Timestamp": 13, "TimestampReply": 14, "Photuris": 40,
        "ExtendedEchoRequest": 42, "ExtendedEchoReply": 43,
    },
    "IPv6": {
        "DestinationUnreachable": 1, "PacketTooBig": 2, "TimeExceeded": 3, "ParameterProblem": 4,
        "EchoRequest": 128, "EchoReply": 129, "MulticastListenerQuery": 130,
        "MulticastListenerReport": 131, "MulticastListenerDone": 132, "RouterSolicitation": 133,
        "RouterAdvertisement": 134, "NeighborSolicitation": 135, "NeighborAdvertisement": 136,
        "RedirectMessage": 137,
    },
}  # fmt: skip


def policy(spec: Node, context: Context) -> Iterator[Policy]:
    """One spec; every list of rules that has a rule turns on default deny in its direction."""
    spec.refuse_nulls()
    top = spec.mapping(*_SPEC, refused=_REFUSED)
    subject, nodes = _subject(spec, top, context)
    log = _log(top)
    rules: list[Rule] = []
    for section, direction, action in _SECTIONS:
        for node in top[section].items() if section in top else ():
            rules += _rule(node, direction, action, context, len(rules), log)
    ingress, egress = _default_deny(top)
    yield Policy(
        context.name,
        subject,
        tuple(rules),
        context.namespace,
        ingress,
        egress,
        spec.file,
        spec.line,
        nodes=nodes,
    )


def _subject(spec: Node, top: dict[str, Node], context: Context) -> tuple[Selector, bool]:
    named = [key for key in ("endpointSelector", "nodeSelector") if key in top]
    if len(named) != 1:
        raise spec.error(
            "an endpointSelector or a nodeSelector, one of them", " and ".join(named) or "none"
        )
    if named[0] == "nodeSelector":
        if context.namespace is not None:
            raise top["nodeSelector"].error("no nodeSelector in a policy of a namespace")
        return _selector(top["nodeSelector"]), True
    subject = _selector(top["endpointSelector"])
    return (subject if context.namespace is None else subject.within(context.namespace)), False


def _log(top: dict[str, Node]) -> str:
    if "log" not in top:
        return ""
    parts = top["log"].mapping("value")
    return parts["value"].text() if "value" in parts else ""


def _default_deny(top: dict[str, Node]) -> tuple[bool, bool]:
    sections = {
        str(direction): any(
            way is direction and name in top and bool(top[name].items())
            for name, way, _ in _SECTIONS
        )
        for direction in Direction
    }
    if "enableDefaultDeny" in top:
        for key, node in top["enableDefaultDeny"].mapping("ingress", "egress").items():
            sections[key] = node.flag()
    return sections["ingress"], sections["egress"]


def _rule(
    node: Node, direction: Direction, action: Action, context: Context, index: int, log: str
) -> list[Rule]:
    parts = node.mapping(*_PEERS[direction], "toPorts", "icmps", refused=_REFUSED)
    named = [key for key in _PEERS[direction] if key in parts]
    if len(named) > 1 and not {"toEntities", "toCIDR", "toCIDRSet"} >= set(named):
        raise node.error("one kind of peer in a rule; write two rules", " and ".join(named))
    if "toPorts" in parts and "icmps" in parts:
        raise node.error("toPorts or icmps, not both", "toPorts and icmps")
    if action is Action.DENY and "toFQDNs" in parts:
        raise parts["toFQDNs"].error("no toFQDNs in a deny rule: names resolve too late to deny")
    peers: tuple[RulePeer, ...] | None = None
    if named:
        peers = tuple(one for key in named for one in _peers(parts[key], key, context))
    ref = context.ref(node, index)
    if "toPorts" in parts:
        return [
            Rule(direction, peers, ports, action, ref, l7=l7, log=log)
            for ports, l7 in _to_ports(parts["toPorts"], direction, action)
        ]
    if "icmps" in parts:
        return [Rule(direction, peers, _icmps(parts["icmps"]), action, ref, log=log)]
    if peers is None:
        return []  # a rule that says nothing allows nothing
    return [Rule(direction, peers, None, action, ref, log=log)]


def _peers(node: Node, key: str, context: Context) -> Iterator[RulePeer]:
    kind = key.removeprefix("from").removeprefix("to")
    for one in node.items():
        if kind == "Endpoints":
            yield _peer_selector(one, context)
        elif kind == "Entities":
            yield _entity(one)
        elif kind == "CIDR":
            yield CidrPeer(fields.network(one))
        elif kind == "CIDRSet":
            yield _cidr_set(one)
        elif kind == "Nodes":
            yield NodePeer(_selector(one))
        elif kind == "Services":
            yield _service(one, context)
        else:
            yield _fqdn(one)


def _entity(node: Node) -> Entity:
    try:
        return parse_entity(node.one_of([entity.value for entity in Entity]))
    except SpecError as error:
        raise node.error(error.allowed) from None


def _cidr_set(node: Node) -> RulePeer:
    parts = node.mapping("cidr", "except", "cidrGroupRef", "cidrGroupSelector")
    named = [key for key in ("cidr", "cidrGroupRef", "cidrGroupSelector") if key in parts]
    if len(named) != 1:
        raise node.error(
            "one of cidr, cidrGroupRef, cidrGroupSelector", " and ".join(named) or "none"
        )
    if named[0] == "cidr":
        return fields.cidr_with_holes(node, parts)
    excepts = fields.holes(parts, None)
    if named[0] == "cidrGroupRef":
        return CidrGroupPeer(name=parts["cidrGroupRef"].text(), excepts=excepts)
    return CidrGroupPeer(selector=_selector(parts["cidrGroupSelector"]), excepts=excepts)


def _service(node: Node, context: Context) -> ServicePeer:
    parts = node.mapping("k8sService", "k8sServiceSelector")
    if len(parts) != 1:
        raise node.error("a k8sService or a k8sServiceSelector", " and ".join(parts) or "none")
    if "k8sService" in parts:
        one = parts["k8sService"].mapping("serviceName", "namespace")
        if "serviceName" not in one:
            raise parts["k8sService"].error("a serviceName", "no serviceName")
        return ServicePeer(_namespace(one, context), name=one["serviceName"].text())
    one = parts["k8sServiceSelector"].mapping("selector", "namespace")
    if "selector" not in one:
        raise parts["k8sServiceSelector"].error("a selector", "no selector")
    return ServicePeer(_namespace(one, context), selector=_selector(one["selector"]))


def _namespace(parts: dict[str, Node], context: Context) -> str | None:
    return parts["namespace"].text() if "namespace" in parts else context.namespace


def _fqdn(node: Node) -> FqdnPeer:
    parts = node.mapping("matchName", "matchPattern")
    if len(parts) != 1:
        raise node.error("a matchName or a matchPattern", " and ".join(parts) or "none")
    if "matchName" in parts:
        return FqdnPeer(domain_name(parts["matchName"]))
    return FqdnPeer(domain_pattern(parts["matchPattern"]))


def _peer_selector(node: Node, context: Context) -> Selector:
    """In a namespaced policy, peers are of that namespace unless the selector names others."""
    chosen = _selector(node)
    if context.namespace is not None and not chosen.names_namespace:
        return chosen.within(context.namespace)
    return chosen


def _selector(node: Node) -> Selector:
    """Keys may say their source: "any:app" is "app", "k8s:" names Kubernetes' own."""
    return Selector(
        tuple(
            Requirement(_key(one.key), one.operator, one.values)
            for one in fields.selector(node).requirements
        )
    )


def _key(key: str) -> str:
    name = key.removeprefix("any:")
    return NAMESPACE_KEY if name == f"k8s:{NAMESPACE_KEY}" else name


def _to_ports(
    node: Node, direction: Direction, action: Action
) -> Iterator[tuple[tuple[PortMatch, ...] | None, L7Rules | None]]:
    """Each element of toPorts with its own L7 rules."""
    for one in node.items():
        parts = one.mapping("ports", "rules", refused=_REFUSED)
        given = parts["ports"].items() if "ports" in parts else []
        if len(given) > MAX_PORTS:
            raise parts["ports"].error(f"at most {MAX_PORTS} ports", f"{len(given)} ports")
        ports = tuple(found for port in given for found in _port(port))
        l7 = None
        if "rules" in parts and parts["rules"].mapping():
            if action is Action.DENY:
                raise parts["rules"].error("no L7 rules in a deny rule")
            l7 = _l7(parts["rules"], ports, direction)
        yield ports or (PortRange(0),), l7


def _port(node: Node) -> list[PortMatch]:
    parts = node.mapping("port", "endPort", "protocol")
    name = "ANY"
    if "protocol" in parts:
        name = parts["protocol"].one_of(_PROTOCOLS)
    if "port" not in parts:
        raise node.error("a port", "no port")
    protocol = PROTOCOLS[name.lower()]
    found = fields.port(parts, protocol, quoted=True)
    if protocol in (1, 58) and not all(_is_type(one) for one in found):
        raise parts["port"].error(f"a type of {name}, from 0 to 255")
    return found


def _is_type(port: PortMatch) -> bool:
    """Whether it can be what ICMP has in place of ports: one type, some, or all of them."""
    return isinstance(port, PortRange) and (port.last <= 255 or port == PortRange(port.protocol))


def _l7(node: Node, ports: tuple[PortMatch, ...], direction: Direction) -> L7Rules:
    parts = node.mapping("http", "dns", refused={"kafka": "Cilium removed it", "l7": "it is gone"})
    if len(parts) > 1:
        raise node.error("http or dns, not both", " and ".join(parts))
    kind, rules = next(iter(parts.items()))
    if not rules.items():
        raise rules.error("at least one rule; leave rules out if every request may pass")
    if kind == "dns" and direction is Direction.INGRESS:
        raise rules.error("no dns rules in ingress: the questions of a workload are its egress")
    _check_l7_ports(node, kind, ports)
    if kind == "http":
        return L7Rules(http=tuple(map(_http, rules.items())))
    return L7Rules(dns=tuple(map(_dns, rules.items())))


def _check_l7_ports(node: Node, kind: str, ports: tuple[PortMatch, ...]) -> None:
    """HTTP is TCP's; a DNS question may come over TCP or UDP, and so over any protocol."""
    every = any(isinstance(one, PortRange) and one.first == 0 for one in ports)
    if not ports or every:
        raise node.error("L7 rules beside ports", "every port" if every else "no ports")
    spread = {one.protocol for one in ports}
    if kind == "http" and spread != {6}:
        names = sorted(PROTOCOL_NAMES[one] for one in spread - {6})
        raise node.error("http rules only with protocol TCP", ", ".join(names))
    if kind == "dns" and not spread & {0, 6, 17}:
        raise node.error("dns rules only with TCP, UDP or ANY", ", ".join(map(str, ports)))


def _http(node: Node) -> HttpRule:
    parts = node.mapping("path", "method", "host", "headers", "headerMatches")
    headers = [HeaderMatch(*_header(one)) for one in _items(parts, "headers")]
    headers += [_header_match(one) for one in _items(parts, "headerMatches")]
    path, method, host = (
        regex(parts[key]) if key in parts else None for key in ("path", "method", "host")
    )
    return HttpRule(path, method, host, tuple(headers))


def _items(parts: dict[str, Node], key: str) -> list[Node]:
    return parts[key].items() if key in parts else []


def _header(node: Node) -> tuple[str, str]:
    name, _, value = node.text().partition(" ")
    return name.rstrip(":"), value.strip()


def _header_match(node: Node) -> HeaderMatch:
    parts = node.mapping(
        "name", "value", "mismatch", refused={"secret": "values from secrets are not read"}
    )
    if "name" not in parts:
        raise node.error("a name", "no name")
    mismatch = None
    if "mismatch" in parts:
        mismatch = parts["mismatch"].one_of(["LOG", "ADD", "DELETE", "REPLACE"])
    return HeaderMatch(
        parts["name"].text(), parts["value"].text() if "value" in parts else "", mismatch
    )


def _dns(node: Node) -> DnsRule:
    return DnsRule(_fqdn(node).pattern)


def _icmps(node: Node) -> tuple[PortRange, ...]:
    found: list[PortRange] = []
    for one in node.items():
        given = _items(one.mapping("fields"), "fields")
        if len(given) > MAX_PORTS:
            raise one.error(f"at most {MAX_PORTS} fields", f"{len(given)} fields")
        found += map(_icmp, given)
    return tuple(found)


def _icmp(node: Node) -> PortRange:
    parts = node.mapping("family", "type")
    family = parts["family"].one_of(list(_ICMP_TYPES)) if "family" in parts else "IPv4"
    if "type" not in parts:
        raise node.error("a type", "no type")
    value = parts["type"].value
    kind = _ICMP_TYPES[family].get(value) if isinstance(value, str) else None
    if kind is None:
        names = ", ".join(_ICMP_TYPES[family])
        kind = parts["type"].number(0, 255, f"or one of {names}", or_text=True)
    return PortRange(1 if family == "IPv4" else 58, kind, kind)


__all__ = ["policy"]
