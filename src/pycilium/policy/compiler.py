# SPDX-License-Identifier: Apache-2.0
"""Policy sets of many subjects, compiled anew only where something that they rest on changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

import attrs

from pycilium.model.labels import Label, Labels, split_key
from pycilium.model.peer import Entity, RulePeer
from pycilium.model.policy import Policy
from pycilium.model.selector import Operator
from pycilium.policy.resolve import PolicyEntry, resolve
from pycilium.policy.universe import Universe

T = TypeVar("T")
_Key = tuple[tuple[int, ...], tuple[Label, ...]]


@attrs.frozen
class _Set(Generic[T]):
    """One compiled set; it holds its policies, so that their ids stay theirs."""

    policies: tuple[Policy, ...]
    peers: frozenset[RulePeer]
    value: T


class Compiler(Generic[T]):
    """Subjects that the same policies select share one set; `encode` makes what is kept of it."""

    def __init__(self, encode: Callable[[Iterable[PolicyEntry]], T], *, allow_host: bool) -> None:
        self._encode = encode
        self._allow_host = allow_host
        self._universe = Universe({})
        self._sets: dict[_Key, _Set[T]] = {}
        self._indexed: tuple[tuple[Policy, ...], PolicyIndex] = ((), PolicyIndex(()))

    def compile(
        self,
        policies: Iterable[Policy],
        subjects: Mapping[int, Labels],
        identities: Mapping[int, Labels],
    ) -> dict[int, T]:
        """The set of every subject, for the identities as they are now."""
        self._forget(self._universe.update(identities))
        index = self._index(tuple(policies))
        used: dict[_Key, _Set[T]] = {}
        found = {}
        for number, labels in subjects.items():
            selecting = index.selecting(labels)
            ports = tuple(label for label in labels if label.source == "port")
            key = (tuple(map(id, selecting)), ports)
            if key not in used:
                used[key] = self._sets.get(key) or self._compile(selecting, labels)
            found[number] = used[key].value
        self._sets = used
        self._universe.retain(peer for one in used.values() for peer in one.peers)
        return found

    def _index(self, policies: tuple[Policy, ...]) -> PolicyIndex:
        """One for the policies in force; compiling for other identities needs no new one."""
        if self._indexed[0] is not policies:
            self._indexed = (policies, PolicyIndex(policies))
        return self._indexed[1]

    def _compile(self, policies: tuple[Policy, ...], labels: Labels) -> _Set[T]:
        entries = resolve(policies, labels, self._universe, allow_host=self._allow_host)
        peers = (peer for one in policies for rule in one.rules for peer in rule.peers or ())
        return _Set(policies, frozenset((*peers, Entity.HOST)), self._encode(entries))

    def _forget(self, moved: set[RulePeer] | None) -> None:
        if moved is None:
            self._sets = {}
        elif moved:
            self._sets = {k: one for k, one in self._sets.items() if not moved & one.peers}


class PolicyIndex:
    """Policies by a label that their subjects must have."""

    def __init__(self, policies: Iterable[Policy]) -> None:
        self._by_label: dict[tuple[str, str], list[tuple[int, Policy]]] = defaultdict(list)
        self._others: list[tuple[int, Policy]] = []
        for place, policy in enumerate(policies):
            if policy.nodes:
                continue
            keys = _keys(policy)
            for where in [self._by_label[key] for key in keys] if keys else [self._others]:
                where.append((place, policy))

    def selecting(self, labels: Labels) -> tuple[Policy, ...]:
        """The policies that select a subject, in their order."""
        found = dict(self._others)
        for label in labels:
            found.update(self._by_label.get((label.key, label.value), ()))
        return tuple(found[i] for i in sorted(found) if found[i].subject.matches(labels))


def _keys(policy: Policy) -> list[tuple[str, str]]:
    """Of its In requirements the last: a namespace is added behind what the user wrote."""
    wanted = [one for one in policy.subject.requirements if one.operator is Operator.IN]
    if not wanted:
        return []
    key = split_key(wanted[-1].key)[1]
    return [(key, value) for value in wanted[-1].values]
