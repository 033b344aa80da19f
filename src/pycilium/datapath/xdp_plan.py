# SPDX-License-Identifier: Apache-2.0
"""From VIPs in force to VIPs wanted: which rows, rings and entries change. No kernel here.

A backend's row belongs to one VIP and never changes while a flow may refer to it; when it goes,
its generation is counted up, and every flow and ring slot that names the old one is void.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import attrs

from pycilium.errors import MapFullError, SpecError
from pycilium.lb import maglev
from pycilium.model import BackendState

if TYPE_CHECKING:
    from pycilium.datapath.xdp_settings import VipSettings
    from pycilium.model import Backend, Frontend, ServiceLB

_GENERATIONS = 0xFFFFFFFF


class Runs:
    """Numbers from 0 to size - 1, handed out in runs; what was given back comes last."""

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._size = size
        self._next = 0
        self._used = 0
        self._free: deque[tuple[int, int]] = deque()

    def copy(self) -> Runs:
        """To try something out on."""
        twin = Runs(self._name, self._size)
        twin._next, twin._used, twin._free = self._next, self._used, self._free.copy()
        return twin

    def take(self, count: int) -> int:
        """The first of `count` numbers in a row; MapFullError."""
        if self._next + count <= self._size:
            self._next += count
            first: int | None = self._next - count
        else:
            first = self._reuse(count)
            if first is None:
                self._free = deque(_merged(self._free))
                first = self._reuse(count)
        if first is None:
            raise MapFullError(self._name, needed=count, used=self._used, size=self._size)
        self._used += count
        return first

    def _reuse(self, count: int) -> int | None:
        for i, (first, length) in enumerate(self._free):
            if length >= count:
                del self._free[i]
                if length > count:
                    self._free.append((first + count, length - count))
                return first
        return None

    def give_back(self, first: int, count: int) -> None:
        """Free again; neighbours become one once there are many."""
        self._used -= count
        self._free.append((first, count))
        if len(self._free) > 64:
            self._free = deque(_merged(self._free))

    @property
    def used(self) -> int:
        """How many are handed out."""
        return self._used


def _merged(runs: Sequence[tuple[int, int]] | deque[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for first, count in sorted(runs):
        if merged and sum(merged[-1]) == first:
            merged[-1] = (merged[-1][0], merged[-1][1] + count)
        else:
            merged.append((first, count))
    return merged


@attrs.frozen
class Member:
    """A backend of one VIP: its row, the generation of it, and its share of new flows."""

    backend: Backend
    index: int
    generation: int
    weight: int = 1

    @property
    def target(self) -> tuple[int, int]:
        """What a flow's entry says."""
        return self.index, self.generation


@attrs.frozen
class Vip:
    """A VIP in force."""

    service: ServiceLB
    settings: VipSettings
    number: int
    first: int  # of its ring
    members: Mapping[str, Member]  # by address and port

    @property
    def frontend(self) -> Frontend:
        """What clients connect to."""
        return self.service.frontend

    @property
    def is_active(self) -> bool:
        """Whether a new flow finds a backend."""
        return any(member.weight for member in self.members.values())

    def ring(self) -> tuple[Sequence[int], list[Member]]:
        """The Maglev table, and the members that its numbers mean."""
        members = list(self.members.values())
        weights = {name: member.weight for name, member in self.members.items()}
        return maglev.table(weights, self.settings.ring), members


@attrs.define
class State:
    """What is in force, and what is still to be had."""

    rings: Runs
    rows: Runs
    vips: dict[Frontend, Vip] = attrs.field(factory=dict)
    generations: dict[int, int] = attrs.field(factory=dict)
    next_number: int = 1

    def copy(self) -> State:
        """To plan on."""
        return State(
            self.rings.copy(), self.rows.copy(), self.vips.copy(), self.generations.copy(),
            self.next_number,
        )  # fmt: skip


@attrs.define
class Changes:
    """What turns one state into another; the order of the fields is the order of the writes."""

    rows: list[tuple[Vip, Member]] = attrs.field(factory=list)
    rings: list[Vip] = attrs.field(factory=list)
    vips: list[Vip] = attrs.field(factory=list)
    removed: list[Vip] = attrs.field(factory=list)
    gone: list[tuple[Vip, Member]] = attrs.field(factory=list)
    freed: list[tuple[int, int]] = attrs.field(factory=list)
    added: int = 0
    changed: int = 0


def plan(
    before: State, desired: Sequence[ServiceLB], settings: Mapping[Frontend, VipSettings]
) -> tuple[State, Changes]:
    """The state after, and the way to it; `before` stays as it is. SpecError, MapFullError."""
    state, changes = before.copy(), Changes()
    wanted = _by_frontend(desired)
    for frontend, service in wanted.items():
        old = before.vips.get(frontend)
        if old is None:
            _add(state, changes, service, settings[frontend])
        elif (old.service.backends, old.settings) != (service.backends, settings[frontend]):
            _change(state, changes, old, service, settings[frontend])
        elif old.service != service:
            state.vips[frontend] = attrs.evolve(old, service=service)
    for frontend, vip in before.vips.items():
        if frontend not in wanted:
            _remove(state, changes, vip)
    _release(state, changes)
    return state, changes


