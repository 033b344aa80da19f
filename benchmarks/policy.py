# SPDX-License-Identifier: Apache-2.0
"""What policies cost: a cold start, one change until the kernel enforces it, verdicts.

A cluster of N label sets in namespaces of a hundred each, a thousand policies, and a node with
some of the label sets as endpoints' own: their policy sets are in a real kernel. The limit of
verdicts is a dictionary look-up for each; growth is the exponent between sizes.
"""

from __future__ import annotations

import math
import time
import tracemalloc
from collections.abc import Iterator
from statistics import median, quantiles

from benchmarks.report import Report
from pycilium import Datapath, Policy
from pycilium.model import Labels
from pycilium.net import NetNS
from pycilium.policy import Peer, PolicySet

POLICIES = 1_000
SIZES = (100, 1_000, 10_000)
LOCAL = 50
CHANGES = 30
PER_NAMESPACE = 100
APPS = 20


def run(*, rounds: int | None = None, quick: bool = False) -> Report:
    """Measure every size; rounds: how many changes of each kind."""
    sizes = (20, 40) if quick else SIZES
    count = 20 if quick else POLICIES
    report = Report("policy")
    cold = {}
    for size in sizes:
        cold[size] = _node(report, size, count, rounds or (3 if quick else CHANGES))
    small, large = sizes[0], sizes[-1]
    exponent = math.log(cold[large] / cold[small]) / math.log(large / small)
    report.add(f"growth of the cold start, {small:,} to {large:,}", exponent, "exponent")
    _verdicts(report, count, 500 if quick else 50_000)
    return report


def labels(number: int) -> Labels:
    """One of many label sets."""
    namespace, index = divmod(number, PER_NAMESPACE)
    own = {"app": f"app{index % APPS}", "tier": f"tier{index}"}
    return Labels.of_pod(own, f"ns{namespace}")


def policies(count: int, namespaces: int) -> list[Policy]:
    """Rules inside namespaces, as most are."""
    return [
        Policy.allow(
            to=f"app=app{i % APPS}",
            from_=f"app=app{(i + 1) % APPS}",
            ports=f"{1024 + i}/tcp",
            name=f"p{i}",
            namespace=f"ns{i % namespaces}",
        )
        for i in range(count)
    ]


def _node(report: Report, size: int, count: int, changes: int) -> float:
    namespaces = max(1, size // PER_NAMESPACE)
    wanted = policies(count, namespaces)
    name = f"{size:,} identities, {count:,} policies"
    with NetNS.create() as ns, ns.run(lambda: Datapath.open(events="none")) as dp:
        held = [dp.identities.acquire(labels(number)) for number in range(size)]
        for identity in held[:: max(1, size // LOCAL)]:
            dp.policies.sets.add(identity.number)
        tracemalloc.start()
        dp.policies.plan(wanted)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        begin = time.perf_counter()
        dp.policies.apply(wanted)
        cold = time.perf_counter() - begin
        report.add(f"{name}: cold", cold, "s")
        report.add(f"{name}: memory to plan, each identity", peak / size, "B")
        _spread(report, f"{name}: one policy added", _added(dp, wanted, changes))
        _spread(report, f"{name}: one identity added", _joined(dp, size, changes))
        prefixes = Policy.allow(to="app=app0", from_="192.0.2.0/24", name="cidr", namespace="ns0")
        begin = time.perf_counter()
        dp.policies.apply([*wanted, prefixes])
        report.add(f"{name}: one prefix added", time.perf_counter() - begin, "s")
    return cold


def _spread(report: Report, name: str, seconds: list[float]) -> None:
    report.add(f"{name}, P50", median(seconds), "s")
    report.add(f"{name}, P99", quantiles(seconds, n=100)[-1], "s")


def _added(dp: Datapath, wanted: list[Policy], changes: int) -> list[float]:
    found = []
    for i in range(changes):
        one = Policy.deny(to=f"app=app{i % APPS}", from_="app=app1", name="new", namespace="ns0")
        begin = time.perf_counter()
        dp.policies.apply([*wanted, one])
        found.append(time.perf_counter() - begin)
    return found


def _joined(dp: Datapath, size: int, changes: int) -> list[float]:
    found = []
    for i in range(changes):
        one = dp.identities.acquire(labels(size + i))
        begin = time.perf_counter()
        dp.policies.refresh()
        found.append(time.perf_counter() - begin)
        dp.identities.release(one)
    return found


def _pairs(count: int) -> Iterator[tuple[Peer, Peer]]:
    peers = [
        Peer(f"ns{i % 10}", {"app": f"app{i % APPS}", "tier": f"tier{i}"}, f"10.0.{i}.1")
        for i in range(200)
    ]
    for i in range(count):
        yield peers[i % 200], peers[(i * 7 + i // 200) % 200]


def _verdicts(report: Report, count: int, asked: int) -> None:
    known = PolicySet(policies(count, 10))
    pairs = list(_pairs(asked))
    table = dict.fromkeys(pairs, True)
    begin = time.process_time()
    for pair in pairs:
        table[pair]
    limit = asked / (time.process_time() - begin)
    begin = time.process_time()
    for source, destination in pairs:
        known.verdict(source, destination, 1024)
    rate = asked / (time.process_time() - begin)
    report.add("verdicts, a dictionary look-up for each", limit, "/s")
    report.add(f"verdicts on {count:,} policies", rate, "/s", reference=None)
