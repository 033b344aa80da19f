# SPDX-License-Identifier: Apache-2.0
"""Policy sets in the kernel: one immutable map for each label set, swapped in one write."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import attrs

from pycilium.datapath import rows
from pycilium.datapath.config import MAX_POLICY_ENTRIES
from pycilium.datapath.context import Context
from pycilium.datapath.identities import Identities
from pycilium.errors import MapFullError, SpecError
from pycilium.libbpf import Map
from pycilium.model import Change, Delta, IdentityAllocator, Labels, Policy
from pycilium.model.policy import Network
from pycilium.policy import PolicyEntry, named_prefixes, prefix_labels, resolve

Sets = dict[Labels, tuple[PolicyEntry, ...]]


@attrs.frozen
class _Target:
    """Where an apply leads: prefixes with their identities, and every set."""

    prefixes: Mapping[Network, int]
    sets: Sets


class Policies:
    """The full desired set of policies, and what each endpoint's slot holds of it."""

    def __init__(self, context: Context, identities: Identities) -> None:
        self._context = context
        self._identities = identities
        self._sets: Sets = {}
        self._prefixes: dict[Network, Labels] = {}

    def __iter__(self) -> Iterator[Policy]:
        return iter(self._context.policies)

    def __len__(self) -> int:
        return len(self._context.policies)

    def plan(self, desired: Policy | Iterable[Policy]) -> Delta:
        """What apply() would change, to the entry; changes nothing.

        Raises SpecError and MapFullError as apply() does.
        """
        policies = _checked(desired)
        with self._context.lock:
            target = self._target(policies)
            return self._delta(policies, target)

    def apply(self, desired: Policy | Iterable[Policy]) -> Delta:
        """Make exactly these policies hold; a second call writes nothing.

        While it works, every packet is judged by the old policies or by the new ones, and what
        both allow is never lost. Raises SpecError and MapFullError before the first write.
        """
        policies = _checked(desired)
        with self._context.lock:
            delta = self._delta(policies, self._target(policies))
            if delta:
                self._switch(policies)
            return delta

    def entries(self, labels: Labels) -> tuple[PolicyEntry, ...]:
        """What the set of a label set holds."""
        return self._sets.get(labels, ())

    def sync(self) -> None:
        """Bring every slot in line with the policies and identities of now."""
        self._install(self._compile(self._context.policies, self._context.identities.all()))

    def verify(self) -> int:
        """Compare every slot with what it should hold; the number that had to be written."""
        wanted = self._compile(self._context.policies, self._context.identities.all())
        self._sets = {labels: self._read(labels) for labels in wanted}
        return self._install(wanted)

    def forget(self, labels: Labels, slot: int) -> None:
        """Empty a slot that nobody uses any more: it drops."""
        self._sets.pop(labels, None)
        outer = self._context.map("pcl_policies")
        if slot in outer:
            del outer[slot]

    def check_capacity(self, sets: Sets) -> None:
        """Refuse a set that is too large before any of them is written."""
        for labels, entries in sets.items():
            if len(entries) > MAX_POLICY_ENTRIES:
                name = f"policy set of {labels}"
                raise MapFullError(name, needed=len(entries), used=0, size=MAX_POLICY_ENTRIES)

    def _switch(self, policies: tuple[Policy, ...]) -> None:
        """Old rules learn of new identities, then addresses, then rules, then leftovers go."""
        context = self._context
        wanted = named_prefixes(policies)
        self._move_prefixes(wanted | self._prefixes.keys())
        for rule in (rule for policy in policies for rule in policy.rules):
            context.rules.number(rule.ref)
        context.policies = policies
        context.record()
        self.sync()
        self._move_prefixes(wanted)
        self.sync()

    def _move_prefixes(self, wanted: Collection[Network]) -> None:
        """Sets that know old and new identities first, then the addresses, in one batch."""
        numbers, held = _renumber(self._context.identities, self._prefixes, wanted)
        gone = self._prefixes.keys() - held.keys()
        if not numbers and not gone:
            return
        self._context.record()
        self.sync()
        self._identities.write(numbers)
        self._identities.forget(gone)
        _release(self._context.identities, self._prefixes, held)
        self._prefixes = held

    def restore(self) -> None:
        """Take over prefixes that the kernel has, by the policies in force."""
        held = prefix_labels(named_prefixes(self._context.policies))
        numbers = {p: self._context.identities.acquire(labels).number for p, labels in held.items()}
        self._prefixes = held
        self._identities.write(numbers)

    def _target(self, policies: tuple[Policy, ...]) -> _Target:
        """What _switch() leads to, on a copy of the identities."""
        allocator, held = self._context.identities.copy(), dict(self._prefixes)
        wanted = named_prefixes(policies)
        for prefixes in (wanted | held.keys(), wanted):
            _, moved = _renumber(allocator, held, prefixes)
            _release(allocator, held, moved)
            held = moved
        found = {prefix: allocator.find(labels) for prefix, labels in held.items()}
        numbers = {prefix: identity.number for prefix, identity in found.items() if identity}
        sets = self._compile(policies, allocator.all())
        self.check_capacity(sets)
        return _Target(numbers, sets)

    def _delta(self, policies: tuple[Policy, ...], target: _Target) -> Delta:
        old = {(p.namespace, p.name, p.subject): p for p in self._context.policies}
        new = {(p.namespace, p.name, p.subject): p for p in policies}
        changed = sum(1 for key, policy in new.items() if key in old and old[key] != policy)
        return Delta(
            len(new.keys() - old.keys()), changed, len(old.keys() - new.keys()),
            tuple(self._changes(target)),
        )  # fmt: skip

    def _changes(self, target: _Target) -> list[Change]:
        changes = []
        for prefix, number in sorted(target.prefixes.items(), key=str):
            if self._identities.written.get(prefix) != number:
                changes.append(Change("pcl_ipcache", str(prefix), f"identity {number}"))
        gone = self._prefixes.keys() - target.prefixes.keys()
        changes += [Change("pcl_ipcache", str(prefix), None) for prefix in sorted(gone, key=str)]
        for labels, entries in target.sets.items():
            if self._sets.get(labels) != entries:
                slot = self._context.slots.find(labels)
                name = f"pcl_policies[{slot}]"
                changes += [Change(name, _key_text(one), _value_text(one)) for one in entries]
        return changes

    def _compile(self, policies: Sequence[Policy], identities: Mapping[int, Labels]) -> Sets:
        allow_host = self._context.config.allow_host
        return {
            labels: resolve(policies, labels, identities, allow_host=allow_host)
            for labels, _ in self._context.slots.items()
        }

    def _install(self, wanted: Sets) -> int:
        self.check_capacity(wanted)
        written = 0
        for labels, entries in wanted.items():
            if self._sets.get(labels) != entries:
                self._swap(labels, entries)
                written += 1
        return written

    def _swap(self, labels: Labels, entries: tuple[PolicyEntry, ...]) -> None:
        slot = self._context.slots.find(labels)
        outer = self._context.map("pcl_policies")
        number = self._context.rules.number
        with outer.create_inner(max(1, len(entries))) as inner:
            inner.update(
                [(rows.policy_key(e), {"verdict": e.verdict, "rule": number(e.rule)}) for e in entries]
            )
            outer[slot] = inner
        self._context.bump_epoch(slot or 0)
        self._sets[labels] = entries

    def _read(self, labels: Labels) -> tuple[PolicyEntry, ...]:
        """A slot as the kernel has it; empty where it holds anything unknown."""
        slot = self._context.slots.find(labels)
        outer = self._context.map("pcl_policies")
        if slot not in outer:
            return ()
        wanted = resolve(
            self._context.policies, labels, self._context.identities.all(),
            allow_host=self._context.config.allow_host,
        )  # fmt: skip
        with Map.from_id(outer[slot], like=outer.inner) as inner:
            held = {tuple(key): tuple(value) for key, value in inner.pairs()}
        number = self._context.rules.number
        expected = {tuple(rows.policy_key(e).values()): (e.verdict, number(e.rule)) for e in wanted}
        return wanted if held == expected else ()


