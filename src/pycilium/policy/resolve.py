# SPDX-License-Identifier: Apache-2.0
"""The compiler: rules and identities to the entries of a policy map.

The kernel asks for (peer's identity, direction, protocol, port) by longest prefix, and on a
miss for identity 0, anybody. The first hit is final, so an identity that has entries of its
own has in them everything that is said of anybody as well.

Tiers are painted one after the other on a map of protocols and ports: what is painted first
stays. A rule that passes keeps its place only until its tier ends.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs

from pycilium.model.labels import Labels
from pycilium.model.peer import Entity
from pycilium.model.policy import (
    DEFAULT_ALLOW,
    DEFAULT_DENY,
    HOST_ALLOW,
    Action,
    Direction,
    Policy,
    Rule,
    RuleRef,
)
from pycilium.model.port import WITH_PORTS, NamedPort, PortRange
from pycilium.policy.ports import Colour, PortMap, Prefix
from pycilium.policy.universe import Universe

NONE, ALLOW, DENY, REDIRECT, AUDIT = range(5)
_PASS = -1
IDENTITY_BITS, PROTOCOL_BITS = 40, 48
_RANK = {Action.DENY: 0, Action.ALLOW: 1, Action.PASS: 3}


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


@attrs.frozen
class _Tier:
    """The rules of one tier in the order in which they decide, and whether it ends in a deny.

    audited: places of rules whose policies are in audit mode. enforced: whether it ends in a
    deny without those policies.
    """

    rules: tuple[Rule, ...]
    closed: bool
    audited: frozenset[int]
    enforced: bool


def resolve(
    policies: Iterable[Policy],
    subject: Labels,
    identities: Mapping[int, Labels] | Universe,
    *,
    allow_host: bool = True,
) -> tuple[PolicyEntry, ...]:
    """All entries of the policy set of endpoints with these labels.

    identities: every identity that a peer can have, by number. allow_host: the host may
    reach its endpoints unless a rule denies it, as Kubernetes wants it.
    """
    universe = identities if isinstance(identities, Universe) else Universe(identities)
    selecting = [p for p in policies if not p.nodes and p.subject.matches(subject)]
    return tuple(
        entry
        for direction in Direction
        for entry in _Side(direction, selecting, subject, universe, allow_host).entries()
    )


class _Side:
    """One direction of one policy set."""

    def __init__(
        self,
        direction: Direction,
        policies: Sequence[Policy],
        subject: Labels,
        universe: Universe,
        allow_host: bool,
    ) -> None:
        self._direction = direction
        self._subject = subject
        self._universe = universe
        self._tiers = list(_tiers(policies, direction))
        self._rules = [rule for tier in self._tiers for rule in tier.rules]
        self._audited = any(policy.audit for policy in policies)
        self._host = allow_host and direction is Direction.INGRESS
        self._anybody = frozenset(i for i, r in enumerate(self._rules) if _means_anybody(r))
        self._known: dict[object, list[Prefix]] = {}

    def entries(self) -> Iterator[PolicyEntry]:
        """The wildcard's first, then those of every identity that it is not enough for."""
        wildcard = self._prefixes(self._anybody, False, Labels(), None)
        yield from self._of(0, wildcard)
        for number, rules in self._own().items():
            host = self._host and number in self._universe.members(Entity.HOST)
            prefixes = self._prefixes(rules, host, self._universe.labels(number), wildcard)
            if prefixes != wildcard:
                yield from self._of(number, prefixes)

    def _own(self) -> dict[int, frozenset[int]]:
        """Identities that other rules speak of than those for anybody, with all their rules."""
        matching: dict[int, set[int]] = defaultdict(set)
        for index, rule in enumerate(self._rules):
            if index not in self._anybody:
                for peer in rule.peers or ():
                    for number in self._universe.members(peer):
                        matching[number].add(index)
        if self._direction is Direction.EGRESS and any(map(_names_ports, self._rules)):
            for number in self._universe.with_named_ports():
                matching[number] |= set()
        for number in self._universe.members(Entity.HOST) if self._host else ():
            matching[number] |= set()
        return {number: self._anybody | rules for number, rules in matching.items()}

    def _prefixes(
        self, rules: frozenset[int], host: bool, peer: Labels, wildcard: list[Prefix] | None
    ) -> list[Prefix]:
        """A miss says "no rule" too; but what an identity misses, the wildcard answers."""
        named = self._subject if self._direction is Direction.INGRESS else peer
        ports = tuple(label for label in named if label.source == "port")
        key = (rules, host, ports, wildcard is None)
        found = self._known.get(key)
        if found is None:
            painted = self._paint(rules, host, named, audit=True)
            if self._audited:
                enforced = self._paint(rules, host, named, audit=False)
                painted = enforced.marked(painted, _audit)
            found = list(painted.prefixes(without=None if wildcard else NONE))
            self._known[key] = found
        return found

    def _paint(self, rules: frozenset[int], host: bool, named: Labels, *, audit: bool) -> PortMap:
        """audit: with the policies that are in audit mode, as if they were in force."""
        painted, start = PortMap(), 0
        for tier in self._tiers:
            for place, rule in enumerate(tier.rules):
                if start + place in rules and (audit or place not in tier.audited):
                    painted.paint(_ports(rule, named), _colour(rule))
            start += len(tier.rules)
            if tier.closed if audit else tier.enforced:
                painted.fill((ALLOW, HOST_ALLOW) if host else (NONE, DEFAULT_DENY))
            painted.clear(_PASS)
        painted.fill((ALLOW, DEFAULT_ALLOW))
        return painted

    def _of(self, identity: int, prefixes: Iterable[Prefix]) -> Iterator[PolicyEntry]:
        for protocol, port, bits, (verdict, rule) in prefixes:
            yield PolicyEntry(
                int(self._direction), identity, protocol, port, IDENTITY_BITS + bits, verdict, rule
            )


