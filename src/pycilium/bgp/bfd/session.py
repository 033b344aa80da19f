# SPDX-License-Identifier: Apache-2.0
"""One session as a state machine (RFC 5880 section 6.8): no sockets, no clock of its own.

Packets and times go in; `outgoing` (bytes to send at once) and `transitions` come out, and
`deadline` says when to call tick() next. Times are seconds of any one monotonic clock.
"""

from __future__ import annotations

import random
from typing import Final

import attrs

from pycilium.bgp.bfd.authentication import Signer, Verifier
from pycilium.bgp.bfd.packet import ControlPacket, Diagnostic, Discard, State, encode
from pycilium.bgp.bfd.settings import MICROSECOND, Settings, Timers

SLOW: Final = 1_000_000  # microseconds between packets of a session that is not up


@attrs.frozen
class Remote:
    """What the peer said last; intervals in microseconds."""

    state: State = State.DOWN
    diagnostic: Diagnostic = Diagnostic.NONE
    discriminator: int = 0
    multiplier: int = 0
    desired_min_tx: int = 0
    required_min_rx: int = 1
    demand: bool = False


@attrs.frozen
class Transition:
    """A session went from one state to another; `at` is a time of the monotonic clock."""

    previous: State
    state: State
    diagnostic: Diagnostic
    remote: Remote
    at: float

    @property
    def is_failure(self) -> bool:
        """Whether the path failed: not where either side went down on purpose (RFC 5882, 3.2)."""
        wanted = State.ADMIN_DOWN in (self.state, self.remote.state)
        return self.previous is State.UP and self.state is not State.UP and not wanted


