# SPDX-License-Identifier: Apache-2.0
"""Policies as CiliumNetworkPolicy YAML, whatever kind they came from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs

from pycilium.errors import SpecError
from pycilium.model.labels import NAMESPACE_KEY
from pycilium.model.peer import (
    CidrGroupPeer,
    CidrPeer,
    Entity,
    FqdnPeer,
    NodePeer,
    RulePeer,
    ServicePeer,
)
from pycilium.model.policy import Action, Direction, Policy, Rule, Tier
from pycilium.model.port import PROTOCOL_NAMES, NamedPort, PortMatch
from pycilium.model.selector import Operator, Selector
from pycilium.policy.parse import AUDIT_ANNOTATION


@attrs.frozen
class Converted:
    """YAML, and for every policy that could not be said in it the reason."""

    yaml: str
    problems: tuple[str, ...]


def convert(policies: Iterable[Policy]) -> Converted:
    """Every policy that a CiliumNetworkPolicy can say; the others are in `problems`."""
    documents, problems = [], []
    for policy in policies:
        try:
            documents.append(to_manifest(policy))
        except SpecError as error:
            problems.append(f"{policy.name} ({policy.file}:{policy.line}): {error}")
    return Converted(to_yaml(documents), tuple(problems))


def to_yaml(documents: Iterable[dict[str, Any]]) -> str:
    """Several documents as one text."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
            return True

    return yaml.dump_all(documents, Dumper=Dumper, sort_keys=False, default_flow_style=None)


def to_manifest(policy: Policy) -> dict[str, Any]:
    """A CiliumNetworkPolicy, or a clusterwide one. Raises SpecError for what it cannot say."""
    _check_order(policy)
    subject = policy.subject
    metadata: dict[str, Any] = {"name": policy.name}
    kind = "CiliumClusterwideNetworkPolicy"
    if policy.namespace is not None:
        kind, metadata = "CiliumNetworkPolicy", {**metadata, "namespace": policy.namespace}
        kept = tuple(r for r in subject.requirements if r.key != NAMESPACE_KEY)
        subject = Selector(kept)
    if policy.audit:
        metadata["annotations"] = {AUDIT_ANNOTATION: "true"}
    spec: dict[str, Any] = {
        "nodeSelector" if policy.nodes else "endpointSelector": selector(subject)
    }
    for direction in Direction:
        side = "from" if direction is Direction.INGRESS else "to"
        for action, section in ((Action.ALLOW, ""), (Action.DENY, "Deny")):
            mine = [r for r in policy.rules if r.direction is direction and r.action is action]
            rules = [one for rule in mine for one in _rules(rule, side)]
            if rules:
                spec[f"{direction}{section}"] = rules
        if policy.denies_by_default(direction) and not spec.get(str(direction)):
            spec[str(direction)] = [{}]  # a rule that allows nothing, and so denies the rest
    _default_deny(policy, spec)
    return {"apiVersion": "cilium.io/v2", "kind": kind, "metadata": metadata, "spec": spec}


def _check_order(policy: Policy) -> None:
    if policy.tier != Tier.NORMAL:
        name = Tier(policy.tier).name.capitalize()
        raise SpecError("tier", name, "the normal tier: a CiliumNetworkPolicy has no other")
    actions = {rule.action for rule in policy.rules}
    if Action.PASS in actions:
        raise SpecError("action", "Pass", "Allow or Deny: a CiliumNetworkPolicy cannot pass")
    allows = [rule.order for rule in policy.rules if rule.action is Action.ALLOW]
    denies = [rule.order for rule in policy.rules if rule.action is Action.DENY]
    if allows and denies and min(allows) < max(denies):
        raise SpecError(
            "order", "Allow before Deny", "Deny first: in a CiliumNetworkPolicy deny always wins"
        )


def _default_deny(policy: Policy, spec: dict[str, Any]) -> None:
    """Said only where the sections do not say it."""
    said = {str(d): bool(spec.get(str(d)) or spec.get(f"{d}Deny")) for d in Direction}
    wanted = {str(d): policy.denies_by_default(d) for d in Direction}
    if said != wanted:
        spec["enableDefaultDeny"] = wanted


