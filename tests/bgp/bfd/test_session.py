# SPDX-License-Identifier: Apache-2.0
"""The state machine of RFC 5880 section 6.8, with a clock that the test holds."""

from __future__ import annotations

import heapq
import itertools
import random

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycilium.bgp.bfd import (
    Authentication,
    ControlPacket,
    Diagnostic,
    Discard,
    Session,
    Settings,
    State,
    Timers,
    decode,
)

from .test_packet import packets

ANSWERS = ControlPacket(
    state=State.DOWN, my_discriminator=2, desired_min_tx=100_000, required_min_rx=100_000
)


def session(discriminator: int = 1, **settings: object) -> Session:
    timers = {name: settings.pop(name) for name in ("interval", "multiplier") if name in settings}
    asked = Settings(
        peer="192.0.2.2",
        timers=Timers(**{"interval": 0.1, **timers}),  # type: ignore[arg-type]
        **settings,  # type: ignore[arg-type]
    )
    return Session(asked, discriminator, now=0.0, generator=random.Random(discriminator))


def taken(one: Session) -> list[ControlPacket]:
    """What it wants sent, decoded."""
    found = [decode(data) for data in one.outgoing]
    one.outgoing.clear()
    assert all(isinstance(packet, ControlPacket) for packet in found)
    return found  # type: ignore[return-value]


def brought_up(now: float = 1.0, **settings: object) -> Session:
    """A session that is up since `now`, its poll sequence answered."""
    one = session(**settings)
    say(one, now, state=State.DOWN, your_discriminator=0)
    say(one, now, state=State.INIT)
    assert one.state is State.UP
    say(one, now, final=True)
    taken(one)
    return one


def say(one: Session, now: float, **fields: object) -> Discard | None:
    """A packet of its peer: up, unless fields say otherwise."""
    packet = attrs.evolve(ANSWERS, state=State.UP, your_discriminator=one.discriminator)
    return one.receive(attrs.evolve(packet, **fields), now)


# States before and after, by what the peer says; from RFC 5880 section 6.8.6.
TABLE = {
    State.DOWN: (State.DOWN, State.INIT, State.UP, State.DOWN),
    State.INIT: (State.DOWN, State.INIT, State.UP, State.UP),
    State.UP: (State.DOWN, State.DOWN, State.UP, State.UP),
    State.ADMIN_DOWN: (State.ADMIN_DOWN,) * 4,
}


@pytest.mark.parametrize("remote", State)
@pytest.mark.parametrize("before", State)
def test_every_cell_of_the_state_machine(before: State, remote: State) -> None:
    one = session()
    one.state = before
    refused = say(one, 1.0, state=remote)
    assert one.state is TABLE[before][remote]
    assert refused is (Discard.ADMIN_DOWN if before is State.ADMIN_DOWN else None)
    if before > State.DOWN and one.state is State.DOWN:
        assert one.diagnostic is Diagnostic.NEIGHBOR_SIGNALED_SESSION_DOWN


def test_a_session_that_is_not_up_sends_once_a_second() -> None:
    one = session()
    times = []
    while len(times) < 50:
        now = one.deadline
        assert now is not None
        one.tick(now)
        times += [now] * len(taken(one))
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert all(0.75 <= gap <= 1.0 for gap in gaps)
    assert max(gaps) - min(gaps) > 0.1


@pytest.mark.parametrize(("multiplier", "longest"), [(3, 0.1), (1, 0.09)])
def test_jitter(multiplier: int, longest: float) -> None:
    one = brought_up(multiplier=multiplier)
    now, gaps = 1.0, []
    for _ in range(200):
        say(one, now)
        deadline = one.deadline
        assert deadline is not None
        gaps.append(deadline - now)
        now = deadline
        one.tick(now)
        assert len(taken(one)) == 1
    assert 0.075 <= min(gaps[1:]) < max(gaps[1:]) <= longest + 1e-9
    assert max(gaps[1:]) > longest - 0.005


def test_a_change_of_state_is_told_at_once() -> None:
    one = session()
    say(one, 0.5, state=State.DOWN, your_discriminator=0)
    (packet,) = taken(one)
    assert (packet.state, packet.your_discriminator) == (State.INIT, 2)


