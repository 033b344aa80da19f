# SPDX-License-Identifier: Apache-2.0
"""A session as its monitor's user sees it, and what happens to it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

import attrs

from pycilium.bgp.bfd.control import Verb
from pycilium.bgp.bfd.packet import Diagnostic, State
from pycilium.bgp.bfd.session import Remote, Transition
from pycilium.bgp.bfd.settings import Settings, Timers
from pycilium.bgp.bfd.status import Statistics, Status

if TYPE_CHECKING:
    from pycilium.bgp.bfd.channel import Channel


@attrs.frozen
class StateChange(Transition):
    """A transition of one session; `merged`: how many before it are told only by this one."""

    session: MonitoredSession
    merged: int = 0

    def __str__(self) -> str:
        words = self.diagnostic.name.lower().replace("_", " ")
        reason = f" ({words})" if self.diagnostic else ""
        return f"{self.session.settings.peer}: {self.previous.name} → {self.state.name}{reason}"


class Client(Protocol):
    """Who wants to know whether a peer can be reached, such as a BGP session (RFC 5882).

    A BGP session tears down on bfd_down with Cease, subcode BFD Down (RFC 9384).
    """

    def bfd_up(self, session: MonitoredSession) -> None:
        """The session came up, or was up already when the client attached."""

    def bfd_down(self, change: StateChange) -> None:
        """The path failed. Never called where either side went down on purpose."""


class MonitoredSession:
    """One session. Its properties are the newest that has been heard, without waiting."""

    def __init__(self, channel: Channel, number: int, settings: Settings) -> None:
        self.settings = settings
        self.number = number
        self._channel = channel
        self._state = State.DOWN
        self._diagnostic = Diagnostic.NONE
        self._clients: list[Client] = []

    @property
    def state(self) -> State:
        """DOWN, INIT, UP or ADMIN_DOWN."""
        self._channel.hear()
        return self._state

    @property
    def diagnostic(self) -> Diagnostic:
        """Why it last changed its state."""
        self._channel.hear()
        return self._diagnostic

    @property
    def remote(self) -> Remote:
        """What the peer said last; asks the engine."""
        return self.status().remote

    @property
    def statistics(self) -> Statistics:
        """Packets and changes counted; asks the engine."""
        return self.status().statistics

    def status(self) -> Status:
        """All there is to know, of one moment; asks the engine."""
        status: Status = self._channel.ask(Verb.STATUS, self)
        return status

    def wait(self, state: State = State.UP, *, timeout: float) -> bool:
        """Wait for a state, at most `timeout` seconds; whether it is there."""
        end = time.monotonic() + timeout
        while self.state is not state:
            if not self._channel.wait_for_engine(end - time.monotonic()):
                return self.state is state
        return True

    def change(
        self,
        *,
        interval: float | None = None,
        receive_interval: float | None = None,
        multiplier: int | None = None,
    ) -> None:
        """Offer the peer other timers, in seconds, without a flap; what is not named stays.

        An interval without a receive_interval is both.
        """
        now = self.settings.timers
        send = now.interval if interval is None else interval
        receive = now.receive_interval if interval is None else interval
        timers = Timers(
            interval=send,
            receive_interval=receive if receive_interval is None else receive_interval,
            multiplier=now.multiplier if multiplier is None else multiplier,
        )
        self._channel.ask(Verb.CHANGE, self, timers)
        self.settings = attrs.evolve(self.settings, timers=timers)

    def disable(self) -> None:
        """Go to AdminDown: the peer learns that this is no failure."""
        self._channel.ask(Verb.ENABLE, self, False)

    def enable(self) -> None:
        """Leave AdminDown."""
        self._channel.ask(Verb.ENABLE, self, True)

    def attach(self, client: Client) -> None:
        """Let a client know of failures and recoveries, and now of a session that is up."""
        self._clients.append(client)
        if self.state is State.UP:
            client.bfd_up(self)

    def detach(self, client: Client) -> None:
        """Leave a client alone; one that is not attached is fine."""
        self._clients = [one for one in self._clients if one is not client]

    def remove(self) -> None:
        """End the session; the peer learns that this is no failure. Idempotent."""
        if self.number in self._channel.sessions:
            self._channel.ask(Verb.REMOVE, self)
            del self._channel.sessions[self.number]
            self.learn(State.DOWN, Diagnostic.NONE)

    def learn(self, state: State, diagnostic: Diagnostic) -> None:
        """For the channel: what the engine has reported."""
        self._state, self._diagnostic = state, diagnostic

    def notify(self, change: StateChange) -> None:
        """For the channel: tell the clients."""
        for client in tuple(self._clients):
            if change.is_failure:
                client.bfd_down(change)
            elif change.state is State.UP:
                client.bfd_up(self)

    def __repr__(self) -> str:
        hops = "multihop " if self.settings.multihop else ""
        return f"<BFD {hops}session with {self.settings.peer}: {self._state.name}>"
