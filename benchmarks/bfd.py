# SPDX-License-Identifier: Apache-2.0
"""BFD at 100 ms, three times, beside a busy program: flaps, gaps between packets, detection.

The peer is BIRD, the judge is the wire: a capture on the peer's side, stamped by the kernel.
Beside both drivers, BIRD's own BFD under the same load on the same two processors.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from statistics import median, quantiles

from benchmarks import bfd_scene as scene
from benchmarks.bfd_scene import INTERVAL, MULTIPLIER, NODE, ROUTER, Wire
from benchmarks.errors import BenchmarkError
from benchmarks.report import Report, at_most
from pycilium.bgp.bfd import Driver, Monitor, MonitoredSession, State

SECONDS = 60
LOAD = 200_000
MANY = 300
DETECTIONS = 10

Started = Callable[[Wire], AbstractContextManager[None]]


def run(*, rounds: int | None = None, quick: bool = False) -> Report:
    """Measure each driver and BIRD; rounds: how many peers are killed."""
    seconds = 1.0 if quick else SECONDS
    report = Report("bfd")
    report.add("seconds under load", seconds, "s")
    report.add("detection time, negotiated", INTERVAL * MULTIPLIER, "s")
    load = scene.Load(2_000 if quick else LOAD)
    _under_load(report, "BIRD", _bird, load, seconds)
    _under_load(report, "thread", _driver(Driver.THREAD), load, seconds)
    _under_load(report, "process", _driver(Driver.PROCESS), load, seconds)
    _detection(report, load, rounds or (1 if quick else DETECTIONS))
    _many(report, load, 3 if quick else MANY, seconds)
    return report


@contextmanager
def _bird(wire: Wire) -> Iterator[None]:
    with scene.bird(wire.node, NODE, [ROUTER]):
        yield


def _driver(driver: Driver) -> Started:
    @contextmanager
    def started(wire: Wire) -> Iterator[None]:
        with wire.node.run(lambda: Monitor.open(driver=driver)) as monitor:
            monitor.add(ROUTER, local=NODE, interval=INTERVAL, multiplier=MULTIPLIER)
            yield

    return started


def _under_load(
    report: Report, name: str, started: Started, load: scene.Load, seconds: float
) -> None:
    with scene.wire() as wire, scene.bird(wire.router, ROUTER, [NODE]):
        capture = scene.Capture(wire.router)
        with started(wire), scene.burner():
            _until_up(capture, name)
            load.run(seconds)
            seen = capture.take()
        capture.close()
    found = scene.flaps(seen)
    goal = None if name == "thread" else at_most(0)  # what a busy interpreter can do at its best
    report.add(f"flaps: {name}", found, "", reference="seconds under load", goal=goal)
    gaps = scene.gaps(seen, NODE)
    report.add(f"gap between packets: {name}, p50", median(gaps), "s")
    report.add(f"gap between packets: {name}, p99", quantiles(gaps, n=100)[-1], "s")
    report.add(
        f"gap between packets: {name}, longest", gaps[-1], "s",
        reference="detection time, negotiated",
    )  # fmt: skip


def _until_up(capture: scene.Capture, name: str) -> None:
    end = time.monotonic() + 10
    up: set[str] = set()
    while len(up) < 2:
        if time.monotonic() > end:
            raise BenchmarkError(f"{name}: the session does not come up")
        time.sleep(0.05)
        up |= {one.source for one in capture.take() if one.packet.state is State.UP}


def _detection(report: Report, load: scene.Load, rounds: int) -> None:
    """From the last packet of a peer that is killed, under load, to what we say of it."""
    taken = []
    for _ in range(rounds):
        with scene.wire() as wire, wire.node.run(Monitor.open) as monitor, scene.burner():
            session = monitor.add(ROUTER, local=NODE, interval=INTERVAL, multiplier=MULTIPLIER)
            capture = scene.Capture(wire.router)
            with scene.bird(wire.router, ROUTER, [NODE]) as peer:
                _require_up([session])
                load.run(1)
                peer.kill()
                load.run(1)
                last = max(one.time for one in capture.take() if one.source == ROUTER)
            capture.close()
            taken.append(_down_at(monitor) - last)
    report.add(
        "silence until Down: process, p50", median(taken), "s",
        reference="detection time, negotiated", goal=at_most(1.1),
    )  # fmt: skip
    report.add(
        "silence until Down: process, longest", max(taken), "s",
        reference="detection time, negotiated",
    )  # fmt: skip


def _down_at(monitor: Monitor) -> float:
    """When the session failed, by the clock that stamps packets."""
    offset = time.time() - time.monotonic()
    for change in monitor.changes(timeout=0):
        if change.is_failure:
            return change.at + offset
    raise BenchmarkError("a dead peer was not noticed")


def _require_up(sessions: list[MonitoredSession]) -> None:
    end = time.monotonic() + 20
    for session in sessions:
        if not session.wait(State.UP, timeout=max(0.1, end - time.monotonic())):
            raise BenchmarkError(f"{session!r} does not come up")


def _many(report: Report, load: scene.Load, count: int, seconds: float) -> None:
    with scene.wire(count) as wire:
        ours = [scene.node_address(number) for number in range(count)]
        with (
            scene.bird(wire.router, ROUTER, ours),
            wire.node.run(Monitor.open) as monitor,
            scene.burner(),
        ):
            sessions = [
                monitor.add(ROUTER, local=one, interval=INTERVAL, multiplier=MULTIPLIER)
                for one in ours
            ]
            _require_up(sessions)
            before = _processor_seconds(monitor.pid)
            load.run(seconds)
            used = _processor_seconds(monitor.pid) - before
            found = sum(one.statistics.failures for one in sessions)
    name = f"{count} sessions, process"
    report.add(f"flaps: {name}", found, "", reference="seconds under load", goal=at_most(0))
    report.add(f"processor time: {name}", max(used, 0.01), "s", reference="seconds under load")


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
