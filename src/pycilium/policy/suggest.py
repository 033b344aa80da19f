# SPDX-License-Identifier: Apache-2.0
"""The smallest rules that would allow a denied connection; each suggestion is tried."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING

import attrs

from pycilium.errors import SpecError
from pycilium.model.labels import NAMESPACE_KEY, Labels
from pycilium.model.peer import CidrPeer, RulePeer, parse_entity
from pycilium.model.policy import DEFAULT_DENY, Direction, Policy, Rule
from pycilium.model.port import PortRange
from pycilium.model.selector import Operator, Requirement, Selector
from pycilium.policy.export import to_manifest, to_yaml

if TYPE_CHECKING:
    from pycilium.model.verdict import Verdict
    from pycilium.policy.evaluate import Subject
    from pycilium.policy.policy_set import PolicySet, Question


@attrs.frozen
class Suggestion:
    """Policies to add (none where it is allowed already), and the verdict with them.

    blocked: the deny rule that no allow can overrule, where that is the reason.
    """

    policies: tuple[Policy, ...]
    verdict: Verdict
    blocked: str = ""

    @property
    def yaml(self) -> str:
        """The policies as CiliumNetworkPolicies."""
        return to_yaml(to_manifest(one) for one in self.policies) if self.policies else ""

    def __str__(self) -> str:
        if self.blocked:
            return f"# No allow rule helps: {self.blocked} denies it. Narrow that rule."
        return self.yaml or f"# Allowed already: {self.verdict}"


def suggest(policies: PolicySet, question: Question) -> Suggestion:
    """One rule for each direction that denies by default."""
    added: list[Policy] = []
    verdict = policies.answer(question)
    while not verdict.allowed and len(added) < len(Direction):
        if verdict.rule != DEFAULT_DENY:
            return Suggestion((), verdict, blocked=str(verdict.rule))
        added.append(_allow(question, verdict.direction))
        verdict = attrs.evolve(policies, policies=(*policies.policies, *added)).answer(question)
    return Suggestion(tuple(added), verdict)


def _allow(question: Question, direction: Direction) -> Policy:
    ends = (question.source, question.destination)
    peer, subject = ends if direction is Direction.INGRESS else ends[::-1]
    namespace = subject.labels.namespace
    chosen = _own_labels(subject.labels)
    rule = Rule(
        direction, (_peer(peer),), (PortRange(question.protocol, question.port, question.port),)
    )
    return Policy(
        f"allow-{direction}-{question.port}",
        chosen if namespace is None else chosen.within(namespace),
        (rule,),
        namespace,
        direction is Direction.INGRESS,
        direction is Direction.EGRESS,
    )


def _peer(peer: Subject) -> RulePeer:
    if peer.reserved is None:
        namespace = peer.labels.namespace
        chosen = _own_labels(peer.labels)
        return chosen if namespace is None else chosen.within(namespace)
    if not peer.outside:
        return parse_entity(peer.reserved)
    if peer.address is None:
        raise SpecError("flow", str(peer), "an address for a peer outside the cluster")
    return CidrPeer(ip_network(peer.address))


def _own_labels(labels: Labels) -> Selector:
    """What the workload says of itself, not what the cluster adds."""
    own = (
        one
        for one in labels
        if one.source != "port"
        and one.key != NAMESPACE_KEY
        and not one.key.startswith("io.cilium.")
    )
    return Selector(tuple(Requirement(one.key, Operator.IN, (one.value,)) for one in own))
