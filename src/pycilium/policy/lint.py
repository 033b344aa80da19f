# SPDX-License-Identifier: Apache-2.0
"""What is written in policies and likely not meant."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import attrs

from pycilium.model.labels import Labels
from pycilium.model.peer import UNBOUND, CidrPeer, Entity, RulePeer, peer_text
from pycilium.model.policy import Action, Policy, Rule, RuleRef
from pycilium.model.port import PortMatch, PortRange
from pycilium.model.selector import Selector

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


@attrs.frozen
class _Placed:
    """A rule with the policy that it is in."""

    policy: Policy
    rule: Rule

    @property
    def place(self) -> tuple[int, float, int]:
        """When it decides."""
        return self.policy.tier, self.policy.priority, self.rule.order


def lint(policies: PolicySet, peers: dict[str, Peer] | None) -> list[Finding]:
    """Every remark, in the order of the rules."""
    placed = [_Placed(policy, rule) for policy in policies for rule in policy.rules]
    found = [*_covered(placed), *_unbound(policies), *_nobody(placed)]
    if peers is not None:
        found += _unmatched(policies, peers)
    return sorted(found, key=lambda one: (one.rule.file, one.rule.line, one.rule.index, one.kind))


def _covered(placed: list[_Placed]) -> Iterator[Finding]:
    """Rules that another one leaves nothing to say to; in each group of one direction."""
    for number, mine in enumerate(placed):
        for other_number, other in enumerate(placed):
            if number == other_number or other.rule.direction is not mine.rule.direction:
                continue
            finding = _compare(mine, other, other_number < number)
            if finding is not None:
                yield finding
                break


def _compare(mine: _Placed, other: _Placed, other_first: bool) -> Finding | None:
    if not _subject_covers(other.policy, mine.policy) or not _rule_covers(other.rule, mine.rule):
        return None
    rule, by = mine.rule, other.rule
    if by.action is Action.DENY and rule.action is not Action.DENY and other.place <= mine.place:
        return Finding("hidden-by-deny", rule.ref, f"never allows anything: {by.ref} denies it")
    if other.place < mine.place and by.action not in (Action.PASS, rule.action):
        return Finding("shadowed", rule.ref, f"never decides: {by.ref} comes first")
    if by.action is rule.action and other.place == mine.place:
        return _compare_equals(mine, other, other_first)
    return None


def _compare_equals(mine: _Placed, other: _Placed, other_first: bool) -> Finding | None:
    """Two rules of one place that do the same."""
    rule, by = mine.rule, other.rule
    if rule.l7 and by.l7 is None:
        text = f"its L7 rules limit nothing: {by.ref} allows the same without a proxy"
        return Finding("l7-without-effect", rule.ref, text)
    if rule.l7 != by.l7:
        return None
    if not (_rule_covers(rule, by) and _subject_covers(mine.policy, other.policy)):
        return Finding("shadowed", rule.ref, f"adds nothing to {by.ref}")
    return Finding("duplicate", rule.ref, f"says again what {by.ref} says") if other_first else None


def _subject_covers(wide: Policy, narrow: Policy) -> bool:
    if wide.nodes != narrow.nodes:
        return False
    return _selector_covers(wide.subject, narrow.subject)


def _selector_covers(wide: Selector, narrow: Selector) -> bool:
    """Fewer requirements select more."""
    return set(wide.requirements) <= set(narrow.requirements)


def _rule_covers(wide: Rule, narrow: Rule) -> bool:
    return _peers_cover(wide.peers, narrow.peers) and _ports_cover(wide.ports, narrow.ports)


def _peers_cover(wide: tuple[RulePeer, ...] | None, narrow: tuple[RulePeer, ...] | None) -> bool:
    if wide is None or Entity.ALL in wide:
        return True
    if not narrow:
        return False
    return all(any(_peer_covers(one, peer) for one in wide) for peer in narrow)


def _peer_covers(wide: RulePeer, narrow: RulePeer) -> bool:
    if wide == narrow:
        return True
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


def _unbound(policies: PolicySet) -> Iterator[Finding]:
    """Names for which nothing is known."""
    for policy in policies:
        for rule in policy.rules:
            for peer in rule.peers or ():
                if isinstance(peer, UNBOUND) and not policies.cluster.find(peer):
                    text = f"{peer_text(peer)} stands for nobody: nothing is known of it"
                    yield Finding("name-unknown", rule.ref, text)


def _nobody(placed: list[_Placed]) -> Iterator[Finding]:
    for one in placed:
        if one.rule.peers == () or one.rule.ports == ():
            yield Finding("matches-nothing", one.rule.ref, "an empty list matches nobody")
        if one.rule.l7 and not one.policy.denies_by_default(one.rule.direction):
            text = "its L7 rules still deny other requests although default deny is off"
            yield Finding("l7-denies", one.rule.ref, text)


def _unmatched(policies: PolicySet, peers: dict[str, Peer]) -> Iterator[Finding]:
    subjects = [peer.subject(policies.cluster) for peer in peers.values()]
    pods = [subject.labels for subject in subjects if subject.reserved is None]
    for policy in policies:
        ref = RuleRef(policy.name, policy.file, policy.line)
        if not policy.nodes and not _matches_any(policy.subject, pods):
            yield Finding("selects-nothing", ref, f"selects none of the pods: {policy.subject}")
        for rule in policy.rules:
            for peer in rule.peers or ():
                if isinstance(peer, Selector) and not _matches_any(peer, pods):
                    yield Finding("matches-nothing", rule.ref, f"no pod is {peer}")


def _matches_any(selector: Selector, pods: Iterable[Labels]) -> bool:
    return any(selector.matches(labels) for labels in pods)
