# SPDX-License-Identifier: Apache-2.0
"""Policies: who is meant, and what may reach or leave it."""

from __future__ import annotations

import enum
import os
import sys

import attrs

from pycilium.errors import SpecError
from pycilium.model.l7 import L7Rules
from pycilium.model.peer import CidrPeer, RulePeer, parse_entity, parse_network, peer_text
from pycilium.model.port import PortMatch, parse_ports
from pycilium.model.selector import Selector


class Action(enum.Enum):
    """What a rule does with what it matches."""

    ALLOW = "allow"
    DENY = "deny"
    PASS = "pass"


class Tier(enum.IntEnum):
    """Who speaks first; the numbers between are free for tiers of one's own."""

    ADMIN = 100
    NORMAL = 200
    BASELINE = 250


class Direction(enum.IntEnum):
    """Seen from the endpoint; the numbers are those of the policy maps."""

    INGRESS = 0
    EGRESS = 1

    def __str__(self) -> str:
        return self.name.lower()


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
class Rule:
    """What one rule allows, denies, or passes on to the next tier.

    peers: None is anybody, an empty tuple nobody. ports: None is everything, an empty tuple
    nothing. order: among the rules of its policy, the lower first; rules of one order count
    together, deny first. l7: a proxy decides what an allowed connection may carry. log: a word
    of the user's for flows that it decides.
    """

    direction: Direction
    peers: tuple[RulePeer, ...] | None
    ports: tuple[PortMatch, ...] | None
    action: Action = Action.ALLOW
    ref: RuleRef = attrs.field(default=RuleRef("unnamed"))
    order: int = 0
    l7: L7Rules | None = None
    log: str = ""

    def __str__(self) -> str:
        peers = "anybody"
        if self.peers is not None:
            peers = ", ".join(map(peer_text, self.peers)) or "nobody"
        ports = "" if self.ports is None else f" on {', '.join(map(str, self.ports)) or 'nothing'}"
        side = "from" if self.direction is Direction.INGRESS else "to"
        return f"{self.action.value} {side} {peers}{ports}{f' ({self.l7})' if self.l7 else ''}"


@attrs.frozen
class Policy:
    """Rules for the endpoints, or the nodes, that a selector selects.

    default_deny_*: whether, in that direction, what no rule of its tier decides is denied.
    tier: decides before every higher one. priority: within the tier, the lower first. audit:
    what it would deny is allowed and reported, until it is taken out of audit mode.
    """

    name: str
    subject: Selector
    rules: tuple[Rule, ...] = ()
    namespace: str | None = None
    default_deny_ingress: bool = False
    default_deny_egress: bool = False
    file: str = ""
    line: int = 0
    tier: int = Tier.NORMAL
    priority: float = 0.0
    nodes: bool = False
    audit: bool = False

    @classmethod
    def from_yaml(cls, source: str | os.PathLike[str]) -> Policy:
        """One policy of any kind from a file or from text; SpecError for any other number."""
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
        namespace: str | None = None,
        tier: int = Tier.NORMAL,
        priority: float = 0.0,
    ) -> Policy:
        """Allow one side to reach another; the subject is the one that is reached, or as given.

        `to` and `from_`: a selector ("app=web"), a prefix ("10.0.0.0/8"), "entity:world", or
        None for anybody. subject: "to" (its ingress) or "from" (its egress). ports: "80/tcp",
        "8000-8080/tcp,53/udp", "web/tcp" by name, or None for everything. namespace: both
        sides are of that namespace.
        """
        policy = cls._concise(Action.ALLOW, to, from_, subject, ports, name, namespace)
        return attrs.evolve(policy, tier=tier, priority=priority)

    @classmethod
    def deny(
        cls,
        *,
        to: str | None = None,
        from_: str | None = None,
        subject: str | None = None,
        ports: str | None = None,
        name: str | None = None,
        namespace: str | None = None,
        tier: int = Tier.NORMAL,
        priority: float = 0.0,
    ) -> Policy:
        """Deny `from_` to reach `to`, whatever allows it; the arguments are those of allow()."""
        policy = cls._concise(Action.DENY, to, from_, subject, ports, name, namespace)
        return attrs.evolve(policy, tier=tier, priority=priority)

    @classmethod
    def _concise(
        cls,
        action: Action,
        to: str | None,
        from_: str | None,
        subject: str | None,
        ports: str | None,
        name: str | None,
        namespace: str | None,
    ) -> Policy:
        caller = sys._getframe(2)  # noqa: SLF001 - the user's line is the rule's place
        direction = _direction(subject, to, from_)
        selected, other = (to, from_) if direction is Direction.INGRESS else (from_, to)
        label = name or f"{action.value} {from_ or 'anybody'} to {to or 'anybody'}"
        ref = RuleRef(label, caller.f_code.co_filename, caller.f_lineno)
        peers = _concise_peers(other, namespace)
        rule = Rule(direction, peers, parse_ports(ports), action, ref)
        return cls(
            label,
            _within(Selector.parse(selected or "*"), namespace),
            (rule,),
            namespace,
            default_deny_ingress=action is Action.ALLOW and direction is Direction.INGRESS,
            default_deny_egress=action is Action.ALLOW and direction is Direction.EGRESS,
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


def _within(selector: Selector, namespace: str | None) -> Selector:
    return selector if namespace is None else selector.within(namespace)


def _concise_peers(text: str | None, namespace: str | None) -> tuple[RulePeer, ...] | None:
    if text is None:
        return None
    if text.startswith("entity:"):
        return (parse_entity(text.removeprefix("entity:")),)
    if _is_selector(text):
        return (_within(Selector.parse(text), namespace),)
    return (CidrPeer(parse_network(text)),)
