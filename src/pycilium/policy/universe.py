# SPDX-License-Identifier: Apache-2.0
"""Which identities a peer of a rule means: found once, kept up to date as identities change."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from typing import TypeVar

from pycilium.model.labels import Label, Labels, split_key
from pycilium.model.peer import CidrPeer, Entity, NodePeer, RulePeer, prefix_label
from pycilium.model.selector import Operator, Selector

K = TypeVar("K", bound=Hashable)
_NODES = frozenset({"host", "remote-node", "kube-apiserver"})
_CLUSTER = _NODES | {"health", "init", "ingress", "unmanaged"}


class Universe:
    """Identities by number, and for every peer that was asked for, the numbers it means."""

    def __init__(self, identities: Mapping[int, Labels]) -> None:
        self._labels: dict[int, Labels] = {}
        self._by_key: dict[str, set[int]] = defaultdict(set)
        self._by_value: dict[tuple[str, str], set[int]] = defaultdict(set)
        self._members: dict[RulePeer, set[int]] = {}
        self._by_prefix: dict[str, set[CidrPeer]] = defaultdict(set)
        self._selectors: set[RulePeer] = set()
        self._others: set[RulePeer] = set()
        for number, labels in identities.items():
            self._index(number, labels)

    def __len__(self) -> int:
        return len(self._labels)

    def labels(self, number: int) -> Labels:
        """Of an identity that is known."""
        return self._labels[number]

    def update(self, identities: Mapping[int, Labels]) -> set[RulePeer] | None:
        """Make these the identities; only what came, went or changed is looked at.

        Gives the peers that mean others than before; None where names of ports changed too.
        """
        ports = set(self.with_named_ports())
        moved: set[RulePeer] = set()
        for number in self._gone(identities):
            moved |= self._forget(number)
        for number in identities.keys() - self._labels.keys():
            self._index(number, identities[number])
            for peer in self._peers_of(identities[number]):
                self._members[peer].add(number)
                moved.add(peer)
        return moved if ports == self.with_named_ports() else None

    def _gone(self, identities: Mapping[int, Labels]) -> list[int]:
        """Those that are no more, or have other labels; the same object needs no comparison."""
        found = []
        for number, labels in self._labels.items():
            now = identities.get(number)
            if now is not labels and now != labels:
                found.append(number)
        return found

    def members(self, peer: RulePeer) -> set[int]:
        """The identities that a peer means."""
        found = self._members.get(peer)
        if found is None:
            candidates = self._candidates(peer)
            found = {n for n in candidates if peer_matches(peer, self._labels[n])}
            self._members[peer] = found
            self._remember(peer)
        return found

    def retain(self, peers: Iterable[RulePeer]) -> None:
        """Forget what was found for other peers."""
        wanted = set(peers)
        self._members = {peer: found for peer, found in self._members.items() if peer in wanted}
        for index in (self._by_prefix, self._selectors, self._others):
            index.clear()
        for peer in self._members:
            self._remember(peer)

    def _remember(self, peer: RulePeer) -> None:
        """A prefix is found by its label; a selector means no prefix and no node."""
        if isinstance(peer, CidrPeer):
            self._by_prefix[prefix_label(peer.network).key].add(peer)
        elif isinstance(peer, Selector):
            self._selectors.add(peer)
        else:
            self._others.add(peer)

    def _peers_of(self, labels: Labels) -> list[RulePeer]:
        """The peers that were asked for and mean an identity with these labels."""
        candidates: list[Iterable[RulePeer]] = [self._others]
        if not any(label.source == "reserved" for label in labels):
            candidates.append(self._selectors)
        candidates += (self._by_prefix.get(x.key, set()) for x in labels if x.source == "cidr")
        return [peer for some in candidates for peer in some if peer_matches(peer, labels)]

    def with_named_ports(self) -> set[int]:
        """Identities that name a port."""
        return self._by_key.get("port:", set())

    def _candidates(self, peer: RulePeer) -> Iterable[int]:
        """A superset, from the requirement that leaves the fewest."""
        if isinstance(peer, CidrPeer):
            return self._by_key.get(f"cidr:{prefix_label(peer.network).key}", ())
        best: Iterable[int] = self._labels
        size = len(self._labels)
        for one in peer.requirements if isinstance(peer, Selector) else ():
            if one.operator is not Operator.IN:
                continue
            key = split_key(one.key)[1]
            found = [self._by_value.get((key, value), set()) for value in one.values]
            if sum(map(len, found)) < size:
                best, size = set().union(*found), sum(map(len, found))
        return best

    def _index(self, number: int, labels: Labels) -> None:
        self._labels[number] = labels
        for key in _keys(labels):
            self._by_key[key].add(number)
        for pair in _values(labels):
            self._by_value[pair].add(number)

    def _forget(self, number: int) -> set[RulePeer]:
        labels = self._labels.pop(number)
        for key in _keys(labels):
            _take_out(self._by_key, key, number)
        for pair in _values(labels):
            _take_out(self._by_value, pair, number)
        moved = set(self._peers_of(labels))
        for peer in moved:
            self._members[peer].discard(number)
        return moved


def _keys(labels: Labels) -> list[str]:
    """What identities are found by, besides values."""
    found = [f"cidr:{label.key}" for label in labels if label.source == "cidr"]
    if any(label.source == "port" for label in labels):
        found.append("port:")
    return found


def _values(labels: Labels) -> list[tuple[str, str]]:
    """Keys and values that a selector can ask for; prefixes are found by their own index."""
    return [(x.key, x.value) for x in labels if x.source not in ("cidr", "reserved")]


def _take_out(index: dict[K, set[int]], key: K, number: int) -> None:
    """Labels come and go for ever: what nobody has any more must not stay."""
    index[key].discard(number)
    if not index[key]:
        del index[key]


def peer_matches(peer: RulePeer, labels: Labels) -> bool:
    """Whether a peer means an identity with these labels."""
    reserved = next((label.key for label in labels if label.source == "reserved"), None)
    if isinstance(peer, Selector):
        return reserved is None and peer.matches(labels)
    if isinstance(peer, Entity):
        return _entity_matches(peer, reserved, labels)
    if isinstance(peer, CidrPeer):
        return _cidr_matches(peer, labels)
    if isinstance(peer, NodePeer):
        return reserved in _NODES and peer.selector.matches(labels)
    return False  # a name that nothing was found for means nobody


def _entity_matches(entity: Entity, reserved: str | None, labels: Labels) -> bool:
    if entity is Entity.ALL:
        return True
    if entity is Entity.WORLD:
        return reserved == "world"
    if entity is Entity.WORLD_IPV4:
        return reserved == "world" and Label("cidr", "0.0.0.0/0") in labels
    if entity is Entity.WORLD_IPV6:
        return reserved == "world" and Label("cidr", "::/0") in labels
    if entity is Entity.CLUSTER:
        return reserved is None or reserved in _CLUSTER
    name: str = entity.value
    return reserved == name


def _cidr_matches(peer: CidrPeer, labels: Labels) -> bool:
    if prefix_label(peer.network) not in labels:
        return False
    return not any(prefix_label(hole) in labels for hole in peer.excepts)