def _renumber(
    allocator: IdentityAllocator, held: Mapping[Network, Labels], wanted: Collection[Network]
) -> tuple[dict[Network, int], dict[Network, Labels]]:
    """Identities for prefixes that are new or now lie in another one; and all labels."""
    target = prefix_labels(wanted)
    changed = {prefix: labels for prefix, labels in target.items() if held.get(prefix) != labels}
    order = sorted(changed, key=lambda prefix: (prefix.version, prefix))
    return {prefix: allocator.acquire(changed[prefix]).number for prefix in order}, target


def _release(
    allocator: IdentityAllocator, held: Mapping[Network, Labels], now: Mapping[Network, Labels]
) -> None:
    """Identities of prefixes that have gone or have got another one."""
    for prefix, labels in held.items():
        if now.get(prefix) != labels:
            allocator.release(labels)


def _checked(desired: Policy | Iterable[Policy]) -> tuple[Policy, ...]:
    policies = (desired,) if isinstance(desired, Policy) else tuple(desired)
    for one in policies:
        if not isinstance(one, Policy):
            raise SpecError("policies", one, "Policy values, as Policy.from_yaml() makes them")
    return policies


def _key_text(entry: PolicyEntry) -> str:
    direction = "egress to" if entry.direction else "ingress from"
    peer = entry.identity or "any"
    if entry.prefix_length <= 40:
        return f"{direction} {peer}"
    port = "" if entry.prefix_length <= 48 else f" port {entry.port}/{entry.prefix_length - 48}"
    return f"{direction} {peer} protocol {entry.protocol}{port}"


def _value_text(entry: PolicyEntry) -> str:
    return f"{'allow' if entry.verdict == 1 else 'deny'} by {entry.rule}"