def test_up_means_the_fast_interval_and_a_poll_until_the_final() -> None:
    one = session()
    say(one, 1.0, state=State.DOWN)
    say(one, 1.0, state=State.INIT)
    *_, packet = taken(one)
    assert (packet.state, packet.poll, packet.desired_min_tx) == (State.UP, True, 100_000)
    assert one.interval == 0.1
    say(one, 1.01, final=True)
    one.tick(1.2)
    (packet,) = taken(one)
    assert not packet.poll


def test_a_poll_is_answered_whatever_the_timers_say() -> None:
    one = brought_up()
    say(one, 1.0, poll=True)
    say(one, 1.0, poll=True)
    assert [(p.poll, p.final) for p in taken(one)] == [(False, True)] * 2


def test_silence_for_the_detection_time_is_a_failure() -> None:
    one = brought_up()
    say(one, 1.0, desired_min_tx=200_000, multiplier=5)
    assert one.detection_time == 1.0  # the peer's multiplier, the slower of the two intervals
    one.tick(1.999)
    assert one.state is State.UP
    one.tick(2.0)
    assert (one.state, one.diagnostic) == (State.DOWN, Diagnostic.CONTROL_DETECTION_TIME_EXPIRED)
    assert one.transitions[-1].is_failure
    assert taken(one)[-1].your_discriminator == 0
    assert one.interval == 1.0


def test_going_down_on_purpose_is_no_failure() -> None:
    for change in (
        lambda one: say(one, 2.0, state=State.ADMIN_DOWN),
        lambda one: one.disable(2.0),
    ):
        one = brought_up()
        change(one)
        assert one.transitions[-1].previous is State.UP
        assert not one.transitions[-1].is_failure


def test_the_slower_side_decides() -> None:
    one = brought_up()
    say(one, 1.0, required_min_rx=400_000)
    assert one.interval == 0.4


def test_a_peer_that_takes_faster_packets_gets_them_at_once() -> None:
    one = brought_up()
    say(one, 1.0, required_min_rx=4_000_000, multiplier=200)
    one.tick(1.2)
    taken(one)
    say(one, 1.2, required_min_rx=100_000, multiplier=200)
    assert one.deadline is not None
    assert one.deadline <= 1.3


def test_slower_timers_wait_for_the_final() -> None:
    """RFC 5880, 6.8.3: the peer must know before we send less often."""
    one = brought_up()
    one.change(Timers(interval=0.5))
    assert (one.interval, one.detection_time) == (0.1, 1.5)
    one.tick(1.2)
    (packet,) = taken(one)
    assert (packet.poll, packet.desired_min_tx) == (True, 500_000)
    say(one, 1.3, final=True)
    assert one.interval == 0.5


def test_faster_reception_waits_for_the_final() -> None:
    one = brought_up()
    one.change(Timers(interval=0.05))
    assert (one.interval, one.detection_time) == (0.1, 0.3)  # the peer takes one each 100 ms
    say(one, 1.0, final=True, desired_min_tx=50_000, required_min_rx=50_000)
    assert one.interval == 0.05
    assert one.detection_time == pytest.approx(0.15)


def test_a_second_change_is_polled_on_its_own() -> None:
    one = brought_up()
    one.change(Timers(interval=0.5))
    one.change(Timers(interval=0.6))
    say(one, 1.0, final=True)
    assert one.interval == 0.1
    say(one, 1.1, final=True)
    assert one.interval == 0.6


def test_a_peer_in_demand_mode_gets_no_periodic_packets() -> None:
    one = brought_up()
    say(one, 1.0, demand=True)
    one.tick(1.2)
    assert taken(one) == []
    say(one, 1.25, demand=True, poll=True)
    assert [packet.final for packet in taken(one)] == [True]
    one.change(Timers(interval=0.2))
    one.tick(1.3)
    assert [packet.poll for packet in taken(one)] == [True]
    one.tick(1.3 + 0.6)
    assert one.state is State.DOWN  # and is watched all the same


def test_a_peer_that_takes_nothing_gets_nothing() -> None:
    one = brought_up()
    say(one, 1.0, required_min_rx=0, multiplier=100)
    one.tick(2.0)
    assert taken(one) == []


