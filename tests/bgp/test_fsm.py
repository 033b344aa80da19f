# SPDX-License-Identifier: Apache-2.0
"""Two state machines that talk in memory, on a clock that the test turns."""

from __future__ import annotations

from collections import deque

import attrs
import pytest

from pycilium.bgp.fsm import Local, PeerMachine
from pycilium.bgp.message import KEEPALIVE, MessageType, frame
from pycilium.bgp.notification import Cease, Code, Notification
from pycilium.bgp.peer import Peer, PeerOptions
from pycilium.bgp.session import Ended, Established, Event, Received, Session, State


class Side:
    """A machine, its ends of connections, and what it told."""

    def __init__(self, machine: PeerMachine) -> None:
        self.machine = machine
        self.ends: dict[Session, tuple[Side, Session]] = {}
        self.events: list[Event] = []
        self.inbox: deque[tuple[Session, bytes]] = deque()

    def watch(self, session: Session, events, now: float) -> None:
        self.events += self.machine.watch(session, events, now)


class World:
    """Both sides and a clock."""

    def __init__(self, left: PeerOptions, right: PeerOptions, *, ids=(1, 2), asns=(64512, 64513)):
        self.now = 1000.0
        self.left, self.right = (
            Side(PeerMachine(Peer("10.0.0.9", asn=other, options=options),
                             Local(own, bytes((0, 0, 0, number))), spread=0.0))
            for options, own, other, number in (
                (left, asns[0], asns[1], ids[0]),
                (right, asns[1], asns[0], ids[1]),
            )
        )  # fmt: skip
        self.cut = False

    def start(self) -> None:
        for side in (self.left, self.right):
            side.machine.start(self.now)

    def dial(self, side: Side) -> bool:
        """One attempt, if the machine wants it; whether it came about."""
        other = self.right if side is self.left else self.left
        if not side.machine.wants_dial(self.now):
            return False
        if self.cut:
            side.machine.failed("no route", self.now)
            return False
        there = other.machine.accepted(self.now)
        if there is None:
            side.machine.failed("refused", self.now)
            return False
        here = side.machine.dialled(self.now)
        side.ends[here], other.ends[there] = (other, there), (side, here)
        return True

    def settle(self) -> None:
        """Until nothing is left to be said."""
        for _ in range(100):
            moved = False
            for side in (self.left, self.right):
                moved |= self.dial(side)
                for session in list(side.ends):
                    moved |= self.move(side, session)
            if not moved:
                return
        raise AssertionError("they never stop")

    def move(self, side: Side, session: Session) -> bool:
        other, there = side.ends[session]
        data = session.take_output()
        if data and not self.cut:
            other.watch(there, there.receive(data, self.now), self.now)
        if session.state is State.IDLE and session in side.ends:
            del side.ends[session]
            if there in other.ends and not self.cut:
                other.watch(there, there.lost("the peer closed the connection"), self.now)
                del other.ends[there]
            return True
        return bool(data)

    def wait(self, seconds: float) -> None:
        """Turn the clock, firing every timer in between."""
        end = self.now + seconds
        while True:
            self.settle()
            due = min(self.left.machine.deadline, self.right.machine.deadline)
            if due > end:
                self.now = end
                return
            self.now = max(self.now, due)
            for side in (self.left, self.right):
                for session in side.machine.sessions:
                    side.watch(session, session.tick(self.now), self.now)

    @property
    def states(self) -> tuple[State, State]:
        return self.left.machine.state, self.right.machine.state


UP = (State.ESTABLISHED, State.ESTABLISHED)
ACTIVE, PASSIVE = PeerOptions(), PeerOptions(passive=True)


def of(side: Side, kind: type) -> list[Event]:
    return [one for one in side.events if isinstance(one, kind)]


@pytest.mark.parametrize(("left", "right"), [(ACTIVE, PASSIVE), (PASSIVE, ACTIVE)])
def test_one_side_connects(left, right):
    world = World(left, right)
    assert world.states == (State.IDLE, State.IDLE)
    world.start()
    assert set(world.states) <= {State.IDLE, State.ACTIVE}
    world.settle()
    assert world.states == UP
    assert len(of(world.left, Established)) == len(of(world.right, Established)) == 1


@pytest.mark.parametrize("ids", [(1, 2), (2, 1), (7, 7)])
def test_of_two_connections_the_larger_identifiers_one_stays(ids):
    world = World(ACTIVE, ACTIVE, ids=ids)
    world.start()
    assert world.dial(world.left)
    assert world.dial(world.right)  # both at once
    assert len(world.left.machine.sessions) == 2
    kept = {}
    for side in (world.left, world.right):
        for session, ours in side.machine._opening.items():
            kept[session] = (side, ours)
    world.settle()
    assert world.states == UP
    winner = world.left if (ids[0], 64512) > (ids[1], 64513) else world.right
    assert kept[winner.machine.session] == (winner, True)
    assert len(world.left.machine.sessions) == len(world.right.machine.sessions) == 1
    assert world.left.machine.flaps == world.right.machine.flaps == 0


def test_a_session_lasts_as_long_as_keepalives_come():
    world = World(attrs.evolve(ACTIVE, hold_time=9), PASSIVE)
    world.start()
    world.wait(500)
    assert world.states == UP
    assert world.left.machine.flaps == 0
    world.cut = True
    world.wait(9.5)
    assert world.states[0] is not State.ESTABLISHED
    (ended,) = of(world.left, Ended)
    assert ended.sent == Notification(Code.HOLD_TIMER)


def test_no_hold_time_no_timers():
    world = World(attrs.evolve(ACTIVE, hold_time=0), PASSIVE)
    world.start()
    world.wait(1)
    world.cut = True
    world.wait(10_000)
    assert world.states == UP


