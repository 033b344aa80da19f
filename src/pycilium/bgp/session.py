# SPDX-License-Identifier: Apache-2.0
"""One connection of a peer, sans-IO: octets and time in, octets and events out (RFC 4271 §8).

The states of a connection are OpenSent, OpenConfirm and Established; those before a connection
belong to the peer (fsm.py). Time is a number of seconds that only grows and that the caller gives.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator

import attrs

from pycilium.bgp.errors import ProtocolError
from pycilium.bgp.family import Family, find_family
from pycilium.bgp.message import (
    KEEPALIVE,
    Framer,
    MessageType,
    Open,
    Refresh,
    decode_notification,
    decode_open,
    decode_refresh,
    encode_notification,
)
from pycilium.bgp.negotiation import Negotiated
from pycilium.bgp.notification import Code, FsmError, Notification
from pycilium.bgp.update import Update, UpdateDecoder

_LARGE_HOLD = 240.0  # while the peer has not said its own
_STALL = 1.0  # a timer that fires this late says more of this process than of the peer
_SEND_HOLD = 480.0  # RFC 9687


class State(enum.Enum):
    """RFC 4271 §8.2.2."""

    IDLE = "Idle"
    CONNECT = "Connect"
    ACTIVE = "Active"
    OPEN_SENT = "OpenSent"
    OPEN_CONFIRM = "OpenConfirm"
    ESTABLISHED = "Established"

    __hash__ = object.__hash__

    def __str__(self) -> str:
        return self.value


@attrs.frozen
class Opened:
    """The peer's OPEN has come and is acceptable."""

    open: Open


@attrs.frozen
class Established:
    """Routes may be exchanged."""

    negotiated: Negotiated


@attrs.frozen
class Received:
    """An UPDATE."""

    update: Update


@attrs.frozen
class Refreshed:
    """A ROUTE-REFRESH for a family that was agreed on."""

    family: Family
    what: Refresh


@attrs.frozen
class Ended:
    """The connection is to be closed once its output is written."""

    reason: str
    sent: Notification | None = None
    received: Notification | None = None


Event = Opened | Established | Received | Refreshed | Ended
Accept = Callable[[Open], Negotiated]

_EXPECTED = {
    State.OPEN_SENT: FsmError.IN_OPEN_SENT,
    State.OPEN_CONFIRM: FsmError.IN_OPEN_CONFIRM,
    State.ESTABLISHED: FsmError.IN_ESTABLISHED,
}


class Session:
    """A connection from its OPEN to its end.

    accept: judges the peer's OPEN, and raises ProtocolError to refuse it.
    """

    def __init__(self, ours: Open, accept: Accept, now: float) -> None:
        self.state = State.OPEN_SENT
        self.theirs: Open | None = None
        self.negotiated: Negotiated | None = None
        self.received = 0
        self.sent = 0
        self._accept = accept
        self._framer = Framer()
        self._decoder: UpdateDecoder | None = None
        self._output = [ours.encode()]
        self._hold_time = _LARGE_HOLD
        self._hold = now + _LARGE_HOLD
        self._keepalive = float("inf")
        self._blocked = float("inf")

    def take_output(self) -> bytes:
        """What is to be written now."""
        data = b"".join(self._output)
        self._output.clear()
        return data

    @property
    def deadline(self) -> float:
        """When tick() is due."""
        return min(self._hold, self._keepalive, self._blocked)

    def send(self, messages: list[bytes], now: float) -> None:
        """Queue whole messages; they count as keepalives."""
        self._output += messages
        self.sent += len(messages)
        self._restart_keepalive(now)

    def receive(self, data: bytes, now: float) -> Iterator[Event]:
        """Octets from the peer; nothing but events comes of them, and nothing after the end."""
        try:
            for kind, body in self._framer.feed(data):
                if self.state is State.IDLE:
                    return
                self.received += 1
                self._hold = now + self._hold_time
                yield from self._message(kind, body, now)
        except ProtocolError as error:
            yield from self.stop(error.notification)

    def stop(self, notification: Notification | None, reason: str = "") -> Iterator[Event]:
        """End the connection, with a NOTIFICATION or (None) without."""
        if self.state is not State.IDLE:
            if notification is not None:
                self._output.append(encode_notification(notification))
            text = reason or (f"we sent {notification}" if notification else "closed by us")
            yield self._end(text, sent=notification)

    def lost(self, reason: str) -> Iterator[Event]:
        """The transport is gone."""
        if self.state is not State.IDLE:
            yield self._end(reason)

    def tick(self, now: float) -> Iterator[Event]:
        """Timers."""
        if now >= self._keepalive:
            self.send([KEEPALIVE], now)
        if now >= self._hold:
            if now - self._hold > _STALL:  # let the octets that wait for us be read first
                self._hold = now + _STALL / 2
                return
            yield from self.stop(Notification(Code.HOLD_TIMER), "")
        elif now >= self._blocked:
            yield from self.stop(Notification(Code.HOLD_TIMER), "the peer reads nothing")

    def blocked(self, now: float) -> None:
        """The transport takes no more; a peer that reads nothing is given up in the end."""
        self._blocked = now + max(_SEND_HOLD, 2 * self._hold_time)

    def unblocked(self) -> None:
        """The transport takes octets again."""
        self._blocked = float("inf")

    def _message(self, kind: MessageType, body: bytes, now: float) -> Iterator[Event]:
        if kind is MessageType.NOTIFICATION:
            found = decode_notification(body)
            yield self._end(f"the peer sent {found}", received=found)
        elif kind is MessageType.UPDATE and self._decoder is not None:
            yield Received(self._decoder.decode(body))
        elif kind is MessageType.KEEPALIVE and self.state is not State.OPEN_SENT:
            yield from self._keep_alive()
        elif kind is MessageType.OPEN and self.state is State.OPEN_SENT:
            yield self._open(decode_open(body), now)
        elif kind is MessageType.ROUTE_REFRESH and self.state is State.ESTABLISHED:
            yield from self._refresh(body)
        else:
            raise ProtocolError(Notification(Code.FSM, _EXPECTED[self.state], bytes((kind,))))

    def _open(self, theirs: Open, now: float) -> Event:
        self.theirs = theirs
        self.negotiated = self._accept(theirs)
        hold = self.negotiated.hold_time
        self._hold_time = hold or float("inf")
        self._hold = now + self._hold_time
        self._output.append(KEEPALIVE)
        self._restart_keepalive(now)
        self.state = State.OPEN_CONFIRM
        return Opened(theirs)

    def _keep_alive(self) -> Iterator[Event]:
        if self.state is State.OPEN_CONFIRM and self.negotiated is not None:
            self.state = State.ESTABLISHED
            self._framer.limit = self.negotiated.max_message
            self._decoder = UpdateDecoder(self.negotiated)
            yield Established(self.negotiated)

    def _refresh(self, body: bytes) -> Iterator[Event]:
        afi, safi, what = decode_refresh(body)
        family = find_family(afi, safi)
        known = self.negotiated.families if self.negotiated is not None else ()
        if family is not None and family in known and what is not None:
            yield Refreshed(family, what)

    def _restart_keepalive(self, now: float) -> None:
        self._keepalive = now + self._hold_time / 3

    def _end(
        self, reason: str, sent: Notification | None = None, received: Notification | None = None
    ) -> Ended:
        self.state = State.IDLE
        self._hold = self._keepalive = self._blocked = float("inf")
        return Ended(reason, sent, received)
