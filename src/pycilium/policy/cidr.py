# SPDX-License-Identifier: Apache-2.0
"""Prefixes that policies name become identities: one for each, with all that cover it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_network

from pycilium.model.labels import Label, Labels
from pycilium.model.peer import CidrPeer, Entity, Network, prefix_label
from pycilium.model.policy import Policy

_WORLD = {
    Entity.WORLD_IPV4: (ip_network("0.0.0.0/0"),),
    Entity.WORLD_IPV6: (ip_network("::/0"),),
}


def named_prefixes(policies: Iterable[Policy]) -> frozenset[Network]:
    """Every prefix that a rule names, exceptions included."""
    found: set[Network] = set()
    for policy in policies:
        for rule in policy.rules:
            for peer in rule.peers or ():
                if isinstance(peer, CidrPeer):
                    found.update((peer.network, *peer.excepts))
                elif isinstance(peer, Entity):
                    found.update(_WORLD.get(peer, ()))
    return frozenset(found)


def prefix_labels(prefixes: Iterable[Network]) -> dict[Network, Labels]:
    """Labels of each prefix: itself, every named prefix around it, and the world."""
    return PrefixIndex(prefixes).labels()


class PrefixIndex:
    """Prefixes by length and first bits: what lies around another one, without walking up."""

    def __init__(self, prefixes: Iterable[Network]) -> None:
        self._labels: dict[int, dict[int, dict[int, Label]]] = {4: {}, 6: {}}
        self._known = frozenset(prefixes)
        for one in self._known:
            lengths = self._labels[one.version]
            first = int(one.network_address) >> (one.max_prefixlen - one.prefixlen)
            lengths.setdefault(one.prefixlen, {})[first] = prefix_label(one)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PrefixIndex) and self._known == other._known

    __hash__ = None  # type: ignore[assignment]

    def __iter__(self) -> Iterator[Network]:
        return iter(self._known)

    def labels(self) -> dict[Network, Labels]:
        """Of each prefix; see prefix_labels()."""
        world = Label("reserved", "world")
        return {one: Labels.make([world, *self.labels_around(one)]) for one in self}

    def labels_around(self, prefix: Network) -> Iterator[Label]:
        """The label of every prefix that holds this one, itself included."""
        bits, first = prefix.max_prefixlen, int(prefix.network_address)
        for length, found in self._labels[prefix.version].items():
            if length <= prefix.prefixlen:
                label = found.get(first >> (bits - length))
                if label is not None:
                    yield label

    def covering(self, address: IPv4Address | IPv6Address) -> Labels:
        """Labels of every prefix that an address lies in."""
        return Labels.make(self.labels_around(ip_network(address)))
