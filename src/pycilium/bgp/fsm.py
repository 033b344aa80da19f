# SPDX-License-Identifier: Apache-2.0
"""The state machine of a peer: when to connect, which of two connections stays (RFC 4271 §6.8, 8).

Sans-IO: the driver dials where `wants_dial()` says so, hands every connection over, and closes the
sessions that ended. Nothing here waits or knows the time by itself.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial

import attrs

from pycilium.bgp.as_path import check_asn
from pycilium.bgp.capabilities import AddPath, Capabilities, Restart
from pycilium.bgp.errors import ProtocolError
from pycilium.bgp.message import Open
from pycilium.bgp.negotiation import Negotiated, negotiate
from pycilium.bgp.notification import Cease, Code, Notification, OpenError
from pycilium.bgp.peer import Peer, PeerOptions
from pycilium.bgp.session import Ended, Established, Event, Opened, Session, State

_FIRST_IDLE, _LONGEST_IDLE = 1.0, 60.0
_QUIET = 60.0  # a session that lasted this long forgives what was before
_NEW = 5.0  # a session younger than this is no remnant of before a restart
_FOREVER = float("inf")


@attrs.frozen
class Local:
    """This speaker's own numbers."""

    asn: int = attrs.field(validator=lambda _, field, value: check_asn(value, field.name))
    router_id: bytes = bytes(4)


@attrs.frozen
class Ends:
    """The packed addresses of a connection."""

    local: bytes
    remote: bytes


NOWHERE = Ends(b"", b"")


