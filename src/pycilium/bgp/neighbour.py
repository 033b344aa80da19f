# SPDX-License-Identifier: Apache-2.0
"""A peer's side of the tables: what it said and what it was told, across its sessions.

Holds what graceful restart is about (RFC 4724, 8538, 9494): routes that outlive a session, and the
timers that end them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from pycilium.bgp.adj_in import AdjIn
from pycilium.bgp.adj_out import AdjOut, PathIds
from pycilium.bgp.encode import encode_end_of_rib
from pycilium.bgp.export import Exporter
from pycilium.bgp.family import Family
from pycilium.bgp.message import Refresh, encode_refresh
from pycilium.bgp.negotiation import Negotiated
from pycilium.bgp.path import Source
from pycilium.bgp.peer import Peer
from pycilium.bgp.prefix import Prefix
from pycilium.bgp.session import Ended
from pycilium.bgp.table import Table

Changed = tuple[Family, list[Prefix], Source]
_REFRESH_TIME = 600.0  # for a peer that began to say everything again and never ended


class Neighbour:
    """One peer's tables."""

    def __init__(self, peer: Peer, tables: dict[Family, Table], path_ids: PathIds) -> None:
        self.peer = peer
        self.session: Negotiated | None = None
        self.adj_in: dict[Family, AdjIn] = {}
        self.adj_out: dict[Family, AdjOut] = {}
        self.synchronised: set[Family] = set()  # End-of-RIB has come
        self._tables = tables
        self._path_ids = path_ids
        self._source: Source | None = None
        self._until: dict[Family, float] = {}  # stale routes go then
        self._long: set[Family] = set()  # families whose next time is that of RFC 9494
        self._promised: dict[Family, int] = {}
        self._refreshing: set[Family] = set()

    @property
    def deadline(self) -> float:
        """When tick() is due."""
        return min(self._until.values(), default=math.inf)

    def up(self, session: Negotiated, now: float) -> Iterator[Changed]:
        """A session is established; what the peer does not keep goes (RFC 4724 §4.2)."""
        source = Source(
            self.peer.address,
            session.external,
            False,
            session.peer_id,
            session.peer_address,
            session.peer_asn,
        )
        yield from self._drop_unkept(session, source)
        if self._source is None or not self.adj_in:
            self._source = source
        self.session = session
        self.synchronised.clear()
        self._long.clear()
        self._until = {
            family: now + self.peer.options.graceful_restart + 60.0
            for family, one in self.adj_in.items()
            if one.stale
        }
        for family in session.families:
            self._open(family, session)

    def _open(self, family: Family, session: Negotiated) -> None:
        source, options, table = self._source, self.peer.options, self._tables[family]
        assert source is not None
        old = self.adj_in.get(family)
        fresh = AdjIn(family, source, session, options, table)
        if old is not None:
            fresh.routes, fresh.stale = old.routes, old.stale
        self.adj_in[family] = fresh
        out = AdjOut(Exporter(family, source, session, options), table, self._path_ids)
        out.mark_all()
        self.adj_out[family] = out

    def _drop_unkept(self, session: Negotiated, source: Source) -> Iterator[Changed]:
        old = self._source
        same = old is not None and (old.router_id, old.asn) == (source.router_id, source.asn)
        flags = session.restart.families if session.restart is not None else {}
        for family in list(self.adj_in):
            alike = self.adj_in[family].has_paths == (family in session.add_path_receive)
            if not (same and alike and flags.get(family)):
                yield from self._drop(family)

    def down(self, event: Ended, now: float, *, restartable: bool = True) -> Iterator[Changed]:
        """The session has ended: routes stay for a while where that was agreed on."""
        session, self.session = self.session, None
        self.adj_out.clear()
        if session is None:
            return
        kept = session.kept if restartable and _keeps(session, event) else {}
        self._promised = dict(session.long_lived)
        self._refreshing.clear()
        for family in list(self.adj_in):
            if family not in kept and not (kept and self._promised.get(family)):
                yield from self._drop(family)
                continue
            one = self.adj_in[family]
            one.stale = set(one.routes)
            self._until[family] = now + kept.get(family, 0)

    def tick(self, now: float) -> Iterator[Changed]:
        """Stale routes whose time is over."""
        for family in [one for one, until in self._until.items() if now >= until]:
            seconds = 0 if self.session or family in self._long else self._promised.get(family, 0)
            if not seconds:
                yield from self.drop_stale(family)
                continue
            self._long.add(family)
            self._until[family] = now + seconds
            one = self.adj_in[family]
            yield family, one.keep_long(), one.source

    def end_of_rib(self, family: Family) -> Iterator[Changed]:
        """The peer has said everything once."""
        self.synchronised.add(family)
        if family not in self._refreshing:
            yield from self.drop_stale(family)

    def refresh(self, family: Family, what: Refresh, now: float) -> Iterator[Changed]:
        """A ROUTE-REFRESH of the peer (RFC 7313)."""
        one = self.adj_in.get(family)
        if what is Refresh.REQUEST:
            self._repeat(family)
        elif what is Refresh.BEGIN and one is not None:
            one.stale = set(one.routes)
            self._refreshing.add(family)
            self._until[family] = now + _REFRESH_TIME
        elif family in self._refreshing:
            self._refreshing.discard(family)
            yield from self.drop_stale(family)

    def drop_stale(self, family: Family) -> Iterator[Changed]:
        """What the peer did not say again."""
        self._until.pop(family, None)
        one = self.adj_in.get(family)
        if one is not None and one.stale:
            yield family, one.withdraw_stale(), one.source
        if one is not None and self.session is None:
            self._forget(family)

    def drop_all(self) -> Iterator[Changed]:
        """Everything that the peer said, now."""
        for family in list(self.adj_in):
            yield from self._drop(family)

    def finish_with_end_of_rib(self) -> None:
        """End-of-RIB, once everything that is marked by now has been said."""
        for family, out in self.adj_out.items():
            out.finish_with(encode_end_of_rib(family))

    def _repeat(self, family: Family) -> None:
        out, session = self.adj_out.get(family), self.session
        if out is None or session is None:
            return
        if session.enhanced_refresh:
            begin, end = (encode_refresh(family, one) for one in (Refresh.BEGIN, Refresh.END))
            out.repeat([begin], [end])
        else:
            out.repeat([], [])

    def _drop(self, family: Family) -> Iterator[Changed]:
        one = self.adj_in[family]
        yield family, one.withdraw(list(one.routes)), one.source
        self._forget(family)

    def _forget(self, family: Family) -> None:
        self.adj_in.pop(family, None)
        self._until.pop(family, None)
        self._tables[family].forget()


def _keeps(session: Negotiated, event: Ended) -> bool:
    """Whether an end is one that graceful restart covers (RFC 4724 §4.2, 8538 §4)."""
    if session.restart is None:
        return False
    said = event.sent or event.received
    if said is None:
        return True
    return session.restart.notifications and not said.is_hard