def test_it_goes_on_trying():
    world = World(ACTIVE, PASSIVE)
    world.cut = True
    world.start()
    world.wait(30)
    assert world.left.machine.state is State.ACTIVE
    assert world.left.machine.reason == "no route"
    world.cut = False
    world.wait(6)
    assert world.states == UP


@pytest.mark.parametrize(
    ("left", "right", "reason"),
    [
        (PeerOptions(families=["ipv4"]), PeerOptions(families=["ipv6"], passive=True),
         "unsupported capability"),
        (PeerOptions(), PeerOptions(passive=True), "bad peer AS"),
    ],
)  # fmt: skip
def test_opens_that_do_not_fit_are_refused_ever_more_slowly(left, right, reason):
    asns = (64512, 64513)
    world = World(left, right, asns=asns)
    if reason == "bad peer AS":
        world.left.machine.asns = (65000,)
    world.start()
    world.wait(300)
    assert UP[0] not in world.states
    assert reason in world.left.machine.reason + world.right.machine.reason
    assert not world.left.events  # nothing reached the tables
    attempts = world.left.machine._idle_time
    assert attempts == 60.0


def test_the_same_identifier_in_one_as_is_refused():
    world = World(ACTIVE, PASSIVE, ids=(5, 5), asns=(64512, 64512))
    world.start()
    world.wait(5)
    assert "bad BGP identifier" in world.left.machine.reason + world.right.machine.reason


def test_a_peer_that_comes_back_takes_the_place_of_its_dead_session():
    """A restart that we saw nothing of: with graceful restart the new connection wins."""
    world = World(ACTIVE, PASSIVE)
    world.start()
    world.settle()
    old = world.right.machine.session
    assert world.right.machine.accepted(world.now) is None  # a moment ago: a collision
    world.now += 6
    fresh = PeerMachine(world.left.machine.peer, world.left.machine.local, spread=0.0)
    world.left = Side(fresh)
    world.right.ends.clear()
    fresh.start(world.now)
    world.settle()
    assert world.states == UP
    assert world.right.machine.session is not old
    kinds = [type(one) for one in world.right.events]
    assert kinds == [Established, Ended, Established]


def test_without_graceful_restart_a_second_connection_is_refused():
    world = World(attrs.evolve(ACTIVE, graceful_restart=0), PASSIVE)
    world.start()
    world.settle()
    assert world.right.machine.accepted(world.now) is None


def test_stop_and_start():
    world = World(ACTIVE, PASSIVE)
    world.start()
    world.settle()
    stop = world.left.machine.stop(Notification.cease(Cease.SHUTDOWN, "bye"))
    world.left.events += stop
    world.settle()
    assert world.states == (State.IDLE, State.ACTIVE)
    assert "administrative shutdown (6/2): bye" in world.right.machine.reason
    world.wait(60)
    assert world.states[0] is State.IDLE
    assert world.left.machine.accepted(world.now) is None
    world.left.machine.start(world.now)
    world.wait(1)
    assert world.states == UP


@pytest.mark.parametrize(
    ("kind", "body", "reason"),
    [
        (MessageType.OPEN, b"\4" + bytes(9), "wrong state"),
        (MessageType.UPDATE, b"\0\5\0\0", "malformed attribute list"),
        (MessageType.ROUTE_REFRESH, bytes(5), "ROUTE-REFRESH error"),
    ],
)
def test_messages_that_end_a_session(kind, body, reason):
    world = World(ACTIVE, PASSIVE)
    world.start()
    world.settle()
    session = world.left.machine.session
    world.left.watch(session, session.receive(frame(kind, body), world.now), world.now)
    assert reason in world.left.machine.reason
    assert world.left.machine.state is State.IDLE
    world.wait(10)
    assert world.states == UP


def test_an_update_before_its_time():
    world = World(ACTIVE, PASSIVE)
    world.start()
    world.dial(world.left)
    (session,) = world.left.machine.sessions
    early = frame(MessageType.UPDATE, bytes(4))
    world.left.watch(session, session.receive(early, world.now), world.now)
    assert "wrong state: in open sent" in world.left.machine.reason


def test_what_follows_the_end_is_not_read():
    world = World(ACTIVE, PASSIVE)
    world.start()
    world.settle()
    session = world.left.machine.session
    data = frame(MessageType.UPDATE, b"\0\5\0\0") + frame(MessageType.UPDATE, bytes(4))
    world.left.watch(session, session.receive(data, world.now), world.now)
    world.left.watch(session, session.receive(KEEPALIVE, world.now), world.now)
    assert not of(world.left, Received)


def test_a_timer_that_fires_far_too_late_lets_what_waits_be_read():
    """The process was stopped: the peer's keepalives are in the socket, unread."""
    world = World(attrs.evolve(ACTIVE, hold_time=9), PASSIVE)
    world.start()
    world.settle()
    session = world.left.machine.session
    world.now += 60
    world.left.watch(session, session.tick(world.now), world.now)
    assert session.state is State.ESTABLISHED
    world.left.watch(session, session.receive(KEEPALIVE, world.now), world.now)
    world.now += 1
    world.left.watch(session, session.tick(world.now), world.now)
    assert session.state is State.ESTABLISHED


def test_a_peer_that_reads_nothing_is_given_up():
    world = World(ACTIVE, PASSIVE)
    world.start()
    world.settle()
    session = world.left.machine.session
    session.blocked(world.now)
    world.wait(470)
    assert session.state is State.ESTABLISHED
    world.wait(20)
    assert session.state is State.IDLE
