# SPDX-License-Identifier: Apache-2.0
"""What a label filter would do: which identities become one, and which verdicts change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from pycilium.policy.difference import Difference

if TYPE_CHECKING:
    from pycilium.model.label_filter import LabelFilter
    from pycilium.model.labels import Labels
    from pycilium.model.port import PortRange
    from pycilium.policy.peer import Peer
    from pycilium.policy.policy_set import PolicySet


@attrs.frozen
class Merge:
    """Peers that had identities of their own and would share one."""

    labels: Labels
    peers: tuple[str, ...]

    def __str__(self) -> str:
        return f"{', '.join(self.peers)} become one: {self.labels}"


@attrs.frozen
class LabelEffect:
    """Identities before and after, those that merge, and the connections judged otherwise."""

    before: int
    after: int
    merges: tuple[Merge, ...]
    difference: Difference

    @classmethod
    def of(
        cls,
        policies: PolicySet,
        label_filter: LabelFilter,
        peers: dict[str, Peer],
        ports: list[PortRange],
    ) -> LabelEffect:
        """Try a filter on peers; nothing is changed."""
        filtered = attrs.evolve(policies, label_filter=label_filter)
        own = {name: policies.subject_of(peer).labels for name, peer in peers.items()}
        new = {name: filtered.subject_of(peer).labels for name, peer in peers.items()}
        pods = [name for name, peer in peers.items() if peer.is_pod]
        groups: dict[Labels, list[str]] = {}
        for name in pods:
            groups.setdefault(new[name], []).append(name)
        merges = tuple(
            Merge(labels, tuple(names))
            for labels, names in groups.items()
            if len({own[name] for name in names}) > 1
        )
        difference = Difference.of(policies, filtered, peers, ports)
        return cls(len({own[name] for name in pods}), len(groups), merges, difference)

    @property
    def summary(self) -> str:
        """One line."""
        return f"{self.before} identities become {self.after}; {self.difference.summary}"

    def __str__(self) -> str:
        changed = (*self.difference.opened, *self.difference.closed)
        return "\n".join([self.summary, *map(str, (*self.merges, *changed))])
