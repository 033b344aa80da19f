# SPDX-License-Identifier: Apache-2.0
"""What would happen, from the rules themselves.

Shares no code with the compiler: a test holds the two, and the kernel, together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address

import attrs

from pycilium.model.l7 import L7Rules
from pycilium.model.labels import Labels
from pycilium.model.peer import CidrPeer, Entity, NodePeer, RulePeer
from pycilium.model.policy import (
    DEFAULT_ALLOW,
    DEFAULT_DENY,
    HOST_ALLOW,
    Action,
    Direction,
    Policy,
    Rule,
)
from pycilium.model.port import PROTOCOL_NAMES, NamedPort, PortMatch
from pycilium.model.selector import Selector
from pycilium.model.verdict import Nearest, Verdict

_CACHED = 200_000


@attrs.frozen(cache_hash=True)
class Subject:
    """One side: an endpoint by its labels, or an address outside, or the host.

    reserved: the name of a reserved identity, where it has one. enforced: whether this
    datapath asks the side's policies.
    """

    labels: Labels = attrs.field(default=Labels())
    address: IPv4Address | IPv6Address | None = None
    reserved: str | None = None
    enforced: bool = True

    @property
    def outside(self) -> bool:
        """Whether it belongs to the world."""
        return self.reserved is not None and self.reserved.startswith("world")

    def __str__(self) -> str:
        if self.reserved:
            return f"{self.reserved} {self.address}" if self.address else self.reserved
        shown = ",".join(str(one) for one in self.labels if not _is_machinery(one.key))
        return shown or "an endpoint without labels"


def _is_machinery(key: str) -> bool:
    return key.startswith("io.cilium.")


@attrs.frozen
class _Stage:
    """One tier, for one subject and peer: rules in the groups that count together."""

    groups: tuple[tuple[Rule, ...], ...]
    closed: bool


def evaluate(
    policies: Iterable[Policy],
    source: Subject,
    destination: Subject,
    port: int,
    protocol: int,
    *,
    allow_host: bool = True,
    cidr_matches_pods: bool = False,
) -> Verdict:
    """The verdict on a new connection: the source's egress, then the destination's ingress.

    port: the destination's; for ICMP the type. Which rule decides among several that agree is
    the first in the order of the policies. For many questions to one set, keep an Evaluator.
    """
    evaluator = Evaluator(policies, allow_host=allow_host, cidr_matches_pods=cidr_matches_pods)
    return evaluator.verdict(source, destination, port, protocol)


class Evaluator:
    """One set of policies, asked often: what it found of a pair of peers it keeps."""

    def __init__(
        self,
        policies: Iterable[Policy],
        *,
        allow_host: bool = True,
        cidr_matches_pods: bool = False,
    ) -> None:
        self._policies = tuple(policies)
        enforced = [policy for policy in self._policies if not policy.audit]
        self._enforced: Evaluator | None = None
        if len(enforced) < len(self._policies):
            self._enforced = Evaluator(
                enforced, allow_host=allow_host, cidr_matches_pods=cidr_matches_pods
            )
        self._allow_host = allow_host
        self._cidr_matches_pods = cidr_matches_pods
        self._selecting: dict[tuple[Labels, bool], tuple[Policy, ...]] = {}
        self._tiers: dict[tuple[Labels, str | None, Direction], tuple[_Stage, ...]] = {}
        self._closers: dict[tuple[int, Direction], tuple[str, ...]] = {}
        self._fits: dict[tuple[int, Subject], bool] = {}
        self._stages: dict[tuple[Subject, Subject, Direction], tuple[_Stage, ...]] = {}

    def verdict(self, source: Subject, destination: Subject, port: int, protocol: int) -> Verdict:
        """The verdict on a new connection."""
        question = (source, destination, port, protocol)
        if self._enforced is None:
            return self._verdict(*question)
        verdict = self._enforced.verdict(*question)
        if not verdict.allowed:
            return verdict
        full = self._verdict(*question)
        return verdict if full.allowed else attrs.evolve(verdict, audited=full)

    def _verdict(self, source: Subject, destination: Subject, port: int, protocol: int) -> Verdict:
        """By all policies, those in audit mode included."""
        verdict, redirect = None, None
        for direction, subject, peer in (
            (Direction.EGRESS, source, destination),
            (Direction.INGRESS, destination, source),
        ):
            if not subject.enforced:
                continue
            verdict = self._direction(direction, subject, peer, port, protocol)
            if not verdict.allowed:
                return verdict
            redirect = redirect or verdict.redirect
        if verdict is None:
            return Verdict(True, Direction.INGRESS, DEFAULT_ALLOW)
        return verdict if verdict.redirect == redirect else attrs.evolve(verdict, redirect=redirect)

    def selecting(self, subject: Subject) -> tuple[Policy, ...]:
        """The policies that select a side."""
        nodes = subject.reserved in ("host", "remote-node")
        if subject.reserved is not None and not nodes:
            return ()
        key = (subject.labels, nodes)
        found = self._selecting.get(key)
        if found is None:
            found = tuple(
                p for p in self._policies if p.nodes == nodes and p.subject.matches(subject.labels)
            )
            self._selecting[key] = found
        return found

    def _direction(
        self, direction: Direction, subject: Subject, peer: Subject, port: int, protocol: int
    ) -> Verdict:
        named = (subject if direction is Direction.INGRESS else peer).labels
        for stage in self._stages_of(direction, subject, peer):
            for group in stage.groups:
                matching = [rule for rule in group if _port_fits(rule, port, protocol, named)]
                if not matching:
                    continue
                decided = _decide(matching)
                if decided is None:
                    break
                rule, redirect = decided
                allowed = rule.action is Action.ALLOW
                return Verdict(allowed, direction, rule.ref, redirect=redirect, log=rule.log)
            else:
                if stage.closed:
                    return self._default(direction, subject, peer, port, protocol)
        return Verdict(True, direction, DEFAULT_ALLOW)

    def _default(
        self, direction: Direction, subject: Subject, peer: Subject, port: int, protocol: int
    ) -> Verdict:
        if self._allow_host and peer.reserved == "host" and direction is Direction.INGRESS:
            return Verdict(True, direction, HOST_ALLOW)
        selecting = self.selecting(subject)
        return Verdict(
            False,
            direction,
            DEFAULT_DENY,
            lambda: self._nearest(selecting, direction, subject, peer, port, protocol),
            self._closing(selecting, direction),
        )

    def _closing(self, selecting: tuple[Policy, ...], direction: Direction) -> tuple[str, ...]:
        """The names of those that deny by default; `selecting` lives as long as this."""
        key = (id(selecting), direction)
        found = self._closers.get(key)
        if found is None:
            names = (p.name for p in selecting if p.denies_by_default(direction))
            found = self._closers[key] = tuple(dict.fromkeys(names))
        return found

    def _stages_of(
        self, direction: Direction, subject: Subject, peer: Subject
    ) -> tuple[_Stage, ...]:
        key = (subject, peer, direction)
        found = self._stages.get(key)
        if found is None:
            if len(self._stages) >= _CACHED:
                self._stages.clear()
            found = self._stages[key] = tuple(self._find_stages(direction, subject, peer))
        return found

    def _find_stages(
        self, direction: Direction, subject: Subject, peer: Subject
    ) -> Iterator[_Stage]:
        for stage in self._stages_for(direction, subject):
            fitting = ([r for r in group if self._peer_fits(r, peer)] for group in stage.groups)
            yield _Stage(tuple(tuple(group) for group in fitting if group), stage.closed)

    def _stages_for(self, direction: Direction, subject: Subject) -> tuple[_Stage, ...]:
        """The tiers that a subject is under, whoever the peer is."""
        key = (subject.labels, subject.reserved, direction)
        found = self._tiers.get(key)
        if found is None:
            mine = self.selecting(subject)
            tiers = sorted({policy.tier for policy in mine})
            found = tuple(_stage([p for p in mine if p.tier == tier], direction) for tier in tiers)
            self._tiers[key] = found
        return found

    def _peer_fits(self, rule: Rule, peer: Subject) -> bool:
        if rule.peers is None:
            return True
        key = (id(rule.peers), peer)  # the policies, and so the peers, live as long as this
        found = self._fits.get(key)
        if found is None:
            if len(self._fits) >= _CACHED:
                self._fits.clear()
            found = self._fits[key] = any(self._is(one, peer) for one in rule.peers)
        return found

    def _is(self, wanted: RulePeer, peer: Subject) -> bool:
        if isinstance(wanted, Selector):
            return peer.reserved is None and wanted.matches(peer.labels)
        if isinstance(wanted, CidrPeer):
            return (peer.outside or self._cidr_matches_pods) and _within(wanted, peer)
        if isinstance(wanted, NodePeer):
            node = peer.reserved in ("host", "remote-node", "kube-apiserver")
            return node and wanted.selector.matches(peer.labels)
        return isinstance(wanted, Entity) and _is_entity(wanted, peer)

    def _nearest(
        self,
        policies: Iterable[Policy],
        direction: Direction,
        subject: Subject,
        peer: Subject,
        port: int,
        protocol: int,
    ) -> Nearest | None:
        """The allow rule with the fewest things wrong."""
        named = (subject if direction is Direction.INGRESS else peer).labels
        best: tuple[int, Rule, bool, bool] | None = None
        for rule in (rule for policy in policies for rule in policy.rules):
            if rule.direction is not direction or rule.action is not Action.ALLOW:
                continue
            peer_fits, port_fits = (
                self._peer_fits(rule, peer),
                _port_fits(rule, port, protocol, named),
            )
            wrong = 2 - peer_fits - port_fits
            if wrong and (best is None or wrong < best[0]):
                best = (wrong, rule, peer_fits, port_fits)
                if wrong == 1:
                    break
        if best is None:
            return None
        missing = [] if best[2] else [f"the peer is {peer}"]
        if not best[3]:
            missing.append(f"the port is {port}/{PROTOCOL_NAMES.get(protocol, protocol)}")
        return Nearest(best[1], " and ".join(missing))


def _stage(policies: Iterable[Policy], direction: Direction) -> _Stage:
    """The rules of one tier in the groups that count together, the first group first."""
    groups: dict[tuple[float, int], list[Rule]] = {}
    closed = False
    for policy in policies:
        closed = closed or policy.denies_by_default(direction)
        for rule in policy.rules:
            if rule.direction is direction:
                groups.setdefault((policy.priority, rule.order), []).append(rule)
    return _Stage(tuple(tuple(groups[place]) for place in sorted(groups)), closed)


def _decide(matching: list[Rule]) -> tuple[Rule, L7Rules | None] | None:
    """Of rules that count together: deny, then allow, then what a proxy allows; None is pass."""
    for rule in matching:
        if rule.action is Action.DENY:
            return rule, None
    allows = [rule for rule in matching if rule.action is Action.ALLOW]
    for rule in allows:
        if rule.l7 is None:
            return rule, None
    if not allows:
        return None
    together = L7Rules()
    for rule in allows:
        together |= rule.l7 or L7Rules()
    return allows[0], together


def _port_fits(rule: Rule, port: int, protocol: int, named: Labels) -> bool:
    return rule.ports is None or any(_is_port(one, port, protocol, named) for one in rule.ports)


def _is_port(one: PortMatch, port: int, protocol: int, named: Labels) -> bool:
    if one.protocol not in (0, protocol):
        return False
    if isinstance(one, NamedPort):
        return f"{port}/{PROTOCOL_NAMES.get(protocol)}" in named.values_of(f"port:{one.name}")
    return one.first <= port <= one.last


def _within(wanted: CidrPeer, peer: Subject) -> bool:
    if peer.address is None or peer.address not in wanted.network:
        return False
    return not any(peer.address in hole for hole in wanted.excepts)


def _is_entity(entity: Entity, peer: Subject) -> bool:
    if entity is Entity.ALL:
        return True
    if entity is Entity.CLUSTER:
        return not peer.outside
    if entity in (Entity.WORLD_IPV4, Entity.WORLD_IPV6):
        version = 4 if entity is Entity.WORLD_IPV4 else 6
        return peer.outside and peer.address is not None and peer.address.version == version
    if entity is Entity.WORLD:
        return peer.outside
    name: str = entity.value
    return peer.reserved == name
