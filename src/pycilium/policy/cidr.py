# SPDX-License-Identifier: Apache-2.0
"""Prefixes that policies name become identities: one for each, with all that cover it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_network

from pycilium.model.labels import Label, Labels
from pycilium.model.peer import CidrPeer, Entity, Network
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
    known = set(prefixes)
    return {prefix: _labels(prefix, known) for prefix in known}


def covering_labels(address: IPv4Address | IPv6Address, prefixes: Collection[Network]) -> Labels:
    """Labels of every named prefix that an address lies in."""
    return Labels.make(Label("cidr", str(one)) for one in _around(ip_network(address), prefixes))


def _labels(prefix: Network, known: set[Network]) -> Labels:
    around = (Label("cidr", str(one)) for one in _around(prefix, known))
    return Labels.make([Label("reserved", "world"), *around])


def _around(prefix: Network, known: Collection[Network]) -> Iterator[Network]:
    for length in range(prefix.prefixlen + 1) if known else ():
        candidate = prefix.supernet(new_prefix=length)
        if candidate in known:
            yield candidate