class Session:
    """Asynchronous mode. A peer that asks for demand mode gets it; we never ask for it."""

    def __init__(
        self, settings: Settings, discriminator: int, *, now: float, generator: random.Random
    ) -> None:
        self.settings = settings
        self.discriminator = discriminator
        self.timers = settings.timers
        self.state = State.DOWN
        self.diagnostic = Diagnostic.NONE
        self.remote = Remote()
        self.outgoing: list[bytes] = []
        self.transitions: list[Transition] = []
        self._random = generator
        self._desired_min_tx = SLOW
        self._required_min_rx = settings.timers.required_min_rx
        self._tx_in_use, self._rx_in_use = self._desired_min_tx, self._required_min_rx
        self._polling = self._poll_again = False
        self._last_sent = self._next_send = now
        self._last_received: float | None = None
        proof = settings.authentication
        self._signer = Signer(proof, generator.getrandbits(32)) if proof else None
        self._verifier = Verifier(proof) if proof else None
        self._update_interval()

    # What comes in

    def receive(self, packet: ControlPacket, now: float) -> Discard | None:
        """Use a packet of this session's peer, or say why it is not used."""
        refused = self._refuse(packet, now)
        if refused is not None:
            return refused
        self._last_received = now
        self._learn(packet)
        if packet.final and self._polling:
            self._end_poll()
        self._hasten()
        if self.state is State.ADMIN_DOWN:
            return Discard.ADMIN_DOWN
        self._follow(packet.state, now)
        if packet.poll:
            self._send(now, final=True)
        return None

    def tick(self, now: float) -> None:
        """Do what time has come for: find the peer silent, send the next packet."""
        if self._expiry is not None and now >= self._expiry:
            self._expire(now)
        if self._may_send and now >= self._next_send:
            self._send(now)

    @property
    def deadline(self) -> float | None:
        """When to call tick(); None: not before the next packet or change."""
        times = [self._next_send] if self._may_send else []
        if self._expiry is not None:
            times.append(self._expiry)
        return min(times, default=None)

    # What its owner wants

    def disable(self, now: float) -> None:
        """Go to AdminDown, and say so to the peer for as long as this lasts."""
        if self.state is not State.ADMIN_DOWN:
            self._enter(State.ADMIN_DOWN, Diagnostic.ADMINISTRATIVELY_DOWN, now)

    def enable(self, now: float) -> None:
        """Leave AdminDown."""
        if self.state is State.ADMIN_DOWN:
            self._enter(State.DOWN, Diagnostic.NONE, now)

    def change(self, timers: Timers) -> None:
        """Offer other timers; a poll sequence makes both sides agree (RFC 5880, 6.8.3)."""
        self.timers = timers
        self._offer()
        self._hasten()

    # What was negotiated

    @property
    def interval(self) -> float:
        """Seconds between two packets that we send, before jitter."""
        return self._interval

    @property
    def detection_time(self) -> float | None:
        """Seconds of silence until the peer is taken for lost; None before its first packet."""
        remote = self.remote
        if not remote.multiplier:
            return None
        return remote.multiplier * max(self._rx_in_use, remote.desired_min_tx) / MICROSECOND

    # The parts

    @property
    def _expiry(self) -> float | None:
        detection = self.detection_time
        if self._last_received is None or detection is None or not self.remote.discriminator:
            return None
        return self._last_received + detection

    @property
    def _may_send(self) -> bool:
        """RFC 5880 section 6.8.7: what forbids periodic packets."""
        remote = self.remote
        if self.settings.passive and not remote.discriminator:
            return False
        both_up = self.state is State.UP and remote.state is State.UP
        if remote.demand and both_up and not self._polling:
            return False
        return remote.required_min_rx != 0

    def _refuse(self, packet: ControlPacket, now: float) -> Discard | None:
        if packet.your_discriminator not in (0, self.discriminator):
            return Discard.NO_SESSION
        if self._verifier is None:
            return Discard.AUTHENTICATION_UNEXPECTED if packet.authentication else None
        if not packet.authentication:
            return Discard.AUTHENTICATION_MISSING
        if self._silent_for_two_detection_times(now):
            self._verifier.forget()
        return None if self._verifier.accepts(packet) else Discard.AUTHENTICATION_FAILED

    def _silent_for_two_detection_times(self, now: float) -> bool:
        if self._last_received is None or self.detection_time is None:
            return False
        return now - self._last_received > 2 * self.detection_time

    def _learn(self, packet: ControlPacket) -> None:
        self.remote = Remote(
            packet.state,
            packet.diagnostic,
            packet.my_discriminator,
            packet.multiplier,
            packet.desired_min_tx,
            packet.required_min_rx,
            packet.demand,
        )

    def _follow(self, remote: State, now: float) -> None:
        """The state machine of RFC 5880 section 6.8.6."""
        here = self.state
        if here is State.DOWN and remote is State.DOWN:
            self._enter(State.INIT, Diagnostic.NONE, now)
        elif (here, remote) in _GOES_UP:
            self._enter(State.UP, Diagnostic.NONE, now)
        elif (here, remote) in _GOES_DOWN:
            self._enter(State.DOWN, Diagnostic.NEIGHBOR_SIGNALED_SESSION_DOWN, now)

    def _expire(self, now: float) -> None:
        """Nothing came for the detection time: forget whom we talked to (6.8.1, 6.8.4)."""
        self.remote = attrs.evolve(self.remote, discriminator=0, demand=False)
        self._polling = self._poll_again = False
        if self.state in (State.INIT, State.UP):
            self._enter(State.DOWN, Diagnostic.CONTROL_DETECTION_TIME_EXPIRED, now)

    def _enter(self, state: State, diagnostic: Diagnostic, now: float) -> None:
        previous, self.state, self.diagnostic = self.state, state, diagnostic
        self.transitions.append(Transition(previous, state, diagnostic, self.remote, now))
        self._offer()
        if self._may_send:
            self._send(now)

    def _offer(self) -> None:
        """Set what we advertise; a change of it is polled, and takes effect with the answer."""
        wanted = self.timers.desired_min_tx
        tx = wanted if self.state is State.UP else max(SLOW, wanted)
        rx = self.timers.required_min_rx
        if (tx, rx) != (self._desired_min_tx, self._required_min_rx):
            self._desired_min_tx, self._required_min_rx = tx, rx
            self._poll_again = self._polling
            self._polling = bool(self.remote.discriminator)
        if self.state is not State.UP or not self._polling:
            self._tx_in_use, self._rx_in_use = tx, rx
        else:
            self._tx_in_use = min(self._tx_in_use, tx)
            self._rx_in_use = max(self._rx_in_use, rx)
        self._update_interval()

    def _end_poll(self) -> None:
        self._polling, self._poll_again = self._poll_again, False
        if not self._polling:
            self._tx_in_use, self._rx_in_use = self._desired_min_tx, self._required_min_rx

    def _update_interval(self) -> None:
        self._interval = max(self._tx_in_use, self.remote.required_min_rx) / MICROSECOND

    def _hasten(self) -> None:
        """A shorter interval counts from the last packet, not from the next (6.8.2, 6.8.3)."""
        self._update_interval()
        if self._next_send > self._last_sent + self._interval:
            self._next_send = self._last_sent + self._interval * self._jitter()

    def _send(self, now: float, *, final: bool = False) -> None:
        packet = ControlPacket(
            state=self.state,
            my_discriminator=self.discriminator,
            your_discriminator=self.remote.discriminator,
            diagnostic=self.diagnostic,
            multiplier=self.timers.multiplier,
            desired_min_tx=self._desired_min_tx,
            required_min_rx=self._required_min_rx,
            poll=self._polling and not final,
            final=final,
        )
        self.outgoing.append(self._signer.sign(packet) if self._signer else encode(packet))
        if not final:
            self._last_sent = now
            self._next_send = now + self._interval * self._jitter()

    def _jitter(self) -> float:
        """RFC 5880 section 6.8.7: with a multiplier of 1, one packet must come in time."""
        return self._random.uniform(0.75, 0.9 if self.timers.multiplier == 1 else 1.0)


_GOES_UP = {(State.DOWN, State.INIT), (State.INIT, State.INIT), (State.INIT, State.UP)}
_GOES_DOWN = {
    (State.INIT, State.ADMIN_DOWN),
    (State.UP, State.ADMIN_DOWN),
    (State.UP, State.DOWN),
}
