# SPDX-License-Identifier: Apache-2.0
"""Which rules match everything that another one matches, found through an index."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator
from itertools import chain, combinations

import attrs

from pycilium.model.peer import CidrPeer, Entity, RulePeer
from pycilium.model.policy import Policy, Rule
from pycilium.model.port import PortMatch, PortRange
from pycilium.model.selector import Requirement, Selector

_ANY = "any"
_RANGE = "range"
_MANY = 8  # requirements of one selector; beyond, only equal ones and empty ones are looked for


@attrs.frozen
class Placed:
    """A rule with the policy that it is in."""

    policy: Policy
    rule: Rule

    @property
    def place(self) -> tuple[int, float, int]:
        """When it decides."""
        return self.policy.tier, self.policy.priority, self.rule.order

    def covers(self, other: Placed) -> bool:
        """Whether it matches all that the other one matches, for all of its subjects."""
        if self.policy.nodes != other.policy.nodes:
            return False
        if self.rule.direction is not other.rule.direction:
            return False
        return (
            _selector_covers(self.policy.subject, other.policy.subject)
            and _peers_cover(self.rule.peers, other.rule.peers)
            and _ports_cover(self.rule.ports, other.rule.ports)
        )


class CoverIndex:
    """Rules by what a rule that they cover has in common with them.

    A rule that covers another one has a subject with some of its requirements, a peer that covers
    its first peer, and a port that covers its first port: each a key to look up.
    """

    def __init__(self, placed: Iterable[Placed]) -> None:
        self._placed = tuple(placed)
        self._numbers: dict[tuple[Hashable, ...], list[int]] = defaultdict(list)
        for number, one in enumerate(self._placed):
            for peer in _peer_keys(one.rule.peers):
                for port in _port_keys(one.rule.ports):
                    subject = frozenset(one.policy.subject.requirements)
                    self._numbers[_context(one), subject, peer, port].append(number)

    def covering(self, number: int) -> Iterator[tuple[int, Placed]]:
        """Rules that cover one, in their order."""
        mine, before = self._placed[number], number
        for other in heapq.merge(*self.candidates(number)):
            if other not in (number, before) and self._placed[other].covers(mine):
                yield other, self._placed[other]
            before = other

    def candidates(self, number: int) -> list[list[int]]:
        """The rules that are looked at for one, in lists that are sorted."""
        mine = self._placed[number]
        keys = (
            (_context(mine), subject, peer, port)
            for subject in _subsets(mine.policy.subject.requirements)
            for peer in _wider_peers(mine.rule.peers)
            for port in _wider_ports(mine.rule.ports)
        )
        return [self._numbers[key] for key in keys if key in self._numbers]


def _context(one: Placed) -> tuple[bool, int]:
    return one.policy.nodes, int(one.rule.direction)


def _subsets(requirements: tuple[Requirement, ...]) -> Iterator[frozenset[Requirement]]:
    unique = tuple(dict.fromkeys(requirements))
    sizes = range(len(unique) + 1) if len(unique) <= _MANY else (0, 1, len(unique))
    yield from map(frozenset, chain.from_iterable(combinations(unique, size) for size in sizes))


def _peer_keys(peers: tuple[RulePeer, ...] | None) -> Iterator[Hashable]:
    if peers is None or Entity.ALL in peers:
        yield _ANY
        return
    yield from dict.fromkeys(map(_peer_key, peers))


def _peer_key(peer: RulePeer) -> Hashable:
    if isinstance(peer, Selector):
        return frozenset(peer.requirements)
    if isinstance(peer, CidrPeer) and not peer.excepts:
        return peer.network
    return peer


def _wider_peers(peers: tuple[RulePeer, ...] | None) -> Iterator[Hashable]:
    yield _ANY
    if not peers:
        return
    first = peers[0]
    if isinstance(first, Selector):
        yield from _subsets(first.requirements)
    elif isinstance(first, CidrPeer):
        yield first
        for length in range(first.network.prefixlen + 1):
            yield first.network.supernet(new_prefix=length)
    else:
        yield first


def _port_keys(ports: tuple[PortMatch, ...] | None) -> Iterator[Hashable]:
    if ports is None or PortRange(0) in ports:
        yield _ANY
        return
    for one in dict.fromkeys(ports):
        yield one
        if isinstance(one, PortRange) and one.first != one.last:
            yield one.protocol, _RANGE


def _wider_ports(ports: tuple[PortMatch, ...] | None) -> Iterator[Hashable]:
    yield _ANY
    if ports:
        yield ports[0]
        yield ports[0].protocol, _RANGE


def _selector_covers(wide: Selector, narrow: Selector) -> bool:
    """Fewer requirements select more."""
    return set(wide.requirements) <= set(narrow.requirements)


def _peers_cover(wide: tuple[RulePeer, ...] | None, narrow: tuple[RulePeer, ...] | None) -> bool:
    if wide is None or Entity.ALL in wide:
        return True
    if not narrow:
        return False
    known = set(wide)
    return all(one in known or any(_peer_covers(peer, one) for peer in wide) for one in narrow)


def _peer_covers(wide: RulePeer, narrow: RulePeer) -> bool:
    if isinstance(wide, Selector) and isinstance(narrow, Selector):
        return _selector_covers(wide, narrow)
    if isinstance(wide, CidrPeer) and isinstance(narrow, CidrPeer) and not wide.excepts:
        same = wide.network.version == narrow.network.version
        return same and narrow.network.subnet_of(wide.network)  # type: ignore[arg-type]
    return False


def _ports_cover(wide: tuple[PortMatch, ...] | None, narrow: tuple[PortMatch, ...] | None) -> bool:
    if wide is None or PortRange(0) in wide:
        return True
    if not narrow:
        return False
    return all(any(_port_covers(one, port) for one in wide) for port in narrow)


def _port_covers(wide: PortMatch, narrow: PortMatch) -> bool:
    if wide == narrow:
        return True
    if not isinstance(wide, PortRange) or not isinstance(narrow, PortRange):
        return False
    return (
        wide.protocol == narrow.protocol and wide.first <= narrow.first <= narrow.last <= wide.last
    )
