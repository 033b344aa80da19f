# SPDX-License-Identifier: Apache-2.0
"""NetworkPolicy and GlobalNetworkPolicy of Calico (projectcalico.org/v3).

Its rules decide in their order; what no rule of a tier decides is denied. What has no equal here
is an error that names it: a rule that cannot be read must not be left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pycilium.documents import Node
from pycilium.errors import SpecError
from pycilium.model.labels import NAMESPACE_KEY, NAMESPACE_LABELS, SERVICE_ACCOUNT_KEY
from pycilium.model.peer import CidrPeer, RulePeer, parse_network
from pycilium.model.policy import Action, Direction, Policy, Rule, Tier
from pycilium.model.port import NamedPort, PortMatch, PortRange, is_port_name
from pycilium.model.selector import Operator, Requirement, Selector
from pycilium.policy.kinds import fields
from pycilium.policy.kinds.expression import parse_expression
from pycilium.policy.kinds.fields import Context

_SPEC = (
    "tier", "order", "selector", "namespaceSelector", "serviceAccountSelector", "types",
    "ingress", "egress",
)  # fmt: skip
_REFUSED = {
    "doNotTrack": "every connection is tracked",
    "preDNAT": "policies see the backend, not the service",
    "applyOnForward": "there are no host endpoints",
    "performanceHints": "there is nothing to hint at",
}
_REFUSED_RULE = {
    "notProtocol": "write the protocols that are meant",
    "notICMP": "write the types that are meant",
    "http": "write rules.http of a CiliumNetworkPolicy",
}
_REFUSED_ENTITY = {
    "notPorts": "write the ranges that are meant",
    "services": "write the selector of the service",
    "domains": "write toFQDNs of a CiliumNetworkPolicy",
}
_ACTIONS = {"Allow": Action.ALLOW, "Deny": Action.DENY, "Pass": Action.PASS}
_PROTOCOLS = {"TCP": 6, "UDP": 17, "ICMP": 1, "ICMPv6": 58, "SCTP": 132}
_EVERYTHING = (parse_network("0.0.0.0/0"), parse_network("::/0"))
_LAST = 1e9  # a policy without an order comes last


def policy(spec: Node, context: Context) -> Iterator[Policy]:
    """One policy for each alternative of its selector."""
    spec.refuse_nulls()
    top = spec.mapping(*_SPEC, refused=_REFUSED)
    if "tier" in top:
        top["tier"].one_of(["default"])
    rules = [
        rule
        for direction in Direction
        for rule in _rules(top.get(str(direction)), direction, context)
    ]
    types = _types(top)
    for subject in _subjects(top, context):
        yield Policy(
            context.name,
            subject,
            tuple(rule for rule in rules if rule.direction in types),
            context.namespace,
            Direction.INGRESS in types,
            Direction.EGRESS in types,
            spec.file,
            spec.line,
            Tier.NORMAL,
            _order(top),
        )


def _order(top: dict[str, Node]) -> float:
    if "order" not in top:
        return _LAST
    value = top["order"].value
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not abs(value) < _LAST:
        raise top["order"].error(f"a number below {_LAST:g}")
    return float(value)


def _types(top: dict[str, Node]) -> set[Direction]:
    names = {"Ingress": Direction.INGRESS, "Egress": Direction.EGRESS}
    if "types" in top:
        return {names[one.one_of(list(names))] for one in top["types"].items()}
    if "egress" not in top:
        return {Direction.INGRESS}
    return {Direction.EGRESS} | ({Direction.INGRESS} if "ingress" in top else set())


def _subjects(top: dict[str, Node], context: Context) -> list[Selector]:
    parts = [_expression(top.get("selector"))]
    if "namespaceSelector" in top:
        if context.namespace is not None:
            raise top["namespaceSelector"].error("no namespaceSelector in a NetworkPolicy")
        parts.append(_expression(top["namespaceSelector"], NAMESPACE_LABELS))
    if "serviceAccountSelector" in top:
        raise top["serviceAccountSelector"].error("a selector over the pods' own labels")
    chosen = _multiply(parts)
    return chosen if context.namespace is None else [s.within(context.namespace) for s in chosen]


def _rules(node: Node | None, direction: Direction, context: Context) -> Iterator[Rule]:
    for index, one in enumerate(node.items() if node is not None else ()):
        parts = one.mapping(
            "action", "protocol", "icmp", "ipVersion", "source", "destination", "metadata",
            refused=_REFUSED_RULE,
        )  # fmt: skip
        if "action" not in parts:
            raise one.error("an action", "no action")
        action = parts["action"].one_of([*_ACTIONS, "Log"])
        if action == "Log":
            continue  # decides nothing; every verdict is a flow here
        yield _rule(one, parts, _ACTIONS[action], direction, context, index)


def _rule(
    node: Node,
    parts: dict[str, Node],
    action: Action,
    direction: Direction,
    context: Context,
    index: int,
) -> Rule:
    source = _entity(parts.get("source"))
    destination = _entity(parts.get("destination"))
    peer, own = (source, destination) if direction is Direction.INGRESS else (destination, source)
    for key in own:
        if key != "ports" or direction is Direction.EGRESS:
            raise own[key].error(f"only the other side's {key} in a rule for {direction}")
    if "ports" in source:
        raise source["ports"].error("no ports of the source")
    return Rule(
        direction,
        _peers(peer, parts, context),
        _ports(parts, destination),
        action,
        context.ref(node, index),
        order=index,
    )


def _entity(node: Node | None) -> dict[str, Node]:
    if node is None:
        return {}
    return node.mapping(
        "nets", "notNets", "selector", "notSelector", "namespaceSelector", "serviceAccounts",
        "ports", refused=_REFUSED_ENTITY,
    )  # fmt: skip


def _peers(
    entity: dict[str, Node], parts: dict[str, Node], context: Context
) -> tuple[RulePeer, ...] | None:
    labelled = [
        key
        for key in ("selector", "notSelector", "namespaceSelector", "serviceAccounts")
        if key in entity
    ]
    by_net = [key for key in ("nets", "notNets") if key in entity]
    if labelled and by_net:
        raise entity[by_net[0]].error("nets or selectors in a rule, not both")
    if by_net or "ipVersion" in parts:
        return _networks(entity, parts, labelled)
    if not labelled:
        return None
    return tuple(_selectors(entity, context))


def _networks(
    entity: dict[str, Node], parts: dict[str, Node], labelled: Sequence[str]
) -> tuple[RulePeer, ...]:
    if labelled:
        raise parts["ipVersion"].error("no ipVersion beside a selector")
    families: tuple[int, ...] = (4, 6)
    if "ipVersion" in parts:
        families = (parts["ipVersion"].number(4, 6),)
    nets = list(_EVERYTHING)
    if "nets" in entity:
        nets = [fields.network(one) for one in entity["nets"].items()]
    cut = [fields.network(one) for one in entity["notNets"].items()] if "notNets" in entity else []
    return tuple(
        CidrPeer(net, tuple(hole for hole in cut if hole.version == net.version))
        for net in nets
        if net.version in families
    )


def _selectors(entity: dict[str, Node], context: Context) -> list[Selector]:
    parts = [_expression(entity.get("selector"))]
    if "notSelector" in entity:
        node = entity["notSelector"]
        parts.append(_parse(node, f"!({node.text()})", ""))
    if "serviceAccounts" in entity:
        parts.append([_service_accounts(entity["serviceAccounts"])])
    if "namespaceSelector" in entity:
        parts.append(_expression(entity["namespaceSelector"], NAMESPACE_LABELS))
        return _multiply(parts)
    chosen = _multiply(parts)
    return chosen if context.namespace is None else [s.within(context.namespace) for s in chosen]


def _service_accounts(node: Node) -> Selector:
    parts = node.mapping("names", refused={"selector": "labels of accounts are not known"})
    names = tuple(one.text() for one in parts["names"].items()) if "names" in parts else ()
    if not names:
        raise node.error("names", "none")
    return Selector((Requirement(SERVICE_ACCOUNT_KEY, Operator.IN, names),))


def _expression(node: Node | None, prefix: str = "") -> list[Selector]:
    return [Selector()] if node is None else _parse(node, node.text(), prefix)


def _parse(node: Node, text: str, prefix: str) -> list[Selector]:
    """projectcalico.org/namespace is the namespace, whatever the expression selects by."""
    try:
        found = parse_expression(text, prefix=prefix)
    except SpecError as error:
        raise node.error(error.allowed, error.value) from None
    return [Selector(tuple(map(_calico_key, one.requirements))) for one in found]


def _calico_key(one: Requirement) -> Requirement:
    name = one.key.removeprefix(NAMESPACE_LABELS)
    known = {
        "projectcalico.org/namespace": NAMESPACE_KEY,
        "projectcalico.org/name": NAMESPACE_KEY,
        "projectcalico.org/serviceaccount": SERVICE_ACCOUNT_KEY,
    }
    return Requirement(known.get(name, one.key), one.operator, one.values)


def _multiply(parts: list[list[Selector]]) -> list[Selector]:
    found = [Selector()]
    for part in parts:
        found = [Selector((*a.requirements, *b.requirements)) for a in found for b in part]
    return found


def _ports(parts: dict[str, Node], destination: dict[str, Node]) -> tuple[PortMatch, ...] | None:
    protocol = _protocol(parts)
    if "icmp" in parts:
        return _icmp(parts["icmp"], protocol)
    if "ports" not in destination:
        return None if protocol is None else (PortRange(protocol),)
    if protocol not in (6, 17, 132):
        raise destination["ports"].error("ports with protocol TCP, UDP or SCTP")
    return tuple(_port(one, protocol) for one in destination["ports"].items())


def _protocol(parts: dict[str, Node]) -> int | None:
    if "protocol" not in parts:
        return None
    value = parts["protocol"].value
    if isinstance(value, str) and value in _PROTOCOLS:
        return _PROTOCOLS[value]
    number = parts["protocol"].number(1, 255, f"or one of {', '.join(_PROTOCOLS)}", or_text=True)
    if number not in _PROTOCOLS.values():
        raise parts["protocol"].error("a protocol that is carried: TCP, UDP, SCTP or ICMP")
    return number


def _icmp(node: Node, protocol: int | None) -> tuple[PortMatch, ...]:
    if protocol not in (1, 58):
        raise node.error("protocol ICMP or ICMPv6 beside it")
    parts = node.mapping("type", refused={"code": "only the type decides"})
    if "type" not in parts:
        return (PortRange(protocol),)
    kind = parts["type"].number(0, 255)
    return (PortRange(protocol, kind, kind),)


def _port(node: Node, protocol: int) -> PortMatch:
    text = str(node.value)
    first, colon, last = text.partition(":")
    if colon:
        return _port_range(node, protocol, first, last)
    if is_port_name(text):
        return NamedPort(protocol, text)
    only = node.number(1, 65535, 'or a range as in "80:90", or a name', or_text=True)
    return PortRange(protocol, only, only)


def _port_range(node: Node, protocol: int, first: str, last: str) -> PortRange:
    written = all(one.isascii() and one.isdigit() and len(one) <= 5 for one in (first, last))
    if not written or not int(first) <= int(last) <= 65535:
        raise node.error('two ports, the lower first, as in "80:90"')
    return PortRange(protocol, int(first), int(last))
