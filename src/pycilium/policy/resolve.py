# SPDX-License-Identifier: Apache-2.0
"""The compiler: rules and identities to the entries of a policy map.

The kernel asks for (peer's identity, direction, protocol, port) by longest prefix, and on a
miss for identity 0, anybody. The first hit is final, so an identity that has entries of its
own has in them everything that is said of anybody as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs

from pycilium.model.identity import HOST, RESERVED
from pycilium.model.labels import Label, Labels
from pycilium.model.policy import (
    DEFAULT_ALLOW,
    HOST_ALLOW,
    CidrPeer,
    Direction,
    Entity,
    Peer,
    Policy,
    Rule,
    RuleRef,
)
from pycilium.model.selector import Selector
from pycilium.policy.ports import Colour, PortMap

ALLOW, DENY = 1, 2
IDENTITY_BITS, PROTOCOL_BITS = 40, 48
_NODES = {"host", "remote-node", "kube-apiserver"}
_CLUSTER = _NODES | {"health", "init", "ingress", "unmanaged"}


@attrs.frozen(order=True)
class PolicyEntry:
    """One entry; prefix_length counts the bits of identity, direction, protocol and port."""

    direction: int
    identity: int
    protocol: int
    port: int
    prefix_length: int
    verdict: int
    rule: RuleRef = attrs.field(order=False)


def resolve(
    policies: Iterable[Policy],
    subject: Labels,
    identities: Mapping[int, Labels],
    *,
    allow_host: bool = True,
) -> tuple[PolicyEntry, ...]:
    """All entries of the policy set of endpoints with these labels.

    identities: every identity that a peer can have, by number. allow_host: the host may
    reach its endpoints unless a rule denies it, as Kubernetes wants it.
    """
    selecting = [policy for policy in policies if policy.subject.matches(subject)]
    entries: list[PolicyEntry] = []
    for direction in Direction:
        entries += _resolve_direction(selecting, direction, identities, allow_host)
    return tuple(entries)


def _resolve_direction(
    policies: Sequence[Policy],
    direction: Direction,
    identities: Mapping[int, Labels],
    allow_host: bool,
) -> list[PolicyEntry]:
    rules = [rule for policy in policies for rule in policy.rules if rule.direction is direction]
    anybody = [rule for rule in rules if _means_anybody(rule)]
    base = None
    if not any(policy.denies_by_default(direction) for policy in policies):
        base = (ALLOW, DEFAULT_ALLOW)
    wildcard = _port_map(anybody, base)
    entries = _entries(direction, 0, wildcard)
    for number, labels in identities.items():
        host = allow_host and number == HOST and direction is Direction.INGRESS
        own = [rule for rule in rules if _means_anybody(rule) or _matches(rule, number, labels)]
        if len(own) == len(anybody) and not host:
            continue
        exact = _port_map(own, (ALLOW, HOST_ALLOW) if host and base is None else base)
        if exact != wildcard:
            entries += _entries(direction, number, exact)
    return entries


def _means_anybody(rule: Rule) -> bool:
    return rule.peers is None or Entity.ALL in rule.peers


def _port_map(rules: Iterable[Rule], base: Colour | None) -> PortMap:
    """Deny before allow, and of equals the first."""
    painted = PortMap(base)
    for deny in (True, False):
        for rule in rules:
            if rule.deny is deny:
                painted.paint(rule.ports, (DENY if deny else ALLOW, rule.ref))
    return painted


def _entries(direction: Direction, identity: int, ports: PortMap) -> list[PolicyEntry]:
    return [
        PolicyEntry(int(direction), identity, protocol, port, IDENTITY_BITS + bits, *colour)
        for protocol, port, bits, colour in ports.prefixes()
    ]


def _matches(rule: Rule, number: int, labels: Labels) -> bool:
    return any(_peer_matches(peer, number, labels) for peer in rule.peers or ())


def _peer_matches(peer: Peer, number: int, labels: Labels) -> bool:
    if isinstance(peer, Selector):
        return number not in RESERVED and not _is_world(labels) and peer.matches(labels)
    if isinstance(peer, Entity):
        return _entity_matches(peer, number, labels)
    return _cidr_matches(peer, labels)


def _is_world(labels: Labels) -> bool:
    return Label("reserved", "world") in labels


def _entity_matches(entity: Entity, number: int, labels: Labels) -> bool:
    if entity is Entity.WORLD:
        return _is_world(labels)
    if entity is Entity.WORLD_IPV4:
        return Label("cidr", "0.0.0.0/0") in labels
    if entity is Entity.WORLD_IPV6:
        return Label("cidr", "::/0") in labels
    if entity is Entity.CLUSTER:
        return RESERVED.get(number, "") in _CLUSTER or (
            number not in RESERVED and not _is_world(labels)
        )
    name: str = entity.value
    return RESERVED.get(number) == name


def _cidr_matches(peer: CidrPeer, labels: Labels) -> bool:
    if Label("cidr", str(peer.network)) not in labels:
        return False
    return not any(Label("cidr", str(hole)) in labels for hole in peer.excepts)
