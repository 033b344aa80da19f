# SPDX-License-Identifier: Apache-2.0
"""Policies: who is meant, and what may reach or leave it."""

from __future__ import annotations

import enum
import os
import sys
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING

import attrs

from pycilium.errors import SpecError
from pycilium.model.selector import Selector

if TYPE_CHECKING:
    from collections.abc import Iterable

Network = IPv4Network | IPv6Network
PROTOCOLS = {"any": 0, "icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58, "sctp": 132}
PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}
WITH_PORTS = (6, 17, 132)


class Direction(enum.IntEnum):
    """Seen from the endpoint; the numbers are those of the policy maps."""

    INGRESS = 0
    EGRESS = 1

    def __str__(self) -> str:
        return self.name.lower()


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
class RuleRef:
    """Where a rule stands; line 0 and no file for the built-in ones."""

    policy: str
    file: str = ""
    line: int = 0
    index: int = 0

    def __str__(self) -> str:
        if not self.file:
            return self.policy
        return f"{self.policy} ({os.path.basename(self.file)}:{self.line})"  # noqa: PTH119


DEFAULT_ALLOW = RuleRef("default: no policy selects the endpoint in this direction")
DEFAULT_DENY = RuleRef("default: no rule allows it")
HOST_ALLOW = RuleRef("the host may always reach its endpoints")


@attrs.frozen
class PortRange:
    """Destination ports of a protocol; ICMP: types. Protocol 0 is any, with every port."""

    protocol: int
    first: int = 0
    last: int = 65535

    def __attrs_post_init__(self) -> None:
        if not 0 <= self.first <= self.last <= 65535:
            raise SpecError(
                "port", f"{self.first}-{self.last}", "0 to 65535, the first not above the last"
            )
        if self.protocol == 0 and (self.first, self.last) != (0, 65535):
            raise SpecError("port", f"{self.first}-{self.last}", "a protocol with ports")

    def __str__(self) -> str:
        name = PROTOCOL_NAMES.get(self.protocol, str(self.protocol))
        if (self.first, self.last) == (0, 65535):
            return f"any/{name}"
        ports = str(self.first) if self.first == self.last else f"{self.first}-{self.last}"
        return f"{ports}/{name}"


@attrs.frozen
class CidrPeer:
    """Addresses outside the cluster in a prefix, without some of its parts."""

    network: Network
    excepts: tuple[Network, ...] = ()

    def __str__(self) -> str:
        holes = "".join(f" except {one}" for one in self.excepts)
        return f"{self.network}{holes}"


Peer = Selector | Entity | CidrPeer


@attrs.frozen
class Rule:
    """What one rule allows or denies.

    peers: None is anybody, an empty tuple nobody. ports: None is everything, an empty tuple
    nothing.
    """

    direction: Direction
    peers: tuple[Peer, ...] | None
    ports: tuple[PortRange, ...] | None
    deny: bool = False
    ref: RuleRef = attrs.field(default=RuleRef("unnamed"))

    def __str__(self) -> str:
        verb = "deny" if self.deny else "allow"
        peers = (
            "anybody" if self.peers is None else ", ".join(map(_peer_text, self.peers)) or "nobody"
        )
        ports = "" if self.ports is None else f" on {', '.join(map(str, self.ports)) or 'nothing'}"
        return f"{verb} {'from' if self.direction is Direction.INGRESS else 'to'} {peers}{ports}"