def selector(one: Selector) -> dict[str, Any]:
    """A LabelSelector."""
    labels, expressions = {}, []
    for requirement in one.requirements:
        single = requirement.operator is Operator.IN and len(requirement.values) == 1
        if single and requirement.key not in labels:
            labels[requirement.key] = requirement.values[0]
            continue
        entry: dict[str, Any] = {"key": requirement.key, "operator": requirement.operator.value}
        if requirement.values:
            entry["values"] = list(requirement.values)
        expressions.append(entry)
    found: dict[str, Any] = {}
    if labels:
        found["matchLabels"] = labels
    if expressions:
        found["matchExpressions"] = expressions
    return found


def _rules(rule: Rule, side: str) -> list[dict[str, Any]]:
    """One kind of peers in each."""
    ports = _ports(rule)
    if rule.peers is None:
        return [ports or {f"{side}Entities": ["all"]}]
    by_kind: dict[str, list[Any]] = {}
    for peer in rule.peers:
        key, value = _peer(peer)
        by_kind.setdefault(f"{side}{key}", []).append(value)
    return [{key: values, **ports} for key, values in by_kind.items()]


def _peer(peer: RulePeer) -> tuple[str, Any]:
    if isinstance(peer, Selector):
        return "Endpoints", selector(peer)
    if isinstance(peer, Entity):
        return "Entities", peer.value
    if isinstance(peer, CidrPeer):
        found: dict[str, Any] = {"cidr": str(peer.network)}
        if peer.excepts:
            found["except"] = [str(hole) for hole in peer.excepts]
        return "CIDRSet", found
    if isinstance(peer, NodePeer):
        return "Nodes", selector(peer.selector)
    if isinstance(peer, FqdnPeer):
        return "FQDNs", {"matchPattern" if "*" in peer.pattern else "matchName": peer.pattern}
    return _by_name(peer)


def _by_name(peer: ServicePeer | CidrGroupPeer) -> tuple[str, Any]:
    if isinstance(peer, CidrGroupPeer):
        found: dict[str, Any] = {"cidrGroupRef": peer.name}
        if peer.selector is not None:
            found = {"cidrGroupSelector": selector(peer.selector)}
        return "CIDRSet", {
            **found,
            **({"except": [str(h) for h in peer.excepts]} if peer.excepts else {}),
        }
    around = {} if peer.namespace is None else {"namespace": peer.namespace}
    if peer.selector is not None:
        return "Services", {"k8sServiceSelector": {"selector": selector(peer.selector), **around}}
    return "Services", {"k8sService": {"serviceName": peer.name, **around}}


def _ports(rule: Rule) -> dict[str, Any]:
    if rule.ports is None:
        return {}
    icmp = [one for one in rule.ports if one.protocol in (1, 58)]
    if icmp:
        return {"icmps": [{"fields": [field for one in icmp for field in _icmp(one)]}]}
    element: dict[str, Any] = {"ports": [_port(one) for one in rule.ports]}
    if rule.l7:
        element["rules"] = _l7(rule)
    return {"toPorts": [element]}


def _icmp(one: PortMatch) -> list[dict[str, Any]]:
    family = "IPv4" if one.protocol == 1 else "IPv6"
    if isinstance(one, NamedPort) or one.last - one.first > 39:
        raise SpecError("icmp", "every type", "single types: write those that are meant")
    return [{"family": family, "type": kind} for kind in range(one.first, one.last + 1)]


def _port(one: PortMatch) -> dict[str, Any]:
    protocol = PROTOCOL_NAMES[one.protocol].upper()
    if isinstance(one, NamedPort):
        return {"port": one.name, "protocol": protocol}
    if (one.first, one.last) == (0, 65535):
        return {"port": "0", "protocol": protocol}
    found: dict[str, Any] = {"port": str(one.first), "protocol": protocol}
    if one.last != one.first:
        found["endPort"] = one.last
    return found


def _l7(rule: Rule) -> dict[str, Any]:
    assert rule.l7 is not None
    if rule.l7.dns:
        key = ("matchName", "matchPattern")
        return {"dns": [{key["*" in one.pattern]: one.pattern} for one in rule.l7.dns]}
    return {"http": [_http(one) for one in rule.l7.http]}


def _http(one: Any) -> dict[str, Any]:
    found = {k: getattr(one, k) for k in ("path", "method", "host") if getattr(one, k) is not None}
    if one.headers:
        found["headerMatches"] = [
            {"name": h.name, "value": h.value, **({"mismatch": h.mismatch} if h.mismatch else {})}
            for h in one.headers
        ]
    return found
