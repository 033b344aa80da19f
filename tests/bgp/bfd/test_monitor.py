# SPDX-License-Identifier: Apache-2.0
"""Two monitors of our own on one link: what a program sees, and what an attacker may send."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from pycilium import ClosedError, ConflictError, KernelError, PyciliumError, SpecError
from pycilium.bgp.bfd import (
    ControlPacket,
    Discard,
    Driver,
    Monitor,
    MonitoredSession,
    State,
    StateChange,
    encode,
)
from pycilium.net import NetNS, addresses

from .daemons import V4, V6, Scene, until

pytestmark = pytest.mark.root

PORT = 3784


@pytest.fixture
def router(link: Scene) -> Iterator[Monitor]:
    """The other end, by another process."""
    with link.router.run(Monitor.open) as opened:
        yield opened


def connected(ours: Monitor, theirs: Monitor) -> tuple[MonitoredSession, MonitoredSession]:
    here = ours.add(V4[1], local=V4[0], interval=0.1)
    there = theirs.add(V4[0], local=V4[1], interval=0.1)
    assert here.wait(timeout=10)
    assert there.wait(timeout=10)
    return here, there


def stranger(ns: NetNS, ttl: int) -> socket.socket:
    one = ns.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
    return one


def test_changes_are_told_in_order(monitor: Monitor, router: Monitor) -> None:
    here, there = connected(monitor, router)
    assert here in monitor.sessions
    there.remove()
    there.remove()
    told = list(monitor.changes(timeout=0.5))
    assert told[0].previous is State.DOWN
    assert told[-1].state is State.DOWN
    for before, after in itertools.pairwise(told):
        assert (before.state, before.at) <= (after.previous, after.at)
    assert all(change.session is here for change in told)
    assert "UP → DOWN (neighbor signaled session down)" in str(told[-1])
    with pytest.raises(ClosedError, match="removed"):
        there.status()


def test_garbage_is_counted_and_nothing_else(
    monitor: Monitor, router: Monitor, link: Scene
) -> None:
    here, _ = connected(monitor, router)
    with stranger(link.router, 255) as socket_:
        socket_.bind((V4[1], 0))
        for data in (b"", b"x", b"\xff" * 200, bytes(24), bytes(2000)):
            socket_.sendto(data, (V4[0], PORT))
        guess = ControlPacket(state=State.DOWN, my_discriminator=1, your_discriminator=1)
        socket_.sendto(encode(guess), (V4[0], PORT))
    until(lambda: sum(here.statistics.discarded.values()) >= 5)
    assert here.statistics.discarded[Discard.TRUNCATED] == 2
    until(lambda: monitor.discarded() == {Discard.NO_SESSION: 1})
    assert (here.state, here.statistics.failures) == (State.UP, 0)


def test_what_comes_from_further_away_is_not_believed(
    monitor: Monitor, router: Monitor, link: Scene
) -> None:
    here, _ = connected(monitor, router)
    down = encode(
        ControlPacket(
            state=State.DOWN,
            my_discriminator=here.remote.discriminator,
            your_discriminator=here.status().discriminator,
        )
    )
    with stranger(link.router, 254) as far:
        far.sendto(down, (V4[0], PORT))
        until(lambda: here.statistics.discarded.get(Discard.TTL) == 1)
        monitor.add("10.1.1.1", local=V4[0], multihop=True)
        far.sendto(down, (V4[0], 4784))  # where the TTL does not count, another session may
        until(lambda: monitor.discarded() == {Discard.NO_SESSION: 1})
    assert here.statistics.failures == 0
    with stranger(link.router, 255) as near:  # the same packet from next door is believed
        near.sendto(down, (V4[0], PORT))
        until(lambda: here.statistics.failures == 1)


def test_a_flood_delays_nothing(monitor: Monitor, router: Monitor, link: Scene) -> None:
    here, there = connected(monitor, router)
    end = time.monotonic() + 2
    with stranger(link.router, 255) as socket_:
        while time.monotonic() < end:
            for _ in range(50):
                socket_.sendto(b"x" * 30, (V4[0], PORT))
            time.sleep(0.005)
    assert (here.statistics.failures, there.statistics.failures) == (0, 0)


@pytest.mark.parametrize("driver", Driver)
def test_link_local_addresses(link: Scene, router: Monitor, driver: Driver) -> None:
    def own(ns: NetNS) -> list[str]:
        found = (str(one.interface.ip) for one in addresses.list_all(ns=ns))
        return [one for one in found if one.startswith("fe80")]

    until(lambda: own(link.ours) and own(link.router))
    (ours,), (theirs,) = own(link.ours), own(link.router)
    with link.ours.run(lambda: Monitor.open(driver=driver)) as monitor:
        here = monitor.add(f"{theirs}%eth0", local=ours, interval=0.1)
        router.add(ours, interface="eth0", interval=0.1)
        assert here.wait(timeout=10)


def test_what_is_refused(monitor: Monitor, link: Scene) -> None:
    with pytest.raises(SpecError, match="1 to 255"):
        monitor.add(V4[1], multiplier=0)
    with pytest.raises(KernelError, match=r"with 10\.0\.0\.254: Cannot assign requested address"):
        monitor.add(V4[1], local="192.0.2.1")
    with pytest.raises(KernelError, match="Network is unreachable"):
        monitor.add("192.0.2.1")
    with pytest.raises(KernelError, match="No such device"):
        monitor.add(V4[1], interface="nothing")
    assert monitor.sessions == ()
    monitor.add(V4[1])
    with pytest.raises(ConflictError, match=r"from 10\.0\.0\.1 to 10\.0\.0\.254 already"):
        monitor.add(V4[1], local=V4[0])
    with (
        link.ours.run(lambda: Monitor.open(driver=Driver.THREAD)) as other,
        pytest.raises(ConflictError, match="port 3784"),
    ):
        other.add(V4[1])
    with pytest.raises(SpecError, match="PROCESS"):
        Monitor.open(driver="process")  # type: ignore[arg-type]


def test_a_removed_session_leaves_room_for_another(monitor: Monitor) -> None:
    for _ in range(20):
        monitor.add(V4[1]).remove()
        monitor.add(V6[1]).remove()
    assert monitor.sessions == ()


class Recorder:
    """A client that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def bfd_up(self, session: MonitoredSession) -> None:
        self.told.append(f"{session.settings.peer} up")

    def bfd_down(self, change: StateChange) -> None:
        self.told.append(f"{change.session.settings.peer} down")


