# SPDX-License-Identifier: Apache-2.0
"""Connections through a service, end to end over veth, beside kube-proxy's modes.

Client and server run with real-time priority on processors of their own. A
round measures every path once. `plain routed veth` is the limit: no rules, no
connection tracking. The measured service is the last of 1, 1,000 or 10,000, and
for pycilium also of 100,000; kube-proxy's modes stop at 10,000, where one
transaction of nft takes most of a minute and is cut into batches.
A UDP request has a socket of its own. Then the tables are written: benchmarks/columns.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from statistics import median

from benchmarks import columns, contenders
from benchmarks.load import Path, Sample
from benchmarks.report import Goal, Report, at_least, at_most
from benchmarks.rounds import interleave

ROUNDS = 11
CONNECTIONS = 800
ROUND_TRIPS = 800
SIZES = (1, 1_000, 10_000)
OUR_SIZES = (*SIZES, 100_000)
QUICK_SIZES = (1, 3)
PER_PACKET = "pycilium"
AT_SOCKET = "pycilium at the socket"
LIMIT = "plain routed veth"

OURS = {PER_PACKET: False, AT_SOCKET: True}

RULES = {
    "nftables": contenders.nftables,
    "iptables-legacy": contenders.iptables_legacy,
    "iptables-nft": contenders.iptables_nft,
}

Samples = dict[str, list[Sample]]
Choose = Callable[[list[float]], float]


def run(*, rounds: int | None = None, quick: bool = False) -> Report:
    """Measure connections per second, connect times and round trips."""
    sizes = QUICK_SIZES if quick else SIZES
    our_sizes = QUICK_SIZES if quick else OUR_SIZES
    connections, trips = (20, 20) if quick else (CONNECTIONS, ROUND_TRIPS)
    with _paths(sizes, our_sizes) as paths:
        for path in paths.values():  # the first packets meet cold caches and load modules
            path.measure(20, 20)
        samples = interleave(
            paths,
            rounds or (2 if quick else ROUNDS),
            lambda path: path.measure(connections, trips),
        )
    report = _report(samples, sizes, our_sizes)
    columns.add(report, rounds=rounds, quick=quick)
    return report


@contextmanager
def _paths(sizes: tuple[int, ...], our_sizes: tuple[int, ...]) -> Iterator[dict[str, Path]]:
    with ExitStack() as stack:
        paths = [stack.enter_context(contenders.plain())]
        for size in our_sizes:
            for mode, at_socket in OURS.items():
                path = contenders.pycilium(_name(mode, size), size, at_socket=at_socket)
                paths.append(stack.enter_context(path))
        for size in sizes:
            for mode, rules in RULES.items():
                path = contenders.ruled(_name(mode, size), rules, size)
                paths.append(stack.enter_context(path))
        yield {path.name: path for path in paths}


def _report(samples: Samples, sizes: tuple[int, ...], our_sizes: tuple[int, ...]) -> Report:
    report = Report("lb")
    ours = [_name(mode, sizes[-1]) for mode in OURS]
    rates = _values(samples, "rate")
    _add(report, "connections", rates, "1/s", dict.fromkeys(ours, at_least(0.97)))
    for mode in OURS:
        report.add(
            f"connections: {_name(mode, our_sizes[-1])}, beside 1 service",
            report[f"connections: {_name(mode, our_sizes[-1])}"].value,
            "1/s",
            reference=f"connections: {_name(mode, our_sizes[0])}",
            goal=at_least(0.98),
        )
    connects = _values(samples, "connect_p50", scale=1000)
    _add(report, "connect p50", connects, "us", dict.fromkeys(ours, at_most(1.05)))
    _add(report, "connect p99", _values(samples, "connect_p99", scale=1000), "us")
    # Whether a processor sleeps between two bytes doubles a round trip: the best round counts.
    trips = _values(samples, "trip_p50", scale=1000, choose=min)
    _add(report, "round trip p50", trips, "us")
    for field, label in (("udp_p50", "UDP request p50"), ("udp_p99", "UDP request p99")):
        _add(report, label, _values(samples, field, scale=1000), "us")
    return report


def _add(
    report: Report,
    label: str,
    values: dict[str, float],
    unit: str,
    goals: dict[str, Goal] | None = None,
) -> None:
    for name, value in values.items():
        reference = None if name == LIMIT else f"{label}: {LIMIT}"
        goal = goals.get(name) if goals else None
        report.add(f"{label}: {name}", value, unit, reference=reference, goal=goal)


def _values(
    samples: Samples, field: str, *, scale: float = 1, choose: Choose = median
) -> dict[str, float]:
    return {
        name: choose([getattr(sample, field) / scale for sample in measured])
        for name, measured in samples.items()
    }


def _name(mode: str, size: int) -> str:
    return f"{mode}, {size:,} service{'s' if size > 1 else ''}"
