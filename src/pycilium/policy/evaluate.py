# SPDX-License-Identifier: Apache-2.0
"""What would happen, from the rules themselves.

Shares no code with the compiler: a test holds the two, and the kernel, together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address

import attrs

from pycilium.model.identity import RESERVED
from pycilium.model.labels import Labels
from pycilium.model.policy import (
    DEFAULT_ALLOW,
    DEFAULT_DENY,
    HOST_ALLOW,
    PROTOCOL_NAMES,
    CidrPeer,
    Direction,
    Entity,
    Peer,
    Policy,
    Rule,
)
from pycilium.model.selector import Selector
from pycilium.model.verdict import Nearest, Verdict


@attrs.frozen
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
        return str(self.labels) or "an endpoint without labels"


def evaluate(
    policies: Iterable[Policy],
    source: Subject,
    destination: Subject,
    port: int,
    protocol: int,
    *,
    allow_host: bool = True,
) -> Verdict:
    """The verdict on a new connection: the source's egress, then the destination's ingress.

    port: the destination's; for ICMP the type. Which rule decides among several that agree is
    the first in the order of the policies.
    """
    known = list(policies)
    verdict = None
    for direction, subject, peer in (
        (Direction.EGRESS, source, destination),
        (Direction.INGRESS, destination, source),
    ):
        if not subject.enforced:
            continue
        verdict = _direction(known, direction, subject, peer, port, protocol, allow_host)
        if not verdict.allowed:
            return verdict
    return verdict or Verdict(True, Direction.INGRESS, DEFAULT_ALLOW)


def _direction(
    policies: list[Policy],
    direction: Direction,
    subject: Subject,
    peer: Subject,
    port: int,
    protocol: int,
    allow_host: bool,
) -> Verdict:
    mine = [policy for policy in policies if policy.subject.matches(subject.labels)]
    matching = [rule for rule in _rules(mine, direction) if _applies(rule, peer, port, protocol)]
    for deny in (True, False):
        for rule in matching:
            if rule.deny is deny:
                return Verdict(not deny, direction, rule.ref)
    if not any(policy.denies_by_default(direction) for policy in mine):
        return Verdict(True, direction, DEFAULT_ALLOW)
    if allow_host and peer.reserved == "host" and direction is Direction.INGRESS:
        return Verdict(True, direction, HOST_ALLOW)
    return Verdict(False, direction, DEFAULT_DENY, _nearest(mine, direction, peer, port, protocol))


def _rules(policies: Iterable[Policy], direction: Direction) -> Iterator[Rule]:
    return (rule for policy in policies for rule in policy.rules if rule.direction is direction)


def _applies(rule: Rule, peer: Subject, port: int, protocol: int) -> bool:
    return _peer_fits(rule, peer) and _port_fits(rule, port, protocol)


def _peer_fits(rule: Rule, peer: Subject) -> bool:
    return rule.peers is None or any(_is(one, peer) for one in rule.peers)


def _port_fits(rule: Rule, port: int, protocol: int) -> bool:
    return rule.ports is None or any(
        one.protocol in (0, protocol) and one.first <= port <= one.last for one in rule.ports
    )


def _is(wanted: Peer, peer: Subject) -> bool:
    if isinstance(wanted, Selector):
        return peer.reserved is None and wanted.matches(peer.labels)
    if isinstance(wanted, CidrPeer):
        return peer.outside and _within(wanted, peer)
    return _is_entity(wanted, peer)


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
    return peer.reserved == entity.value and entity.value in RESERVED.values()


def _nearest(
    policies: Iterable[Policy], direction: Direction, peer: Subject, port: int, protocol: int
) -> Nearest | None:
    """The allow rule with the fewest things wrong."""
    best: tuple[int, Nearest] | None = None
    for rule in _rules(policies, direction):
        if rule.deny:
            continue
        wrong = list(_differences(rule, peer, port, protocol))
        if wrong and (best is None or len(wrong) < best[0]):
            best = (len(wrong), Nearest(rule, " and ".join(wrong)))
    return best[1] if best else None


def _differences(rule: Rule, peer: Subject, port: int, protocol: int) -> Iterator[str]:
    if not _peer_fits(rule, peer):
        yield f"the peer is {peer}"
    if not _port_fits(rule, port, protocol):
        yield f"the port is {port}/{PROTOCOL_NAMES.get(protocol, protocol)}"
