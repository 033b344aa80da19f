# SPDX-License-Identifier: Apache-2.0
"""PolicySet: policies and what they speak of, as one value that answers questions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from pycilium.errors import SpecError
from pycilium.model.flow import Flow
from pycilium.model.label_filter import LabelFilter
from pycilium.model.labels import Labels
from pycilium.model.policy import Policy
from pycilium.model.port import PROTOCOLS, PortRange, parse_ports
from pycilium.model.verdict import Verdict
from pycilium.policy.cluster import Cluster
from pycilium.policy.dns import DnsCache
from pycilium.policy.evaluate import Evaluator, Subject
from pycilium.policy.parse import read_manifests
from pycilium.policy.peer import Peer
from pycilium.sources import Source

if TYPE_CHECKING:
    from pycilium.policy.difference import Difference
    from pycilium.policy.label_effect import LabelEffect
    from pycilium.policy.lint import Finding
    from pycilium.policy.matrix import Matrix
    from pycilium.policy.suggest import Suggestion

PortLike = int | str
_REMEMBERED = 100_000
Peers = Mapping[str, Peer] | Iterable[Peer]


@attrs.frozen
class Question:
    """One connection to be judged."""

    source: Subject
    destination: Subject
    port: int
    protocol: int


def _as_tuple(policies: Iterable[Policy]) -> tuple[Policy, ...]:
    return tuple(policies)


@attrs.frozen(eq=False)
class PolicySet:
    """Policies of any kinds and the cluster around them; immutable.

    cidr_matches_pods: prefixes also mean pods and nodes with an address in them, as Kubernetes
    has it; without it they mean only what is outside the cluster, as Cilium has it. allow_host:
    the node may reach its pods unless a rule denies it. label_filter: which labels of a pod count.
    """

    policies: tuple[Policy, ...] = attrs.field(default=(), converter=_as_tuple)
    cluster: Cluster = attrs.field(default=Cluster())
    cidr_matches_pods: bool = True
    allow_host: bool = True
    errors: tuple[SpecError, ...] = ()
    label_filter: LabelFilter = attrs.field(default=LabelFilter())
    _evaluator: Evaluator = attrs.field(init=False, repr=False)
    _subjects: dict[Peer, Subject] = attrs.field(init=False, repr=False, factory=dict)

    @_evaluator.default
    def _make_evaluator(self) -> Evaluator:
        return Evaluator(
            self.cluster.bind(self.policies),
            allow_host=self.allow_host,
            cidr_matches_pods=self.cidr_matches_pods,
        )

    @classmethod
    def from_manifests(
        cls,
        documents: Source | Iterable[Source],
        *,
        namespaces: Mapping[str, Mapping[str, str]] | None = None,
        dns: DnsCache | None = None,
        cidr_matches_pods: bool = True,
        allow_host: bool = True,
        go_on: bool = False,
    ) -> PolicySet:
        """From files, folders, YAML or JSON text, and dicts, of any kinds in any mix.

        namespaces: labels by name, beside those of Namespace documents. go_on: leave out
        documents that are wrong and keep their errors. Raises SpecError with file and line.
        """
        found = read_manifests(documents, go_on=go_on)
        known = {**found.cluster.namespaces, **(namespaces or {})}
        cluster = attrs.evolve(found.cluster, namespaces=known, dns=dns)
        return cls(found.policies, cluster, cidr_matches_pods, allow_host, found.errors)

    def __iter__(self) -> Iterator[Policy]:
        return iter(self.policies)

    def __len__(self) -> int:
        return len(self.policies)

    def __repr__(self) -> str:
        rules = sum(len(policy.rules) for policy in self.policies)
        return f"<PolicySet {len(self.policies)} policies, {rules} rules>"

    def verdict(
        self, source: Peer, destination: Peer, port: int = 0, protocol: str = "TCP"
    ) -> Verdict:
        """Whether a new connection may be made: egress of the source, ingress of the destination.

        port: the destination's; for ICMP the type. Raises SpecError.
        """
        question = Question(
            self.subject_of(source),
            self.subject_of(destination),
            _check_port(port),
            _protocol(protocol),
        )
        return self.answer(question)

    def subject_of(self, peer: Peer) -> Subject:
        """A peer as the evaluator sees it, with the labels that count."""
        found = self._subjects.get(peer)
        if found is None:
            if len(self._subjects) >= _REMEMBERED:
                self._subjects.clear()
            found = self._subjects[peer] = self._find_subject(peer)
        return found

    def _find_subject(self, peer: Peer) -> Subject:
        subject = peer.subject(self.cluster)
        if not self.label_filter:
            return subject
        return attrs.evolve(subject, labels=self.label_filter.apply(subject.labels))

    def answer(self, question: Question) -> Verdict:
        """The same for a question that is put together already."""
        return self._evaluator.verdict(
            question.source, question.destination, question.port, question.protocol
        )

    def selecting(self, peer: Peer) -> tuple[Policy, ...]:
        """The policies that select a peer."""
        return self._evaluator.selecting(self.subject_of(peer))

    def question_of(self, flow: Flow) -> Question:
        """The question that a flow of a datapath asked."""
        ends = []
        for party in (flow.source, flow.destination):
            reserved = next((x.key for x in party.identity.labels if x.source == "reserved"), None)
            labels = Labels.make(
                x for x in party.identity.labels if x.source not in ("reserved", "cidr")
            )
            ends.append(Subject(labels, party.address, reserved, enforced=reserved is None))
        return Question(ends[0], ends[1], flow.destination.port, flow.protocol)

    def matrix(self, peers: Peers, ports: Iterable[PortLike]) -> Matrix:
        """Who reaches whom, on every port."""
        from pycilium.policy.matrix import Matrix

        return Matrix.of(self, named(peers), parse_port_list(ports))

    def diff(self, other: PolicySet, peers: Peers, ports: Iterable[PortLike]) -> Difference:
        """What the other set opens and closes, compared with this one."""
        from pycilium.policy.difference import Difference

        return Difference.of(self, other, named(peers), parse_port_list(ports))

    def label_effect(
        self, label_filter: LabelFilter, peers: Peers, ports: Iterable[PortLike]
    ) -> LabelEffect:
        """What another label filter would do: which identities merge, which verdicts change."""
        from pycilium.policy.label_effect import LabelEffect

        return LabelEffect.of(self, label_filter, named(peers), parse_port_list(ports))

    def lint(self, peers: Peers | None = None) -> list[Finding]:
        """What is likely not meant; with peers also selectors that match none of them."""
        from pycilium.policy.lint import lint

        return lint(self, None if peers is None else named(peers))

    def suggest(
        self,
        source: Peer | Flow,
        destination: Peer | None = None,
        port: int = 0,
        protocol: str = "TCP",
    ) -> Suggestion:
        """The smallest rules that would allow a denied flow, as YAML. Raises SpecError."""
        from pycilium.policy.suggest import suggest

        if isinstance(source, Flow):
            return suggest(self, self.question_of(source))
        if destination is None:
            raise SpecError("destination", None, "a Peer")
        subjects = self.subject_of(source), self.subject_of(destination)
        return suggest(self, Question(*subjects, _check_port(port), _protocol(protocol)))


def named(peers: Peers) -> dict[str, Peer]:
    """Peers by name; without names by what they are."""
    if isinstance(peers, Mapping):
        return dict(peers)
    return {str(peer): peer for peer in peers}


def parse_port_list(ports: Iterable[PortLike]) -> list[PortRange]:
    """From 80, "80/tcp" or "8/icmp"; each one port."""
    found: list[PortRange] = []
    for given in ports:
        for one in parse_ports(str(given)) or ():
            if not isinstance(one, PortRange) or one.first != one.last:
                raise SpecError("ports", given, 'single ports, as in 80 or "53/udp"')
            found.append(one)
    return found


def _check_port(port: Any) -> int:
    if not isinstance(port, int) or isinstance(port, bool) or not 0 <= port <= 65535:
        raise SpecError("port", port, "a number from 0 to 65535")
    return port


def _protocol(protocol: Any) -> int:
    number = PROTOCOLS.get(str(protocol).lower())
    if not number:
        names = ", ".join(name.upper() for name, one in PROTOCOLS.items() if one)
        raise SpecError("protocol", protocol, f"one of {names}")
    return number