def test_a_client_hears_of_failures_only(monitor: Monitor, link: Scene) -> None:
    client = Recorder()
    router = link.router.run(Monitor.open)
    here, there = connected(monitor, router)
    monitor.dispatch()
    here.attach(client)
    there.disable()
    assert here.wait(State.DOWN, timeout=5)
    there.enable()
    assert here.wait(timeout=5)
    monitor.dispatch()
    assert client.told == ["10.0.0.254 up"] * 2
    os.kill(router.pid, signal.SIGKILL)
    assert here.wait(State.DOWN, timeout=5)
    assert len(client.told) == 2  # told by dispatch(), in the caller's own time
    monitor.dispatch()
    assert client.told[2:] == ["10.0.0.254 down"]
    here.detach(client)
    here.detach(client)
    with pytest.raises(PyciliumError, match="signal 9"):
        there.status()
    assert there._state is State.DOWN
    router.close()


def test_asyncio(monitor: Monitor, router: Monitor) -> None:
    async def two() -> list[StateChange]:
        monitor.add(V4[1], interval=0.1)
        router.add(V4[0], interval=0.1)
        found = []
        async for change in monitor:
            found.append(change)
            if change.state is State.UP:
                break
        return found

    assert asyncio.run(asyncio.wait_for(two(), 10))[-1].state is State.UP


def test_a_descriptor_says_when_to_dispatch(monitor: Monitor, router: Monitor) -> None:
    """Also for what was heard while asking for something else."""
    here, _ = connected(monitor, router)
    assert here.state is State.UP

    async def readable() -> None:
        event = asyncio.Event()
        asyncio.get_running_loop().add_reader(monitor.fileno(), event.set)
        await asyncio.wait_for(event.wait(), 5)
        asyncio.get_running_loop().remove_reader(monitor.fileno())

    asyncio.run(readable())
    assert monitor.dispatch()[-1].state is State.UP
    assert monitor.dispatch() == []


