# SPDX-License-Identifier: Apache-2.0
"""NetworkPolicy (networking.k8s.io/v1), ClusterNetworkPolicy (policy.networking.k8s.io/v1alpha2).

A NetworkPolicy's rules only allow, and a selected pod is denied the rest; a ClusterNetworkPolicy's
rules decide in their order and deny nothing by themselves.
"""

from __future__ import annotations

from collections.abc import Iterator

from pycilium.documents import Node
from pycilium.model.peer import CidrPeer, FqdnPeer, NodePeer, RulePeer
from pycilium.model.policy import Action, Direction, Policy, Rule, Tier
from pycilium.model.port import PROTOCOLS, NamedPort, PortMatch, PortRange, is_port_name
from pycilium.model.selector import Selector
from pycilium.policy.kinds import fields
from pycilium.policy.kinds.fields import Context
from pycilium.policy.kinds.names import domain_pattern

_ACTIONS = {"Accept": Action.ALLOW, "Deny": Action.DENY, "Pass": Action.PASS}
_TIERS = {"Admin": Tier.ADMIN, "Baseline": Tier.BASELINE}


def network_policy(spec: Node, context: Context) -> Iterator[Policy]:
    """A NetworkPolicy; its API says that an empty or missing list of peers or ports is all."""
    top = spec.mapping("podSelector", "policyTypes", "ingress", "egress")
    own = context.own_namespace
    subject = fields.pods(top.get("podSelector"), None, own)
    types = {Direction.INGRESS} | ({Direction.EGRESS} if top.get("egress") else set())
    if "policyTypes" in top:
        names = {"Ingress": Direction.INGRESS, "Egress": Direction.EGRESS}
        given = {names[one.one_of(list(names))] for one in top["policyTypes"].items()}
        types = given or types
    rules: list[Rule] = []
    for direction in Direction:
        for node in top[str(direction)].items() if str(direction) in top else ():
            if direction in types:
                rules.append(_rule(node, direction, context, len(rules)))
    yield Policy(
        context.name,
        subject,
        tuple(rules),
        own,
        Direction.INGRESS in types,
        Direction.EGRESS in types,
        spec.file,
        spec.line,
    )


def _rule(node: Node, direction: Direction, context: Context, index: int) -> Rule:
    side = "from" if direction is Direction.INGRESS else "to"
    parts = node.mapping(side, "ports")
    peers = [_peer(one, context) for one in parts[side].items()] if side in parts else []
    given = parts["ports"].items() if "ports" in parts else []
    ports = [port for one in given for port in _port(one)]
    return Rule(direction, tuple(peers) or None, tuple(ports) or None, ref=context.ref(node, index))


def _peer(node: Node, context: Context) -> RulePeer:
    parts = node.mapping("podSelector", "namespaceSelector", "ipBlock")
    if not parts:
        raise node.error("a podSelector, a namespaceSelector or an ipBlock", {})
    if "ipBlock" in parts:
        if len(parts) > 1:
            raise node.error("an ipBlock alone", " and ".join(parts))
        block = parts["ipBlock"]
        return fields.cidr_with_holes(block, block.mapping("cidr", "except"))
    return fields.pods(
        parts.get("podSelector"), parts.get("namespaceSelector"), context.own_namespace
    )


def _port(node: Node) -> list[PortMatch]:
    parts = node.mapping("port", "endPort", "protocol")
    name = parts["protocol"].one_of(["TCP", "UDP", "SCTP"]) if "protocol" in parts else "TCP"
    return fields.port(parts, PROTOCOLS[name.lower()])


def cluster_network_policy(spec: Node, context: Context) -> Iterator[Policy]:
    """A ClusterNetworkPolicy of the Admin or the Baseline tier."""
    spec.refuse_nulls()
    top = spec.mapping("tier", "priority", "subject", "ingress", "egress")
    for needed in ("tier", "priority", "subject"):
        if needed not in top:
            raise spec.error(f"a {needed}", f"no {needed}")
    rules: list[Rule] = []
    for direction in Direction:
        for node in top[str(direction)].items() if str(direction) in top else ():
            rules.append(_ordered_rule(node, direction, context, len(rules)))
    yield Policy(
        context.name,
        _pods(top["subject"], top["subject"].mapping("namespaces", "pods")),
        tuple(rules),
        tier=_TIERS[top["tier"].one_of(list(_TIERS))],
        priority=top["priority"].number(0, 1000),
        file=spec.file,
        line=spec.line,
    )


