# SPDX-License-Identifier: Apache-2.0
"""What policies speak of besides pods: namespaces, services, prefix groups, nodes, DNS answers.

Binding puts prefixes and selectors in place of names, so that the evaluator and the compiler see
the same. A name for which nothing is known means nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_network

import attrs

from pycilium.model.labels import NAMESPACE_NAME_KEY, Labels
from pycilium.model.peer import (
    UNBOUND,
    CidrGroupPeer,
    CidrPeer,
    FqdnPeer,
    Network,
    RulePeer,
    ServicePeer,
)
from pycilium.model.policy import Policy, Rule
from pycilium.model.selector import Selector
from pycilium.policy.dns import DnsCache

Address = IPv4Address | IPv6Address


@attrs.frozen
class Service:
    """A Kubernetes service: what it selects, or (selector None) the addresses behind it."""

    namespace: str
    name: str
    labels: Labels = attrs.field(default=Labels())
    selector: Selector | None = None
    addresses: tuple[Address, ...] = ()


@attrs.frozen
class CidrGroup:
    """A CiliumCIDRGroup."""

    name: str
    labels: Labels
    networks: tuple[Network, ...]


@attrs.frozen
class Node:
    """A node of the cluster."""

    name: str
    labels: Labels
    addresses: tuple[Address, ...] = ()


@attrs.frozen
class Cluster:
    """Everything known, as a value; `namespaces` has their labels."""

    namespaces: Mapping[str, Mapping[str, str]] = attrs.field(factory=dict)
    services: tuple[Service, ...] = ()
    cidr_groups: tuple[CidrGroup, ...] = ()
    nodes: tuple[Node, ...] = ()
    dns: DnsCache | None = None

    def namespace_labels(self, namespace: str) -> dict[str, str]:
        """Of one namespace, with the name that Kubernetes itself puts on it."""
        return {NAMESPACE_NAME_KEY: namespace, **self.namespaces.get(namespace, {})}

    def node_of(self, address: Address) -> Node | None:
        """The node that has an address."""
        return next((node for node in self.nodes if address in node.addresses), None)

    def bind(self, policies: Iterable[Policy]) -> tuple[Policy, ...]:
        """The policies with every name looked up."""
        return tuple(self._bind_policy(policy) for policy in policies)

    def find(self, peer: RulePeer) -> tuple[RulePeer, ...]:
        """What a name stands for now."""
        return tuple(self._look_up(peer))

    def _bind_policy(self, policy: Policy) -> Policy:
        if not any(_is_unbound(rule) for rule in policy.rules):
            return policy
        return attrs.evolve(policy, rules=tuple(map(self._bind_rule, policy.rules)))

    def _bind_rule(self, rule: Rule) -> Rule:
        if not _is_unbound(rule):
            return rule
        peers = tuple(found for peer in rule.peers or () for found in self._look_up(peer))
        return attrs.evolve(rule, peers=tuple(dict.fromkeys(peers)))

    def _look_up(self, peer: RulePeer) -> Iterator[RulePeer]:
        if isinstance(peer, FqdnPeer):
            for address in self.dns.addresses(peer.pattern) if self.dns else ():
                yield CidrPeer(ip_network(address))
        elif isinstance(peer, CidrGroupPeer):
            yield from self._group_prefixes(peer)
        elif isinstance(peer, ServicePeer):
            yield from self._backends(peer)
        else:
            yield peer

    def _group_prefixes(self, peer: CidrGroupPeer) -> Iterator[CidrPeer]:
        for group in self.cidr_groups:
            chosen = peer.selector.matches(group.labels) if peer.selector else False
            if chosen or group.name == peer.name:
                for network in group.networks:
                    yield CidrPeer(network, _holes_in(network, peer.excepts))

    def _backends(self, peer: ServicePeer) -> Iterator[RulePeer]:
        for service in self.services:
            if peer.namespace not in (None, service.namespace):
                continue
            chosen = peer.selector.matches(service.labels) if peer.selector else False
            if not chosen and service.name != peer.name:
                continue
            if service.selector is not None:
                yield service.selector.within(service.namespace)
            for address in service.addresses:
                yield CidrPeer(ip_network(address))


def _is_unbound(rule: Rule) -> bool:
    return any(isinstance(peer, UNBOUND) for peer in rule.peers or ())


def _holes_in(network: Network, holes: tuple[Network, ...]) -> tuple[Network, ...]:
    """Of holes that several prefixes share, those that cut this one."""
    return tuple(
        one
        for one in holes
        if one.version == network.version and (one.subnet_of(network) or network.subnet_of(one))  # type: ignore[arg-type]
    )