@attrs.frozen
class Policy:
    """Rules for the endpoints that a selector selects.

    default_deny_*: whether, in that direction, what no rule allows is denied.
    """

    name: str
    subject: Selector
    rules: tuple[Rule, ...] = ()
    namespace: str | None = None
    default_deny_ingress: bool = False
    default_deny_egress: bool = False
    file: str = ""
    line: int = 0

    @classmethod
    def from_yaml(cls, source: str | os.PathLike[str]) -> Policy:
        """One CiliumNetworkPolicy from a file or from text; SpecError for any other number."""
        from pycilium.policy.parse import load_manifests

        found = load_manifests(source)
        if len(found) != 1:
            raise SpecError(
                "manifest", f"{len(found)} policies", "exactly one; else load_manifests"
            )
        return found[0]

    @classmethod
    def allow(
        cls,
        *,
        to: str | None = None,
        from_: str | None = None,
        subject: str | None = None,
        ports: str | None = None,
        name: str | None = None,
    ) -> Policy:
        """Allow one side to reach another; the subject is the one that is reached, or as given.

        `to` and `from_`: a selector ("app=web"), a prefix ("10.0.0.0/8"), "entity:world", or
        None for anybody. subject: "to" (its ingress) or "from" (its egress). ports: "80/tcp",
        "8000-8080/tcp,53/udp", or None for everything.
        """
        return cls._concise(False, to, from_, subject, ports, name)

    @classmethod
    def deny(
        cls,
        *,
        to: str | None = None,
        from_: str | None = None,
        subject: str | None = None,
        ports: str | None = None,
        name: str | None = None,
    ) -> Policy:
        """Deny `from_` to reach `to`, whatever allows it; the arguments are those of allow()."""
        return cls._concise(True, to, from_, subject, ports, name)

    @classmethod
    def _concise(
        cls,
        deny: bool,
        to: str | None,
        from_: str | None,
        subject: str | None,
        ports: str | None,
        name: str | None,
    ) -> Policy:
        caller = sys._getframe(2)  # noqa: SLF001 - the user's line is the rule's place
        direction = _direction(subject, to, from_)
        selected, other = (to, from_) if direction is Direction.INGRESS else (from_, to)
        verb = "deny" if deny else "allow"
        label = name or f"{verb} {from_ or 'anybody'} to {to or 'anybody'}"
        ref = RuleRef(label, caller.f_code.co_filename, caller.f_lineno)
        rule = Rule(direction, _concise_peers(other), parse_ports(ports), deny, ref)
        return cls(
            label,
            Selector.parse(selected or "*"),
            (rule,),
            default_deny_ingress=not deny and direction is Direction.INGRESS,
            default_deny_egress=not deny and direction is Direction.EGRESS,
            file=ref.file,
            line=ref.line,
        )

    def denies_by_default(self, direction: Direction) -> bool:
        """Whether it turns on default deny in a direction."""
        return (
            self.default_deny_ingress
            if direction is Direction.INGRESS
            else self.default_deny_egress
        )


def parse_ports(text: str | None) -> tuple[PortRange, ...] | None:
    """From "80/tcp,8000-8080/udp,any/icmp"; None is everything."""
    if text is None:
        return None
    return tuple(one for part in text.split(",") for one in _port_ranges(part.strip(), text))


def expand(protocol: int, first: int, last: int) -> Iterable[PortRange]:
    """A range of any protocol is one of each protocol that has ports."""
    if protocol == 0 and (first, last) != (0, 65535):
        return [PortRange(one, first, last) for one in WITH_PORTS]
    return [PortRange(protocol, first, last)]


def _port_ranges(part: str, text: str) -> Iterable[PortRange]:
    ports, _, protocol = part.partition("/")
    first, dash, last = ports.partition("-")
    if (protocol or "tcp").lower() not in PROTOCOLS:
        raise SpecError("ports", text, f"a protocol of {', '.join(PROTOCOLS)}")
    number = PROTOCOLS[(protocol or "tcp").lower()]
    if ports == "any":
        return [PortRange(number)]
    if not first.isdigit() or (dash and not last.isdigit()):
        raise SpecError(
            "ports", text, '"80/tcp", "8000-8080/udp" or "any/icmp", with commas between'
        )
    return expand(number, int(first), int(last) if dash else int(first))


def _direction(subject: str | None, to: str | None, from_: str | None) -> Direction:
    if subject not in (None, "to", "from"):
        raise SpecError("subject", subject, '"to" or "from"')
    if subject is None:
        subject = "to" if to is None or _is_selector(to) else "from"
    selected = to if subject == "to" else from_
    if selected is not None and not _is_selector(selected):
        raise SpecError("subject", selected, "a selector: only endpoints have policies")
    return Direction.INGRESS if subject == "to" else Direction.EGRESS


def _is_selector(text: str) -> bool:
    return text == "*" or "=" in text


def _concise_peers(text: str | None) -> tuple[Peer, ...] | None:
    if text is None:
        return None
    if text.startswith("entity:"):
        return (parse_entity(text.removeprefix("entity:")),)
    return (Selector.parse(text),) if _is_selector(text) else (CidrPeer(parse_network(text)),)


def parse_entity(text: object, field: str = "entity") -> Entity:
    """An entity by its name."""
    for entity in Entity:
        if entity.value == text:
            return entity
    raise SpecError(field, text, f"one of {', '.join(entity.value for entity in Entity)}")


def parse_network(text: object, field: str = "cidr") -> Network:
    """A prefix; a bare address is a prefix of full length."""
    from ipaddress import ip_network

    try:
        return ip_network(str(text))
    except ValueError as error:
        raise SpecError(field, text, f"a prefix as in 10.0.0.0/8 ({error})") from None


def _peer_text(peer: Peer) -> str:
    return peer.value if isinstance(peer, Entity) else str(peer)
