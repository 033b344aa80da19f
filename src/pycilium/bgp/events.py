# SPDX-License-Identifier: Apache-2.0
"""What a speaker tells its program: sessions that come and go, prefixes whose paths changed."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import attrs

from pycilium.bgp.attributes import Attributes
from pycilium.bgp.family import Family
from pycilium.bgp.path import multipath
from pycilium.bgp.prefix import Prefix, prefix_text
from pycilium.bgp.session import State
from pycilium.bgp.table import Table

_MAX_EVENTS = 10_000
_SLAB = 10_000


@attrs.frozen
class PeerChanged:
    """A peer's state, and why it left the one before."""

    peer: str
    state: State
    reason: str = ""


@attrs.frozen
class RouteChanged:
    """A prefix's best paths now; none when it is gone. Several tie for ECMP."""

    family: Family
    nlri: Prefix
    paths: tuple[Attributes, ...]

    @property
    def prefix(self) -> str:
        """As people write it."""
        return prefix_text(self.family, self.nlri)


@attrs.frozen
class Lost:
    """So many events of peers were not delivered, because nobody read them."""

    count: int


BgpEvent = PeerChanged | RouteChanged | Lost


class Feed:
    """An async iterator of events, one for each reader.

    Changes of routes are kept as a set of prefixes, so a reader that is late sees the last state of
    each; of peers' events the oldest are dropped, and counted.
    """

    def __init__(
        self,
        tables: dict[Family, Table],
        close: Callable[[Feed], None],
        *,
        routes: bool,
        paths: int,
    ) -> None:
        self._tables = tables
        self._close = close
        self._wants_routes = routes
        self._max_paths = paths
        self._peers: deque[PeerChanged] = deque(maxlen=_MAX_EVENTS)
        self._lost = 0
        self._marked: dict[Family, set[Prefix]] = {family: set() for family in Family}
        self._ready: deque[RouteChanged] = deque()
        self._wake = asyncio.Event()
        self._closed = False

    def mark(self, family: Family, prefixes: list[Prefix]) -> None:
        """These may have changed."""
        if self._wants_routes:
            self._marked[family].update(prefixes)
            self._wake.set()

    def peer_changed(self, event: PeerChanged) -> None:
        """A peer's state has changed."""
        self._lost += len(self._peers) == _MAX_EVENTS
        self._peers.append(event)
        self._wake.set()

    def close(self) -> None:
        """No more events; a reader's loop ends."""
        self._closed = True
        self._close(self)
        self._wake.set()

    def __aiter__(self) -> Feed:
        return self

    async def __anext__(self) -> BgpEvent:
        while True:
            event = self.poll()
            if event is not None:
                return event
            if self._closed:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()

    def poll(self) -> BgpEvent | None:
        """The next event that is there already."""
        if self._lost:
            lost, self._lost = self._lost, 0
            return Lost(lost)
        if self._peers:
            return self._peers.popleft()
        if not self._ready:
            self._refill()
        return self._ready.popleft() if self._ready else None

    def _refill(self) -> None:
        for family, marked in self._marked.items():
            while marked and len(self._ready) < _SLAB:
                self._ready.append(self._event(family, marked.pop()))

    def _event(self, family: Family, prefix: Prefix) -> RouteChanged:
        paths = self._tables[family].paths(prefix)
        best = multipath(paths, self._max_paths) if paths else []
        return RouteChanged(family, prefix, tuple(one.attributes for one in best))