def reweigh(before: State, vip: Vip, name: str, weight: int) -> tuple[State, Changes]:
    """One backend's share of new flows; its flows stay."""
    state, changes = before.copy(), Changes()
    if vip.members[name].weight != weight:
        members = {**vip.members, name: attrs.evolve(vip.members[name], weight=weight)}
        after = attrs.evolve(vip, members=members)
        _put(state, changes, after)
        if after.is_active != vip.is_active:
            changes.vips.append(after)
        changes.changed = 1
    return state, changes


def _by_frontend(desired: Sequence[ServiceLB]) -> dict[Frontend, ServiceLB]:
    found: dict[Frontend, ServiceLB] = {}
    for service in desired:
        if service.frontend in found:
            raise SpecError("frontend", str(service.frontend), "one service for each frontend")
        for backend in service.backends:
            if backend.port != service.frontend.port:
                allowed = f"port {service.frontend.port}, the frontend's: packets are not rewritten"
                raise SpecError(f"backend of {service.frontend}", str(backend), allowed)
        found[service.frontend] = service
    return found


def _add(state: State, changes: Changes, service: ServiceLB, settings: VipSettings) -> None:
    vip = Vip(service, settings, state.next_number, state.rings.take(settings.ring), {})
    state.next_number += 1
    vip = attrs.evolve(vip, members=_enlist(state, changes, vip, _serving(service)))
    _put(state, changes, vip)
    changes.vips.append(vip)
    changes.added += 1


def _change(
    state: State, changes: Changes, old: Vip, service: ServiceLB, settings: VipSettings
) -> None:
    kept = _kept(old, service) if _same_way(old.settings, settings) else {}
    first = old.first
    if settings.ring != old.settings.ring:
        first = state.rings.take(settings.ring)
        changes.freed.append((old.first, old.settings.ring))
    vip = attrs.evolve(old, service=service, settings=settings, first=first)
    serving = _serving(service)
    fresh = _enlist(state, changes, vip, [b for b in serving if str(b) not in kept])
    members = {name: (kept | fresh)[name] for name in map(str, serving)}
    vip = attrs.evolve(vip, members=members)
    for name, member in old.members.items():
        if name not in members or members[name].target != member.target:
            _retire(state, changes, old, member)
    _put(state, changes, vip)
    if settings != old.settings or vip.is_active != old.is_active:
        changes.vips.append(vip)
    changes.changed += 1


def _serving(service: ServiceLB) -> list[Backend]:
    """One in maintenance has nothing, not even its flows."""
    return [one for one in service.backends if one.state is not BackendState.MAINTENANCE]


def _weight(backend: Backend) -> int:
    """Of new flows; one that is terminating or quarantined only keeps what it has."""
    return backend.weight if backend.state is BackendState.ACTIVE else 0


def _kept(old: Vip, service: ServiceLB) -> dict[str, Member]:
    """What stays of the members: a weight that set_weight() gave goes when the service's does."""
    found = {}
    for backend in _serving(service):
        member = old.members.get(str(backend))
        if member is not None:
            same = _weight(backend) == _weight(member.backend)
            weight = member.weight if same else _weight(backend)
            found[str(backend)] = attrs.evolve(member, backend=backend, weight=weight)
    return found


def _same_way(old: VipSettings, new: VipSettings) -> bool:
    """Whether the flows that are known stay good."""
    return old.forward is new.forward and old.remember == new.remember


def _put(state: State, changes: Changes, vip: Vip) -> None:
    state.vips[vip.frontend] = vip
    if vip.is_active:
        changes.rings.append(vip)


def _enlist(
    state: State, changes: Changes, vip: Vip, backends: Sequence[Backend]
) -> dict[str, Member]:
    members = {}
    for backend in backends:
        index = state.rows.take(1)
        generation = state.generations.setdefault(index, 1)
        member = Member(backend, index, generation, _weight(backend))
        members[str(backend)] = member
        changes.rows.append((vip, member))
    return members


def _retire(state: State, changes: Changes, vip: Vip, member: Member) -> None:
    state.generations[member.index] = member.generation % _GENERATIONS + 1
    changes.gone.append((vip, member))


def _remove(state: State, changes: Changes, vip: Vip) -> None:
    del state.vips[vip.frontend]
    changes.freed.append((vip.first, vip.settings.ring))
    for member in vip.members.values():
        _retire(state, changes, vip, member)
    changes.removed.append(vip)


def _release(state: State, changes: Changes) -> None:
    """Last: what goes in this step is not used again in it, the program may still read it."""
    for first, count in changes.freed:
        state.rings.give_back(first, count)
    for _, member in changes.gone:
        state.rows.give_back(member.index, 1)