class PeerMachine:
    """One peer's sessions: at most one that we opened and one that the peer opened."""

    def __init__(
        self, peer: Peer, local: Local, *, asns: tuple[int, ...] = (), spread: float | None = None
    ) -> None:
        self.peer = peer
        self.asns = asns or (peer.asn,)  # one of which the peer must have
        self.local = local
        self.restarting = False
        self.session: Session | None = None  # the established one
        self.reason = "not started"
        self.flaps = 0
        self._opening: dict[Session, bool] = {}  # session → whether we opened it
        self._dialling = False
        self._spread = spread  # part of the retry time that is chance; None: a quarter
        self._dial_at = _FOREVER
        self._idle_until = _FOREVER
        self._idle_time = _FIRST_IDLE
        self._since = 0.0

    @property
    def state(self) -> State:
        """That of the furthest connection, or what comes before one."""
        if self.session is not None:
            return State.ESTABLISHED
        if self._opening:
            confirmed = any(one.state is State.OPEN_CONFIRM for one in self._opening)
            return State.OPEN_CONFIRM if confirmed else State.OPEN_SENT
        if self._dialling:
            return State.CONNECT
        return State.IDLE if self._idle_until > 0 else State.ACTIVE

    @property
    def sessions(self) -> list[Session]:
        """Every connection."""
        return [*self._opening, *([self.session] if self.session else [])]

    @property
    def deadline(self) -> float:
        """When wants_dial() may become true, or a session's timer fires."""
        own = max(self._dial_at, self._idle_until) if not self._dialling else _FOREVER
        if self.session is not None or self._is_opening(ours=True):
            own = _FOREVER
        return min([own, *(one.deadline for one in self.sessions)])

    def start(self, now: float) -> None:
        """Begin, at once."""
        self._idle_until = 0.0
        self._dial_at = _FOREVER if self.peer.options.passive else now
        self.reason = "no connection yet"

    def stop(self, notification: Notification | None, *, reason: str = "") -> Iterator[Event]:
        """End everything until start()."""
        self._idle_until = self._dial_at = _FOREVER
        for one in self.sessions:
            yield from self.watch(one, one.stop(notification, reason), 0.0)
        self.reason = reason or "stopped"

    def wants_dial(self, now: float) -> bool:
        """Whether the driver should connect; it then reports dialled() or failed()."""
        if self._dialling or self.session is not None or self._is_opening(ours=True):
            return False
        if now < self._dial_at or now < self._idle_until:
            return False
        self._idle_until = 0.0
        self._dialling = True
        return True

    def dialled(self, now: float, ends: Ends = NOWHERE) -> Session:
        """The connection that we opened stands."""
        self._dialling = False
        return self._new_session(now, ends, ours=True)

    def failed(self, reason: str, now: float) -> None:
        """The connection that we wanted did not come about."""
        self._dialling = False
        self.reason = reason
        self._retry(now)

    def accepted(self, now: float, ends: Ends = NOWHERE) -> Session | None:
        """The peer has connected; None: close it without a word."""
        if self._idle_until > now or self._is_opening(ours=False):
            return None
        if self.session is not None and not self._may_replace(now):
            return None
        self._idle_until = 0.0
        return self._new_session(now, ends, ours=False)

    def watch(self, session: Session, events: Iterator[Event], now: float) -> Iterator[Event]:
        """A session's events, with what they mean for the peer; only they may reach the tables."""
        for event in events:
            if isinstance(event, Opened):
                yield from self._collide(session, event.open, now)
            elif isinstance(event, Established):
                yield from self._establish(session, event, now)
            elif isinstance(event, Ended):
                yield from self._finish(session, event, now)
            elif session is self.session:
                yield event

    def _new_session(self, now: float, ends: Ends, *, ours: bool) -> Session:
        session = Session(self.our_open(), partial(self._accept, ends), now)
        self._opening[session] = ours
        return session

    def our_open(self) -> Open:
        """The OPEN that a new connection starts with."""
        options, families = self.peer.options, self.peer.options.families
        restart = None
        if options.graceful_restart:
            kept = dict.fromkeys(families, True)
            restart = Restart(options.graceful_restart, kept, self.restarting)
        long_lived = options.long_lived if restart else 0
        capabilities = Capabilities(
            families=families,
            asn=self.local.asn,
            route_refresh=options.route_refresh,
            enhanced_refresh=options.route_refresh,
            extended_message=options.extended_message,
            extended_next_hop=options.extended_next_hop,
            role=options.role,
            restart=restart,
            long_lived=dict.fromkeys(families, long_lived) if long_lived else {},
            add_path=dict.fromkeys(families, how) if (how := _add_path(options)) else {},
        )
        return Open(self.local.asn, options.hold_time, self.local.router_id, capabilities)

    def _accept(self, ends: Ends, theirs: Open) -> Negotiated:
        if theirs.asn not in self.asns:
            data = theirs.asn.to_bytes(4, "big")
            raise ProtocolError(Notification(Code.OPEN, OpenError.BAD_PEER_AS, data))
        options = self.peer.options
        return negotiate(
            self.our_open(),
            theirs,
            strict_role=options.strict_role,
            enforce_first_as=options.enforce_first_as,
            local_address=ends.local,
            peer_address=ends.remote,
        )

    def _collide(self, session: Session, theirs: Open, now: float) -> Iterator[Event]:
        """Two connections are one too many: the one that the larger identifier opened stays.

        Also one whose OPEN has not come yet: the peer is known by now, and both sides that decide
        at the first OPEN decide alike, where one that waits may close the one that the other kept.
        """
        rivals = [one for one in self._opening if one is not session]
        ours_wins = (self.local.router_id, self.local.asn) > (theirs.router_id, theirs.asn)
        for rival in rivals:
            loser = session if self._opening[session] != ours_wins else rival
            end = Notification.cease(Cease.COLLISION)
            yield from self.watch(loser, loser.stop(end), now)

    def _establish(self, session: Session, event: Established, now: float) -> Iterator[Event]:
        old, self.session = self.session, session
        self._opening.pop(session, None)
        if old is not None:
            yield from self._replaced(old)
        for other in list(self._opening):
            end = Notification.cease(Cease.COLLISION)
            yield from self.watch(other, other.stop(end), now)
        self.reason = ""
        self._since = now
        yield event

    def _replaced(self, old: Session) -> Iterator[Event]:
        """A peer that restarted without a word has come back (RFC 4724 §4.2)."""
        for event in old.lost("the peer has connected anew"):
            self.flaps += 1
            yield event

    def _may_replace(self, now: float) -> bool:
        """Not a session that is new: then the other is the collision's loser on its way."""
        session = self.session
        restart = session and session.negotiated and session.negotiated.restart
        return bool(restart) and now - self._since > _NEW

    def _finish(self, session: Session, event: Ended, now: float) -> Iterator[Event]:
        was_established = session is self.session
        self._opening.pop(session, None)
        if was_established:
            self.session = None
            self.flaps += 1
        if self.session is not None or (self._opening and not was_established):
            return
        self.reason = event.reason
        if self._idle_until != _FOREVER:
            self._pause(event, was_established, now)
        if was_established:
            yield event

    def _pause(self, event: Ended, was_established: bool, now: float) -> None:
        """After an error of the protocol wait longer each time; otherwise only until the retry."""
        sent = event.sent and (event.sent.inner or event.sent)
        if sent is not None and sent.code == Code.CEASE and sent.subcode == Cease.MAX_PREFIXES:
            seconds = self.peer.options.max_prefixes_restart
            self._idle_until = now + seconds if seconds else _FOREVER
            self._dial_at = _FOREVER if self.peer.options.passive else self._idle_until
            return
        lasted = now - self._since if was_established else 0.0
        if lasted > _QUIET:
            self._idle_time = _FIRST_IDLE
        if sent is not None and sent.code not in (Code.CEASE, Code.HOLD_TIMER):
            self._idle_until = now + self._idle_time
            self._idle_time = min(self._idle_time * 2, _LONGEST_IDLE)
        self._retry(now, 0.1 if lasted > _NEW else 1.0)

    def _retry(self, now: float, part: float = 1.0) -> None:
        if self.peer.options.passive:
            return
        spread = random.uniform(0, 0.25) if self._spread is None else self._spread
        self._dial_at = now + self.peer.options.connect_retry * part * (1 - spread)

    def _is_opening(self, *, ours: bool) -> bool:
        return ours in self._opening.values()


def _add_path(options: PeerOptions) -> AddPath:
    receive = AddPath.RECEIVE if options.add_path_receive else AddPath.NONE
    return receive | AddPath.SEND if options.add_path_send else receive
