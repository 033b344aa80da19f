# SPDX-License-Identifier: Apache-2.0
"""Policies: the whole desired state in, the kernel's policy sets out.

A change of prefixes never leaves a gap. First the sets learn the new identities under the old
policies, then the ipcache hands them out, then the new policies take over set by set, then the
ipcache forgets the old prefixes and at last the sets do. Each step writes only what differs.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from pycilium.datapath import render, serial
from pycilium.datapath.sets import PolicySets
from pycilium.errors import SpecError
from pycilium.model import Delta, Identity, Policy
from pycilium.model.identity import RESERVED
from pycilium.policy import PolicySet, named_prefixes
from pycilium.policy.compiler import Compiler

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from pycilium.datapath.core import Core
    from pycilium.datapath.identities import Assignment, Identities
    from pycilium.datapath.rules import Rules
    from pycilium.datapath.sets import Pairs
    from pycilium.datapath.wire import Address
    from pycilium.libbpf import MapSpec
    from pycilium.model import Change, Labels, RuleRef

Desired = Policy | list[Policy] | tuple[Policy, ...] | PolicySet


@attrs.frozen
class _Plan:
    """Three states of the ipcache (now, in between, then) and the sets of the last."""

    policies: tuple[Policy, ...]
    between: Assignment
    then: Assignment
    sets: dict[int, Pairs]
    delta: Delta


@attrs.frozen
class _Table:
    """One map's entries before and after a change."""

    spec: MapSpec
    name: str
    before: Mapping[bytes, bytes]
    after: Mapping[bytes, bytes]


