# SPDX-License-Identifier: Apache-2.0
"""What is written in policies and likely not meant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from pycilium.model.peer import UNBOUND, RulePeer, peer_text
from pycilium.model.policy import Action, RuleRef
from pycilium.model.selector import Selector
from pycilium.policy.covering import CoverIndex, Placed
from pycilium.policy.universe import Universe

if TYPE_CHECKING:
    from pycilium.policy.peer import Peer
    from pycilium.policy.policy_set import PolicySet


@attrs.frozen
class Finding:
    """One remark: a kind for machines, the rule, and words for people."""

    kind: str
    rule: RuleRef
    text: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.text} [{self.kind}]"


def lint(policies: PolicySet, peers: dict[str, Peer] | None) -> list[Finding]:
    """Every remark, in the order of the rules."""
    placed = [Placed(policy, rule) for policy in policies for rule in policy.rules]
    found = [*_covered(placed), *_unbound(policies), *_nobody(placed)]
    if peers is not None:
        found += _unmatched(policies, peers)
    return sorted(found, key=lambda one: (one.rule.file, one.rule.line, one.rule.index, one.kind))


def _covered(placed: list[Placed]) -> Iterator[Finding]:
    """Rules that another one leaves nothing to say to; the first such other is named."""
    index = CoverIndex(placed)
    for number, mine in enumerate(placed):
        for other_number, other in index.covering(number):
            finding = _compare(mine, other, other_number < number)
            if finding is not None:
                yield finding
                break


def _compare(mine: Placed, other: Placed, other_first: bool) -> Finding | None:
    rule, by = mine.rule, other.rule
    if by.action is Action.DENY and rule.action is not Action.DENY and other.place <= mine.place:
        return Finding("hidden-by-deny", rule.ref, f"never allows anything: {by.ref} denies it")
    if other.place < mine.place and by.action not in (Action.PASS, rule.action):
        return Finding("shadowed", rule.ref, f"never decides: {by.ref} comes first")
    if by.action is rule.action and other.place == mine.place:
        return _compare_equals(mine, other, other_first)
    return None


def _compare_equals(mine: Placed, other: Placed, other_first: bool) -> Finding | None:
    """Two rules of one place that do the same."""
    rule, by = mine.rule, other.rule
    if rule.l7 and by.l7 is None:
        text = f"its L7 rules limit nothing: {by.ref} allows the same without a proxy"
        return Finding("l7-without-effect", rule.ref, text)
    if rule.l7 != by.l7:
        return None
    if not mine.covers(other):
        return Finding("shadowed", rule.ref, f"adds nothing to {by.ref}")
    return Finding("duplicate", rule.ref, f"says again what {by.ref} says") if other_first else None


def _unbound(policies: PolicySet) -> Iterator[Finding]:
    """Names for which nothing is known."""
    known: dict[RulePeer, bool] = {}
    for policy in policies:
        for rule in policy.rules:
            for peer in rule.peers or ():
                if isinstance(peer, UNBOUND) and peer not in known:
                    known[peer] = bool(policies.cluster.find(peer))
                if not known.get(peer, True):
                    text = f"{peer_text(peer)} stands for nobody: nothing is known of it"
                    yield Finding("name-unknown", rule.ref, text)


def _nobody(placed: list[Placed]) -> Iterator[Finding]:
    for one in placed:
        if one.rule.peers == () or one.rule.ports == ():
            yield Finding("matches-nothing", one.rule.ref, "an empty list matches nobody")
        if one.rule.l7 and not one.policy.denies_by_default(one.rule.direction):
            text = "its L7 rules still deny other requests although default deny is off"
            yield Finding("l7-denies", one.rule.ref, text)


def _unmatched(policies: PolicySet, peers: dict[str, Peer]) -> Iterator[Finding]:
    subjects = [peer.subject(policies.cluster) for peer in peers.values()]
    pods = Universe(dict(enumerate(one.labels for one in subjects if one.reserved is None)))
    for policy in policies:
        ref = RuleRef(policy.name, policy.file, policy.line)
        if not policy.nodes and not pods.members(policy.subject):
            yield Finding("selects-nothing", ref, f"selects none of the pods: {policy.subject}")
        for rule in policy.rules:
            for peer in rule.peers or ():
                if isinstance(peer, Selector) and not pods.members(peer):
                    yield Finding("matches-nothing", rule.ref, f"no pod is {peer}")