def test_a_passive_session_waits_for_its_peer() -> None:
    one = session(passive=True)
    assert one.deadline is None
    one.tick(100.0)
    assert taken(one) == []
    say(one, 100.0, state=State.DOWN, your_discriminator=0)
    assert taken(one)[-1].state is State.INIT


def test_admin_down_is_told_and_left() -> None:
    one = brought_up()
    one.disable(1.1)
    one.disable(1.1)
    assert [packet.state for packet in taken(one)] == [State.ADMIN_DOWN]
    one.tick(2.2)
    (packet,) = taken(one)
    assert packet.diagnostic is Diagnostic.ADMINISTRATIVELY_DOWN
    one.enable(3.0)
    one.enable(3.0)
    assert one.state is State.DOWN


@pytest.mark.parametrize(
    ("ours", "theirs", "reason"),
    [
        (None, b"\x01\x05\x01abc", Discard.AUTHENTICATION_UNEXPECTED),
        (Authentication("simple-password", "abc"), b"", Discard.AUTHENTICATION_MISSING),
        (
            Authentication("simple-password", "abc"),
            b"\x01\x06\x01abd",
            Discard.AUTHENTICATION_FAILED,
        ),
    ],
)
def test_who_is_not_believed(ours: Authentication | None, theirs: bytes, reason: Discard) -> None:
    one = session(authentication=ours)
    before = one.remote
    assert say(one, 1.0, state=State.DOWN, authentication=theirs) is reason
    assert (one.state, one.remote) == (State.DOWN, before)


def test_another_sessions_packet_is_not_ours() -> None:
    assert say(session(), 1.0, your_discriminator=77) is Discard.NO_SESSION


@given(st.lists(st.tuples(packets, st.floats(0, 2)), max_size=30), st.booleans())
def test_no_sequence_of_packets_raises(
    story: list[tuple[ControlPacket, float]], passive: bool
) -> None:
    one, now = session(passive=passive), 0.0
    for packet, later in story:
        now += later
        one.tick(now)
        one.receive(attrs.evolve(packet, your_discriminator=1, authentication=b""), now)
        assert one.state in State
        assert len(one.outgoing) < 200
        taken(one)


class Pipe:
    """Two sessions, and a network that loses, delays and so reorders the first packets."""

    def __init__(self, ends: tuple[Session, Session], fates: list[float | None]) -> None:
        self.ends = ends
        self.now = 0.0
        self._fates = fates
        self._order = 0
        self._flying: list[tuple[float, int, int, bytes]] = []

    def run(self, until: float) -> None:
        while self.now < until:
            self._send()
            times = [one.deadline for one in self.ends if one.deadline is not None]
            times += [flying[0] for flying in self._flying[:1]]
            self.now = max(self.now, min(times))
            self._deliver()
            for one in self.ends:
                one.tick(self.now)

    def _send(self) -> None:
        for index, one in enumerate(self.ends):
            for data in one.outgoing:
                delay = self._fates.pop() if self._fates else 0.001
                if delay is not None:
                    self._order += 1
                    heapq.heappush(self._flying, (self.now + delay, self._order, 1 - index, data))
            one.outgoing.clear()

    def _deliver(self) -> None:
        while self._flying and self._flying[0][0] <= self.now:
            _, _, index, data = heapq.heappop(self._flying)
            packet = decode(data)
            assert isinstance(packet, ControlPacket)
            self.ends[index].receive(packet, self.now)


@given(
    st.lists(st.none() | st.floats(0.0, 1.5), max_size=60),
    st.sampled_from([None, "simple-password", "keyed-sha1", "meticulous-keyed-md5"]),
    st.sampled_from([(0.1, 3), (0.02, 1), (1.0, 5)]),
)
def test_two_sessions_come_up_after_any_loss_and_reordering(
    fates: list[float | None], proof: str | None, timers: tuple[float, int]
) -> None:
    interval, multiplier = timers
    common = {"authentication": Authentication(proof, "s") if proof else None}
    ends = (
        session(1, interval=interval, multiplier=multiplier, **common),
        session(2, **common),
    )
    pipe = Pipe(ends, fates)
    pipe.run(until=120.0)
    assert [one.state for one in ends] == [State.UP, State.UP]
    before = [len(one.transitions) for one in ends]
    pipe.run(until=180.0)
    assert [len(one.transitions) for one in ends] == before  # and stay up
