# SPDX-License-Identifier: Apache-2.0
"""Who is at the other end: endpoints, entities, prefixes, nodes, names, services."""

from __future__ import annotations

import enum
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network

import attrs

from pycilium.errors import SpecError
from pycilium.model.labels import Label
from pycilium.model.selector import Selector

Network = IPv4Network | IPv6Network


class Entity(enum.Enum):
    """Classes of peers that no label selects."""

    ALL = "all"
    WORLD = "world"
    WORLD_IPV4 = "world-ipv4"
    WORLD_IPV6 = "world-ipv6"
    CLUSTER = "cluster"
    HOST = "host"
    REMOTE_NODE = "remote-node"
    KUBE_APISERVER = "kube-apiserver"
    HEALTH = "health"
    INIT = "init"
    INGRESS = "ingress"
    UNMANAGED = "unmanaged"
    NONE = "none"


@attrs.frozen
class CidrPeer:
    """Addresses in a prefix, without some of its parts."""

    network: Network
    excepts: tuple[Network, ...] = ()

    def __str__(self) -> str:
        holes = "".join(f" except {one}" for one in self.excepts)
        return f"{self.network}{holes}"


@attrs.frozen
class NodePeer:
    """Nodes of the cluster, by their labels."""

    selector: Selector

    def __str__(self) -> str:
        return f"nodes {self.selector}"


@attrs.frozen
class FqdnPeer:
    """Addresses that DNS gave for a name or a pattern; "*" stands for part of one label."""

    pattern: str

    def __str__(self) -> str:
        return self.pattern


@attrs.frozen
class ServicePeer:
    """What stands behind Kubernetes services: one by name, or several by labels."""

    namespace: str | None
    name: str | None = None
    selector: Selector | None = None

    def __str__(self) -> str:
        return f"service {self.namespace or '*'}/{self.name or self.selector}"


@attrs.frozen
class CidrGroupPeer:
    """Prefixes of CiliumCIDRGroups: one by name, or several by labels."""

    name: str | None = None
    selector: Selector | None = None
    excepts: tuple[Network, ...] = ()

    def __str__(self) -> str:
        return f"CIDR group {self.name or self.selector}"


RulePeer = Selector | Entity | CidrPeer | NodePeer | FqdnPeer | ServicePeer | CidrGroupPeer
UNBOUND = (FqdnPeer, ServicePeer, CidrGroupPeer)


@lru_cache(maxsize=65536)
def prefix_label(network: Network) -> Label:
    """The label that says that an identity lies in a prefix."""
    if network.version == 6:
        return Label("cidr", str(network))
    # ipaddress takes ten times as long to say the same.
    a, b, c, d = network.network_address.packed
    return Label("cidr", f"{a}.{b}.{c}.{d}/{network.prefixlen}")


def peer_text(peer: RulePeer) -> str:
    """A peer in one word or two."""
    return peer.value if isinstance(peer, Entity) else str(peer)


def parse_entity(text: object, field: str = "entity") -> Entity:
    """An entity by its name."""
    for entity in Entity:
        if entity.value == text:
            return entity
    raise SpecError(field, text, f"one of {', '.join(entity.value for entity in Entity)}")


def parse_network(text: object, field: str = "cidr") -> Network:
    """A prefix; a bare address is a prefix of full length."""
    from ipaddress import ip_network

    given = str(text)
    try:
        if "%" not in given:  # Python also knows addresses of one link
            return ip_network(given)
        problem = ""
    except ValueError as error:
        problem = "; this has host bits set" if "host bits set" in str(error) else ""
    raise SpecError(field, text, f"a prefix as in 10.0.0.0/8 or 2001:db8::/32{problem}")