class Policies:
    """Iterable over what was applied; `apply` and `plan` take the full desired state."""

    def __init__(self, core: Core, identities: Identities, rules: Rules) -> None:
        self._core = core
        self._identities = identities
        self._rules = rules
        self.sets = PolicySets(core, rules)
        self.applied: tuple[Policy, ...] = ()
        self._compiler: Compiler[Pairs] | None = None
        self._logs: tuple[tuple[Policy, ...], dict[RuleRef, str]] | None = None
        self._coming: tuple[Policy, ...] | None = None
        self._coming_sets: dict[int, Pairs] = {}

    def __iter__(self) -> Iterator[Policy]:
        return iter(self.applied)

    def __len__(self) -> int:
        return len(self.applied)

    def __repr__(self) -> str:
        return f"<Policies {', '.join(one.name for one in self.applied)}>"

    def plan(self, desired: Desired, *, audit: bool = False) -> Delta:
        """What apply() would change, with the exact map entries; touches nothing.

        Raises SpecError and MapFullError as apply() does.
        """
        wanted = _checked(desired, audit)
        with self._core.lock:
            self._core.require_open()
            with self._identities.trial():
                return self._plan(wanted).delta

    def apply(self, desired: Desired, *, audit: bool = False) -> Delta:
        """Make these the policies in force, all others gone; a second call writes nothing.

        desired: policies, or a PolicySet, whose cluster says what the names in them stand for.
        audit: all of them in audit mode, whatever they say of themselves. Raises SpecError and
        MapFullError before anything has changed.
        """
        wanted = _checked(desired, audit)
        with self._core.lock:
            self._core.require_open()
            self.read_node()
            with self._identities.trial() as keep:
                plan = self._plan(wanted)
                self._announce(plan.sets, wanted)
                keep()
            self._carry_out(plan)
            self._core.save()
            return plan.delta

    def log_of(self, rule: RuleRef | None) -> str:
        """The word that a policy in force has for flows that a rule of it decides."""
        if self._logs is None or self._logs[0] is not self.applied:
            rules = (one for policy in self.applied for one in policy.rules if one.log)
            self._logs = (self.applied, {one.ref: one.log for one in rules})
        return self._logs[1].get(rule, "") if rule is not None else ""

    def read_node(self) -> None:
        """Look at the node's addresses anew and put them into force."""
        if self._identities.read_node() or not self._identities.written:
            before = self._identities.current
            state = self._identities.resolve(set(before.prefixes))
            self._core.require_room("pcl_ipcache", 0, len(self._identities.pairs(state)))
            self.refresh()
            self._identities.write(state)
            self._identities.give_back(before)

    def join(self, labels: Labels, addresses: Collection[Address]) -> tuple[Identity, int]:
        """An endpoint with these labels comes: its identity and slot, every set up to date."""
        joined = self._identities.acquire(labels)
        slot = None
        try:
            slot = self.sets.add(joined.number)
            there = self._identities.settle(addresses, labels)
            if slot.pairs is None or any(one != joined for one in there):
                self.refresh()
        except BaseException:
            if slot is not None:
                self.sets.drop(joined.number)
            self._identities.unsettle(addresses)
            self._identities.release(joined)
            raise
        return joined, slot.number

    def leave(self, identity: Identity) -> None:
        """An endpoint of this identity has gone; the last one takes its set with it."""
        emptied = self.sets.drop(identity.number)
        self._identities.release(identity)
        if emptied:
            self.refresh()

    def refresh(self) -> None:
        """Compile and swap in what differs, for the identities as they are now."""
        sets = self._compile(self.applied, self._identities.known())
        if any(_differ(self.sets[one].pairs, pairs) for one, pairs in sets.items()):
            self._announce(sets, self.applied)
            self._sync(sets)

    def expect(self, policies: Iterable[Policy]) -> None:
        """After a restart: these are in force, so these are the prefixes that identities know."""
        self.applied = tuple(policies)
        self._identities.current = self._identities.resolve(named_prefixes(self.applied))

    def adopt(self) -> None:
        """Write what differs from what stands in the kernel, the sets first."""
        before = self._identities.current
        state = self._identities.resolve(named_prefixes(self.applied))
        self._enforce(self.applied)
        self._identities.write(state)
        self._identities.give_back(before)

    def manifest(self) -> dict[str, Any]:
        """Policies in force or about to be, and every rule number that a set holds."""
        used = self._used_rules() | _rules_in(self._coming_sets.values())
        return {
            "policies": serial.dump(self.applied if self._coming is None else self._coming),
            "rules": [[n, serial.dump(rule)] for n, rule in self._rules.items() if n in used],
        }

    def _announce(self, sets: dict[int, Pairs], policies: tuple[Policy, ...]) -> None:
        """The manifest first: no rule number is in force that it does not know."""
        self._coming, self._coming_sets = policies, sets
        try:
            self._core.save()
        finally:
            self._coming, self._coming_sets = None, {}

    def _plan(self, wanted: tuple[Policy, ...]) -> _Plan:
        prefixes = named_prefixes(wanted)
        between = self._identities.resolve(prefixes | set(self._identities.current.prefixes))
        only_more = prefixes >= self._identities.current.prefixes.keys()
        then = between if only_more else self._identities.resolve(prefixes)
        for state in (between, then):
            self._core.require_room("pcl_ipcache", 0, len(self._identities.pairs(state)))
        sets = self._compile(wanted, self._without_unused(between, then))
        return _Plan(wanted, between, then, sets, self._delta(wanted, then, sets))

    def _carry_out(self, plan: _Plan) -> None:
        before = self._identities.current
        if self._identities.differs(plan.between):
            self._enforce(self.applied)
            self._identities.write(plan.between)
        self.applied = plan.policies
        if self._identities.differs(plan.then):
            self._enforce(plan.policies)
            self._identities.write(plan.then)
        self._identities.current = plan.then
        self._identities.give_back(before)
        if plan.between is not plan.then:
            self._identities.give_back(plan.between)
        self._sync(plan.sets)
        self._rules.retire(self._used_rules())

    def _enforce(self, policies: tuple[Policy, ...]) -> None:
        """For the identities as they are now."""
        self._sync(self._compile(policies, self._identities.known()))

    def _sync(self, sets: Mapping[int, Pairs]) -> None:
        self.sets.sync(sets, self._identities.in_use)

    def _without_unused(self, between: Assignment, then: Assignment) -> dict[int, Labels]:
        """The identities that will be known when the plan has been carried out."""
        passing = {one.number for one in (*between, *self._identities.current)}
        staying = {one.number for one in then} | set(self.sets) | set(RESERVED)
        known = self._identities.known()
        return {n: labels for n, labels in known.items() if n not in passing or n in staying}

    def _compile(
        self, policies: tuple[Policy, ...], known: Mapping[int, Labels]
    ) -> dict[int, Pairs]:
        if self._compiler is None:
            host = self._core.config.allow_host
            self._compiler = Compiler(self.sets.encode, allow_host=host)
        subjects = {one: self._identities.labels_of(one) for one in self.sets}
        return self._compiler.compile(policies, subjects, known)

    def _delta(self, wanted: tuple[Policy, ...], then: Assignment, sets: dict[int, Pairs]) -> Delta:
        before, after = _by_key(self.applied), _by_key(wanted)
        return Delta(
            added=len(after.keys() - before.keys()),
            changed=sum(before[key] != after[key] for key in before.keys() & after.keys()),
            removed=len(before.keys() - after.keys()),
            entries=partial(self._entries, self._tables(then, sets)),
        )

    def _tables(self, then: Assignment, sets: dict[int, Pairs]) -> list[_Table]:
        """Each table that may change as it is and as it will be; neither is changed later."""
        maps = self._core.spec.maps
        inner = maps["pcl_policies"].inner
        assert inner is not None
        written, desired = self._identities.written, self._identities.pairs(then)
        found = [_Table(maps["pcl_ipcache"], "pcl_ipcache", written, desired)]
        for identity, pairs in sets.items():
            slot = self.sets[identity]
            if slot.pairs is not pairs:
                name = f"pcl_policies[{slot.number}]"
                found.append(_Table(inner, name, slot.pairs or {}, pairs))
        return found

    @staticmethod
    def _entries(tables: list[_Table]) -> tuple[Change, ...]:
        return tuple(
            change
            for one in tables
            for change in render.changes(one.spec, one.name, one.before, one.after)
        )

    def _used_rules(self) -> set[int]:
        standing = (self.sets[identity].pairs for identity in self.sets)
        return _rules_in(pairs for pairs in standing if pairs is not None)


def _differ(standing: Pairs | None, pairs: Pairs) -> bool:
    return standing is not pairs and standing != pairs


def _rules_in(sets: Iterable[Pairs]) -> set[int]:
    """Every rule number in some sets."""
    return set().union(*(one.rules for one in sets))


def _checked(desired: Any, audit: bool) -> tuple[Policy, ...]:
    several = [desired] if isinstance(desired, Policy) else desired
    if isinstance(several, PolicySet):
        several = several.cluster.bind(several.policies)
    if not isinstance(several, (list, tuple)):
        raise SpecError("policies", desired, "a Policy, a list of them or a PolicySet")
    for one in several:
        if not isinstance(one, Policy):
            raise SpecError("policies", one, "a Policy")
    if audit:
        return tuple(one if one.audit else attrs.evolve(one, audit=True) for one in several)
    return tuple(several)


def _by_key(policies: Iterable[Policy]) -> dict[tuple[str | None, str, int], Policy]:
    """By namespace and name; of the same ones by their order."""
    seen: Counter[tuple[str | None, str]] = Counter()
    found = {}
    for one in policies:
        key = (one.namespace, one.name)
        found[(*key, seen[key])] = one
        seen[key] += 1
    return found