@pytest.mark.parametrize("driver", Driver)
def test_use_after_close(netns: NetNS, driver: Driver) -> None:
    monitor = netns.run(lambda: Monitor.open(driver=driver))
    session = monitor.add("127.0.0.2", local="127.0.0.1")
    monitor.close()
    monitor.close()
    for use in (monitor.dispatch, monitor.fileno, session.status, lambda: session.state):
        with pytest.raises(ClosedError):
            use()


def test_an_unclosed_monitor_warns_and_is_closed(netns: NetNS) -> None:
    monitor = netns.run(Monitor.open)
    pid = monitor.pid
    with pytest.warns(ResourceWarning, match="unclosed"):
        monitor.__del__()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


CHILD = """
import sys, time
from pycilium.bgp.bfd import Monitor
monitor = Monitor.open()
session = monitor.add("10.0.0.254", interval=0.1)
print(monitor.pid, session.wait(timeout=10), flush=True)
time.sleep(60)
"""


def test_a_killed_program_is_a_failure_to_its_peer(router: Monitor, link: Scene) -> None:
    there = router.add(V4[0], interval=0.1)
    command = [sys.executable, "-c", CHILD]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with link.ours.popen(command, stdout=subprocess.PIPE, env=env) as child:
        assert child.stdout is not None
        pid, up = child.stdout.readline().split()
        assert up == b"True"
        router.dispatch()
        child.kill()
        (down,) = (change for change in router.changes(timeout=2) if change.state is State.DOWN)
    assert down.is_failure
    assert there.state is State.DOWN
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_a_busy_program_does_not_flap(router: Monitor, link: Scene) -> None:
    """100 ms, three times, for ten seconds, while this process holds the interpreter."""
    with link.ours.run(Monitor.open) as monitor:
        sessions = connected(monitor, router)
        numbers = [1.0 / (1 + number) for number in range(300_000)]
        tree = [{"number": number} for number in range(300_000)]
        end = time.monotonic() + 10
        while time.monotonic() < end:
            json.loads(json.dumps(tree))
            sorted(numbers)
            sum(number * number for number in numbers)
            gc.collect()
        assert [session.statistics.failures for session in sessions] == [0, 0]
        assert [session.statistics.ups for session in sessions] == [1, 1]


def test_what_waited_in_a_socket_came_in_time(router: Monitor, link: Scene) -> None:
    """The engine stands still for three of its own detection times; its peer allows for that."""
    with link.ours.run(Monitor.open) as monitor:
        here = monitor.add(V4[1], interval=0.1, multiplier=50)
        router.add(V4[0], interval=0.1, multiplier=3)
        assert here.wait(timeout=10)
        until(lambda: (here.status().detection_time or 9) < 0.5)
        os.kill(monitor.pid, signal.SIGSTOP)
        time.sleep(1)
        os.kill(monitor.pid, signal.SIGCONT)
        time.sleep(0.2)
        assert here.statistics.failures == 0


def test_many_sessions_in_one_process(router: Monitor, link: Scene) -> None:
    """Their interval leaves room for a machine that does other things; benchmarks ask for less."""
    count, interval = 100, 0.3
    for number in range(count):
        addresses.add(f"10.0.1.{number + 1}/16", link.device, ns=link.ours)
    addresses.add(f"{V4[1]}/16", 2, ns=link.router)
    with link.ours.run(Monitor.open) as monitor:
        ours = [
            monitor.add(V4[1], local=f"10.0.1.{number + 1}", interval=interval)
            for number in range(count)
        ]
        theirs = [router.add(f"10.0.1.{number + 1}", interval=interval) for number in range(count)]
        assert all(session.wait(timeout=30) for session in ours)
        assert len({session.status().source_port for session in ours}) == count
        time.sleep(3)
        assert sum(session.statistics.failures for session in (*ours, *theirs)) == 0


def test_a_monitor_that_nobody_reads_still_runs(monitor: Monitor, router: Monitor) -> None:
    here, there = connected(monitor, router)
    for _ in range(10):
        there.disable()
        until(lambda: there.remote.state is State.DOWN)
        there.enable()
        assert there.wait(timeout=10)
    assert here.wait(timeout=10)
    assert here.statistics.ups == 11
    assert monitor.lost == 0
    assert here.statistics.failures == 0
