# SPDX-License-Identifier: Apache-2.0
"""What announcing and learning routes costs, beside BIRD, GoBGP and ExaBGP in the same run.

Every sender announces over one veth pair to the same BIRD, which is asked for its count. BIRD to
BIRD is the limit. Times start at the command to announce, on a session that is up.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.bgp_senders import Process, bird_statics, sender
from benchmarks.errors import BenchmarkError
from benchmarks.report import Report, at_most
from tests.bgp.lab import OURS, THEIRS, Bird, Wire, bird_peer, wire

SIZES = (1_000, 10_000, 100_000, 1_000_000)
GOBGP_SIZES, EXABGP_SIZES = (10_000, 100_000), (10_000, 100_000)
LIMIT = 240.0  # seconds for one measurement


def run(*, rounds: int | None = None, quick: bool = False) -> Report:
    """Measure everything once; rounds: how often the small sizes are measured, the best counts."""
    report = Report("bgp")
    sizes = (200,) if quick else SIZES
    large = sizes[-2] if len(sizes) > 1 else sizes[0]
    for count in sizes:
        repeats = 1 if count >= 1_000_000 else (rounds or (1 if quick else 3))
        _announce(report, count, repeats, quick=quick)
    _different(report, large)
    for count in sizes[-2:]:
        _receive(report, count)
    _why(report, sizes[-1])
    _failover(report, large)
    return report


def _announce(report: Report, count: int, repeats: int, *, quick: bool) -> None:
    name = f"{count:,} routes announced"
    kinds = ["BIRD", "pycilium"]
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for _ in range(repeats):
        for kind in kinds:
            found[kind].append(_once(kind, count))
    best = {kind: min(many, key=lambda one: one["up"]) for kind, many in found.items()}
    gone = {kind: min(one["gone"] for one in many) for kind, many in found.items()}
    report.add(f"{name}, BIRD", best["BIRD"]["up"], "s")
    limit = at_most(3) if count == 100_000 else None
    ours = best["pycilium"]
    report.add(f"{name}, pycilium", ours["up"], "s", reference=f"{name}, BIRD", goal=limit)
    report.add(f"{count:,} withdrawn, BIRD", gone["BIRD"], "s")
    report.add(f"{count:,} withdrawn, pycilium", gone["pycilium"], "s",
               reference=f"{count:,} withdrawn, BIRD")  # fmt: skip
    report.add(f"{name}, pycilium's processor time", max(ours["cpu"], 0.001), "s")
    memory = at_most(300) if count >= 1_000_000 else None
    report.add(f"{name}, one octet", 1, "B")
    report.add(f"{name}, memory for each", max(ours["memory"], 1), "B",
               reference=f"{name}, one octet", goal=memory)  # fmt: skip
    _others(report, name, count, quick=quick)


def _others(report: Report, name: str, count: int, *, quick: bool) -> None:
    for kind, sizes, goal in (("GoBGP", GOBGP_SIZES, 0.1), ("ExaBGP", EXABGP_SIZES, 0.02)):
        if quick or count in sizes:
            share = 0.9 if kind == "GoBGP" else 1.0
            spent = _once(kind, count, share=share, withdraw=False)
            report.add(f"{name}, {kind}", spent["up"], "s")
            limit = at_most(goal) if count == 100_000 else None
            report.add(f"{name}, pycilium beside {kind}", report[f"{name}, pycilium"].value, "s",
                       reference=f"{name}, {kind}", goal=limit)  # fmt: skip


def _once(
    kind: str, count: int, *, share: float = 1.0, withdraw: bool = True, different: bool = False
) -> dict[str, float]:
    with wire() as net, tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        with (
            Bird(net.there, where / "receiver", bird_peer(more="")) as bird,
            sender(kind, net, where, count, different=different) as one,
        ):
            _until(lambda: bird.is_up)
            before = _usage(one.pid)
            begin = one.announce()
            _until(lambda: bird.count() >= count * share)
            spent = {"up": time.monotonic() - begin}
            after = _usage(one.pid)
            spent["memory"] = (after[0] - before[0]) / count
            spent["cpu"] = after[1] - before[1]
            if withdraw:
                begin = one.withdraw()
                _until(lambda: bird.count() == 0)
                spent["gone"] = time.monotonic() - begin
            return spent


def _different(report: Report, count: int) -> None:
    """No two routes share their attributes: as many messages as routes."""
    name = f"{count:,} routes announced, attributes all different"
    limit, ours = (_once(kind, count, different=True) for kind in ("BIRD", "pycilium"))
    report.add(f"{name}, BIRD", limit["up"], "s")
    report.add(f"{name}, pycilium", ours["up"], "s", reference=f"{name}, BIRD")


def _receive(report: Report, count: int) -> None:
    name = f"{count:,} routes received"
    with wire() as net, tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        body = bird_peer(more="") + bird_statics(count, different=False)
        with Bird(net.there, where / "bird", body) as bird, Process(net, where) as process:
            up = process.ask("peer", THEIRS, 64513)
            begin = time.monotonic()
            process.tell("holds", count)
            bird.ask("enable", "s4")
            spent = process.hear() - begin
            reference = f"{count:,} routes announced, BIRD"
            goal = at_most(10) if count >= 1_000_000 else None
            report.add(name, spent, "s", reference=reference, goal=goal)
    if "session up" not in [row.name for row in report.rows]:
        report.add("session up", up, "s")


def _why(report: Report, count: int) -> None:
    with wire() as net, tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        with Bird(net.there, where, bird_peer(more="")) as bird, Process(net, where) as process:
            process.ask("peer", THEIRS, 64513)
            process.ask("prepare", count)
            process.ask("announce")
            _until(lambda: bird.count() >= count)
            report.add(f"why, {count:,} routes", process.ask("why", 1000), "s")


DEATHS = (
    ("closes", signal.SIGKILL, ()),
    ("falls silent, BFD 100 ms x 3", signal.SIGSTOP, ("bfd",)),
    ("falls silent, hold time 3 s", signal.SIGSTOP, ()),
)
_BFD = 'protocol bfd { interface "*" { interval 100 ms; multiplier 3; }; }'


def _failover(report: Report, count: int) -> None:
    """Two peers say the same routes; the one that is in use dies."""
    for name, how, more in DEATHS:
        spent = _moved(count, how, *more)
        report.add(f"{count:,} best paths moved after a peer {name}", spent, "s")


def _moved(count: int, how: signal.Signals, *more: str) -> float:
    with wire() as net, tempfile.TemporaryDirectory() as folder:
        net.address_there("10.0.0.3/24")
        where = Path(folder)
        options = "hold time 3; strict bind on;" + (" bfd on;" if more else "")
        with (
            _one_of_two(net, where / "a", options, THEIRS, count, more) as dying,
            _one_of_two(net, where / "b", options, "10.0.0.3", count, ()) as other,
            Process(net, where, *more) as process,
        ):
            for bird, address in ((dying, THEIRS), (other, "10.0.0.3")):
                process.ask("peer", address, 64513, 3)
                bird.ask("enable", "s4")
                process.ask("holds", count)
            _until(lambda: f"{count} exported" in other.protocol())
            _until(lambda: not more or "Up" in dying.ask("show", "bfd", "sessions"))
            time.sleep(0.3)
            begin = time.monotonic()
            os.kill(dying.pid, how)
            try:
                return process.ask("moved", THEIRS) - begin
            finally:
                os.kill(dying.pid, signal.SIGCONT)


def _one_of_two(
    net: Wire, where: Path, options: str, local: str, count: int, more: tuple[str, ...]
) -> Bird:
    """Only one BIRD can have the port of BFD, and it is the one that dies."""
    watched = options if more or "bfd" not in options else options.replace(" bfd on;", "")
    body = bird_peer(watched, local=local, more="") + bird_statics(count, different=False)
    return Bird(net.there, where, body + (_BFD if more else ""), router_id=local)


def _until(question: Callable[[], object]) -> None:
    end = time.monotonic() + LIMIT
    while not question():
        if time.monotonic() > end:
            raise BenchmarkError(f"not within {LIMIT:g} s")
        time.sleep(0.003)


def _usage(pid: int) -> tuple[float, float]:
    """Resident octets and processor seconds of a process."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    memory = int(status.split("VmRSS:")[1].split()[0]) * 1024
    return memory, (int(fields[11]) + int(fields[12])) / 100


__all__ = ["OURS", "Wire", "run"]