def _tiers(policies: Sequence[Policy], direction: Direction) -> Iterator[_Tier]:
    for tier in sorted({policy.tier for policy in policies}):
        mine = [policy for policy in policies if policy.tier == tier]
        placed = [
            ((policy.priority, rule.order, _rank(rule)), rule, policy.audit)
            for policy in mine
            for rule in policy.rules
            if rule.direction is direction
        ]
        placed.sort(key=lambda one: one[0])
        closing = [policy for policy in mine if policy.denies_by_default(direction)]
        yield _Tier(
            tuple(rule for _, rule, _ in placed),
            bool(closing),
            frozenset(i for i, (_, _, audit) in enumerate(placed) if audit),
            any(not policy.audit for policy in closing),
        )


def _rank(rule: Rule) -> int:
    """Of rules in one place: deny, allow, allow with a proxy, pass."""
    return _RANK[rule.action] + (rule.action is Action.ALLOW and rule.l7 is not None)


def _means_anybody(rule: Rule) -> bool:
    return rule.peers is None or Entity.ALL in rule.peers


def _names_ports(rule: Rule) -> bool:
    return any(isinstance(one, NamedPort) for one in rule.ports or ())


def _colour(rule: Rule) -> tuple[int, RuleRef]:
    if rule.action is Action.PASS:
        return _PASS, rule.ref
    if rule.action is Action.DENY:
        return DENY, rule.ref
    return REDIRECT if rule.l7 else ALLOW, rule.ref


def _audit(enforced: Colour, full: Colour) -> Colour:
    """What is allowed and would be denied keeps the name of what would deny it."""
    denied = enforced[0] == ALLOW and full[0] in (NONE, DENY)
    return (AUDIT, full[1]) if denied else enforced


def _ports(rule: Rule, named: Labels) -> tuple[PortRange, ...] | None:
    """The rule's ports in numbers, names looked up where the destination says them."""
    if rule.ports is None:
        return None
    found: list[PortRange] = []
    for one in rule.ports:
        found += [one] if isinstance(one, PortRange) else _look_up(one, named)
    return tuple(found)


def _look_up(wanted: NamedPort, named: Labels) -> Iterator[PortRange]:
    protocols = {"tcp": 6, "udp": 17, "sctp": 132}
    for value in named.values_of(f"port:{wanted.name}"):
        number, _, protocol = value.partition("/")
        if wanted.protocol in (0, protocols[protocol]) and protocols[protocol] in WITH_PORTS:
            yield PortRange(protocols[protocol], int(number), int(number))