def _ordered_rule(node: Node, direction: Direction, context: Context, index: int) -> Rule:
    side = "from" if direction is Direction.INGRESS else "to"
    parts = node.mapping("name", "action", side, "protocols")
    for needed in ("action", side):
        if needed not in parts:
            raise node.error(f"a field {needed}", f"no {needed}")
    peers = [one for node in parts[side].items() for one in _cluster_peers(node, direction)]
    if not peers:
        raise parts[side].error("at least one peer", [])
    action = _ACTIONS[parts["action"].one_of(list(_ACTIONS))]
    if action is not Action.ALLOW and any(isinstance(one, FqdnPeer) for one in peers):
        raise parts[side].error(
            "domainNames only where the action is Accept", parts["action"].value
        )
    return Rule(
        direction,
        tuple(peers),
        _protocols(parts.get("protocols")),
        action,
        context.ref(node, index),
        order=index,
    )


def _protocols(node: Node | None) -> tuple[PortMatch, ...] | None:
    if node is None:
        return None
    if not node.items():
        raise node.error("at least one protocol; leave protocols out for all", [])
    return tuple(found for one in node.items() for found in _protocol(one))


def _pods(node: Node, parts: dict[str, Node]) -> Selector:
    if len(parts) != 1:
        raise node.error("namespaces or pods, one of them", " and ".join(parts) or "none")
    if "namespaces" in parts:
        return fields.pods(None, parts["namespaces"], None)
    inner = parts["pods"].mapping("namespaceSelector", "podSelector")
    for needed in ("namespaceSelector", "podSelector"):
        if needed not in inner:
            raise parts["pods"].error(f"a {needed}", f"no {needed}")
    return fields.pods(inner["podSelector"], inner["namespaceSelector"], None)


def _cluster_peers(node: Node, direction: Direction) -> list[RulePeer]:
    allowed = ["namespaces", "pods"]
    if direction is Direction.EGRESS:
        allowed += ["nodes", "networks", "domainNames"]
    parts = node.mapping(*allowed)
    if len(parts) != 1:
        raise node.error(f"one of {', '.join(allowed)}", " and ".join(parts) or "none")
    if "networks" in parts:
        return [CidrPeer(fields.network(one)) for one in parts["networks"].items()]
    if "nodes" in parts:
        return [NodePeer(fields.selector(parts["nodes"]))]
    if "domainNames" in parts:
        return [FqdnPeer(domain_pattern(one)) for one in parts["domainNames"].items()]
    return [_pods(node, parts)]


def _protocol(node: Node) -> list[PortMatch]:
    parts = node.mapping("tcp", "udp", "sctp", "destinationNamedPort")
    if len(parts) != 1:
        raise node.error("one of tcp, udp, sctp, destinationNamedPort", " and ".join(parts))
    key, value = next(iter(parts.items()))
    if key == "destinationNamedPort":
        if not is_port_name(value.value):
            raise value.error("a port's name as in RFC 6335")
        return [NamedPort(0, value.text())]
    inner = value.mapping("destinationPort")
    if "destinationPort" not in inner:
        return [PortRange(PROTOCOLS[key])]
    return [_destination(inner["destinationPort"], PROTOCOLS[key])]


def _destination(node: Node, protocol: int) -> PortRange:
    parts = node.mapping("number", "range")
    if len(parts) != 1:
        raise node.error("a number or a range", " and ".join(parts) or "none")
    if "number" in parts:
        only = parts["number"].number(1, 65535)
        return PortRange(protocol, only, only)
    ends = parts["range"].mapping("start", "end")
    for needed in ("start", "end"):
        if needed not in ends:
            raise parts["range"].error(f"a field {needed}", f"no {needed}")
    first = ends["start"].number(1, 65535)
    return PortRange(protocol, first, ends["end"].number(first, 65535))


__all__ = ["cluster_network_policy", "network_policy"]
