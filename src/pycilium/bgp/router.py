# SPDX-License-Identifier: Apache-2.0
"""The tables of a speaker together: neighbours' routes in, own routes in, changes out; sans-IO."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain, count
from typing import Protocol

import attrs

from pycilium.bgp.attributes import Attributes
from pycilium.bgp.family import Family
from pycilium.bgp.negotiation import Negotiated
from pycilium.bgp.neighbour import Changed, Neighbour
from pycilium.bgp.notification import Cease, Code, Notification
from pycilium.bgp.path import Path, Source
from pycilium.bgp.peer import Peer
from pycilium.bgp.prefix import Prefix
from pycilium.bgp.route import Announced, by_family
from pycilium.bgp.session import Ended, Refreshed
from pycilium.bgp.table import Table
from pycilium.bgp.update import Update
from pycilium.model.delta import Delta


class Watcher(Protocol):
    """Whoever wants to know which prefixes may have changed."""

    def mark(self, family: Family, prefixes: list[Prefix]) -> None:
        """Remember them; the table tells what they are now."""


@attrs.define
class Counts:
    """What a peer has sent, and what was wrong with it."""

    updates: int = 0
    announced: int = 0
    withdrawn: int = 0
    problems: defaultdict[str, int] = attrs.field(factory=lambda: defaultdict(int))


_MAX_PROBLEMS = 1000  # different texts for each peer


class Owner:
    """Routes that one part of a program announces."""

    def __init__(self, name: str) -> None:
        self.source = Source(f"this speaker ({name})" if name else "this speaker", local=True)
        self.routes: dict[Family, dict[Prefix, Attributes]] = {one: {} for one in Family}


class Router:
    """One table for each family, and everybody's part in it."""

    def __init__(self) -> None:
        self.tables = {family: Table() for family in Family}
        self.neighbours: dict[str, Neighbour] = {}
        self.owners: dict[str, Owner] = {}
        self.counts: defaultdict[str, Counts] = defaultdict(Counts)
        self.watchers: list[Watcher] = []
        self._ids: dict[tuple[Source, bytes], bytes] = {}
        self._numbers = count(1)
        self._settled = False

    @property
    def deadline(self) -> float:
        """When tick() is due."""
        return min((one.deadline for one in self.neighbours.values()), default=math.inf)

    def announce(self, routes: Announced, owner: str = "") -> Delta:
        """Make these the owner's routes: what is no longer listed is withdrawn.

        Raises SpecError before anything is changed.
        """
        wanted = by_family(routes)
        held = self.owners.setdefault(owner, Owner(owner))
        parts = [self._replace(held, family, wanted[family]) for family in Family]
        added, changed, removed = map(sum, zip(*parts, strict=True))
        self.settle()
        return Delta(added, changed, removed)

    def _replace(
        self, owner: Owner, family: Family, wanted: dict[Prefix, Attributes]
    ) -> tuple[int, int, int]:
        table, had = self.tables[family], owner.routes[family]
        gone = list(had.keys() - wanted.keys())
        new = wanted.keys() - had.keys() if had else wanted.keys()
        groups: defaultdict[Attributes, list[Prefix]] = defaultdict(list)
        changed = 0
        for prefix, one in wanted.items():
            old = had.get(prefix)
            if old is not one and old != one:
                groups[one].append(prefix)
                changed += old is not None
        table.remove(gone, owner.source)
        for one, prefixes in groups.items():
            table.add(prefixes, Path(owner.source, one))
        everything = gone.copy()
        everything.extend(chain.from_iterable(groups.values()))
        self._changed((family, everything, owner.source))
        owner.routes[family] = wanted
        return len(new), changed, len(gone)

    def settle(self) -> None:
        """The program has said what it announces; End-of-RIB may follow (RFC 4724 §4.1)."""
        if not self._settled:
            self._settled = True
            for one in self.neighbours.values():
                one.finish_with_end_of_rib()

    def add(self, peer: Peer) -> Neighbour:
        """A neighbour, before its first session."""
        one = Neighbour(peer, self.tables, self._path_id)
        self.neighbours[peer.address] = one
        return one

    def remove(self, address: str) -> None:
        """A neighbour for good, with its routes."""
        one = self.neighbours.pop(address, None)
        if one is not None:
            self._all(one.drop_all())

    def up(self, address: str, session: Negotiated, now: float) -> None:
        """A session is established."""
        one = self.neighbours[address]
        self._all(one.up(session, now))
        if self._settled:
            one.finish_with_end_of_rib()

    def down(self, address: str, event: Ended, now: float, *, restartable: bool = True) -> None:
        """A session has ended."""
        self._all(self.neighbours[address].down(event, now, restartable=restartable))

    def update(self, address: str, update: Update) -> Notification | None:
        """An UPDATE; the NOTIFICATION that must end the session, if there are too many prefixes."""
        one = self.neighbours[address]
        self._count(address, update)
        for family, prefixes in update.withdrawn:
            adj_in = one.adj_in[family]
            self._changed((family, adj_in.withdraw(prefixes), adj_in.source))
        for family, prefixes, attributes in update.announced:
            adj_in = one.adj_in[family]
            limit = one.peer.options.max_prefixes
            if adj_in.would_hold(prefixes) > limit:
                data = family.wire + limit.to_bytes(4, "big")
                return Notification(Code.CEASE, Cease.MAX_PREFIXES, data)
            self._changed((family, adj_in.announce(prefixes, attributes), adj_in.source))
        if update.end_of_rib in one.adj_in and update.end_of_rib is not None:
            self._all(one.end_of_rib(update.end_of_rib))
        return None

    def refresh(self, address: str, event: Refreshed, now: float) -> None:
        """A ROUTE-REFRESH."""
        self._all(self.neighbours[address].refresh(event.family, event.what, now))

    def tick(self, now: float) -> None:
        """Timers of graceful restart."""
        for one in self.neighbours.values():
            if now >= one.deadline:
                self._all(one.tick(now))

    def drain(self, address: str) -> Iterator[list[bytes]]:
        """Messages for a peer, a slab at a time; ends when nothing is left for now."""
        for out in list(self.neighbours[address].adj_out.values()):
            while not out.is_idle:
                yield out.drain()

    def _count(self, address: str, update: Update) -> None:
        counts = self.counts[address]
        counts.updates += 1
        counts.announced += sum(len(prefixes) for _, prefixes, _ in update.announced)
        counts.withdrawn += sum(len(prefixes) for _, prefixes in update.withdrawn)
        for problem in update.problems:
            text = str(problem)
            if text in counts.problems or len(counts.problems) < _MAX_PROBLEMS:
                counts.problems[text] += 1

    def _all(self, changes: Iterable[Changed]) -> None:
        for change in changes:
            self._changed(change)

    def _changed(self, change: Changed) -> None:
        family, prefixes, source = change
        if not prefixes:
            return
        for one in self.neighbours.values():
            out = one.adj_out.get(family)
            if out is not None:
                out.mark(prefixes, source)
        for watcher in self.watchers:
            watcher.mark(family, prefixes)

    def _path_id(self, path: Path) -> bytes:
        """The identifier of a source's path, the same for every prefix and peer (RFC 7911 §3)."""
        key = path.source, path.path_id
        known = self._ids.get(key)
        if known is None:
            known = self._ids[key] = next(self._numbers).to_bytes(4, "big")
        return known
