# SPDX-License-Identifier: Apache-2.0
"""What policies cost: a cold start, one change until the kernel enforces it, verdicts.

A cluster of N label sets in namespaces of a hundred each, a thousand policies of which one in
nineteen reaches across namespaces, and a node with fifty of the label sets as endpoints' own: their
policy sets are in a real kernel. Two of the endpoints are real, and after each change a packet
between them must meet the new verdict. Growth is the exponent between sizes.
"""

from __future__ import annotations

import math
import time
import tracemalloc
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from statistics import median, quantiles
from typing import Any

from benchmarks.errors import BenchmarkError
from benchmarks.report import Report, at_least, at_most
from pycilium import Datapath, Policy
from pycilium.datapath.packet import Question
from pycilium.datapath.wire import mac_bytes
from pycilium.model import CidrPeer, Direction, Labels, Rule, RuleRef, Selector
from pycilium.net import NetNS
from pycilium.policy import Peer, PolicySet

POLICIES = 1_000
SIZES = (100, 1_000, 10_000)
LOCAL = 50
CHANGES = 100
PREFIXES = 10_000
PER_NAMESPACE = 100
APPS = 20
WIDE = 19  # one policy in so many; no divisor of APPS, so that every app has some
DROPPED = 2
MS_100 = 0.1
COLD_SECONDS = 10


def run(*, rounds: int | None = None, quick: bool = False) -> Report:
    """Measure every size; rounds: how many changes of each kind."""
    sizes = (20, 40) if quick else SIZES
    count = 20 if quick else POLICIES
    changes = rounds or (3 if quick else CHANGES)
    report = Report("policy")
    report.add("the goal for one change", MS_100, "s")
    report.add("the goal for a cold start", COLD_SECONDS, "s")
    cold = {}
    for size in sizes:
        with NetNS.create() as ns, ns.run(lambda: Datapath.open(events="none")) as dp:
            last = size == sizes[-1]
            cold[size] = _Node(report, dp, size, count, last).measure(changes, quick=quick)
    small, large = sizes[0], sizes[-1]
    exponent = math.log(cold[large] / cold[small]) / math.log(large / small)
    report.add(f"growth of the cold start, {small:,} to {large:,}", max(exponent, 1e-9), "exponent")
    _verdicts(report, count, 500 if quick else 50_000)
    return report


def labels(number: int) -> Labels:
    """One of many label sets."""
    namespace, index = divmod(number, PER_NAMESPACE)
    own = {"app": f"app{index % APPS}", "tier": f"tier{index}"}
    return Labels.of_pod(own, f"ns{namespace}")


def policies(count: int, namespaces: int) -> list[Policy]:
    """Rules inside namespaces, as most are, and some across all of them."""
    return [
        Policy.allow(
            to=f"app=app{i % APPS}",
            from_=f"app=app{(i + 1) % APPS}",
            ports=f"{1024 + i}/tcp",
            name=f"p{i}",
            namespace=None if i % WIDE == 0 else f"ns{i % namespaces}",
        )
        for i in range(count)
    ]


class _Node:
    """One size: a datapath with its policy sets and two real endpoints."""

    def __init__(self, report: Report, dp: Datapath, size: int, count: int, last: bool) -> None:
        self._report = report
        self._dp = dp
        self._size = size
        self._goal = last
        self._name = f"{size:,} identities, {count:,} policies"
        self._wanted = policies(count, max(1, size // PER_NAMESPACE))
        self._rules = sum(len(one.rules) for one in self._wanted)
        self._port = 20_000
        held = [dp.identities.acquire(labels(number)) for number in range(size)]
        for identity in held[:: max(1, size // LOCAL)]:
            dp.policies.sets.add(identity.number)
        self._web = dp.endpoints.create("10.1.0.1", labels=labels(1), name="web")
        self._db = dp.endpoints.create("10.1.0.2", labels=labels(0), name="db")

    def measure(self, changes: int, *, quick: bool) -> float:
        cold = self._cold()
        self._spread("one policy added", self._policy_added(changes))
        self._spread("one pod relabelled", self._relabelled(changes))
        self._spread("one identity added", self._joined(changes))
        count = 10 if quick else PREFIXES
        spent = self._prefixes_added(count, max(3, changes // 10))
        self._spread(f"a rule of {count:,} prefixes added", spent)
        return cold

    def _cold(self) -> float:
        cold = self._time(lambda: self._dp.policies.apply(self._wanted))
        self._dp.policies.apply([])
        tracemalloc.start()
        self._dp.policies.plan(self._wanted)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        self._dp.policies.apply(self._wanted)
        goal = {"reference": "the goal for a cold start", "goal": at_most(1)}
        self._report.add(f"{self._name}: cold", cold, "s", **(goal if self._goal else {}))
        each = peak / (self._size + self._rules)
        self._report.add(f"{self._name}: memory to plan, each identity and rule", each, "B")
        return cold

    def _policy_added(self, changes: int) -> list[float]:
        found = []
        for _ in range(changes):
            one = Policy.deny(to="app=app0", from_="app=app1", name="new", namespace="ns0")
            self._dp.policies.apply(self._wanted)
            self._expect(True)
            found.append(self._time(lambda one=one: self._dp.policies.apply([*self._wanted, one])))
            self._expect(False)
        self._dp.policies.apply(self._wanted)
        return found

    def _relabelled(self, changes: int) -> list[float]:
        """To a label set that nothing allows to reach db, and back."""
        found = []
        for i in range(changes):
            other = Labels.of_pod({"app": "app7", "tier": f"new{i}"}, "ns0")
            self._expect(True)
            found.append(self._time(lambda other=other: self._web.set_labels(other)))
            self._expect(False)
            self._web.set_labels(labels(1))
        return found

    def _joined(self, changes: int) -> list[float]:
        """A label set of another node's: every policy set must know it."""
        found = []
        for i in range(changes):
            one = self._dp.identities.acquire(labels(self._size + i))
            found.append(self._time(self._dp.policies.refresh))
            self._dp.identities.release(one)
        return found

    def _prefixes_added(self, count: int, changes: int) -> list[float]:
        found = []
        blocks = list(ip_network("100.64.0.0/10").subnets(new_prefix=28))[: 4 * count : 4]
        peers = tuple(CidrPeer(one) for one in blocks)
        rule = Rule(Direction.INGRESS, peers, None, ref=RuleRef("prefixes", "p.yaml", 1))
        one = Policy("prefixes", Selector.parse("app=app0").within("ns0"), (rule,), "ns0")
        for _ in range(changes):
            found.append(self._time(lambda: self._dp.policies.apply([*self._wanted, one])))
            self._dp.policies.apply(self._wanted)
        return found

    def _time(self, change: Callable[[], Any]) -> float:
        begin = time.perf_counter()
        change()
        return time.perf_counter() - begin

    def _expect(self, allowed: bool) -> None:
        """A new connection of web's to db meets this verdict, by the program in the kernel."""
        self._port += 1
        question = Question(
            source=self._web.ip,
            destination=self._db.ip,
            protocol=6,
            source_port=self._port,
            destination_port=1024,
            source_mac=mac_bytes(self._web.mac),
            destination_mac=mac_bytes(self._web.device.host_mac),
        )
        program, ctx = (
            self._dp.object.programs["from_endpoint"],
            {"ifindex": self._web.ifindex},
        )
        run = self._dp.node.run(lambda: program.test_run(question.frame(), ctx=ctx))
        if (run.retval != DROPPED) != allowed:
            raise BenchmarkError(f"{self._name}: a change is not in force when it returned")

    def _spread(self, name: str, seconds: list[float]) -> None:
        goal = {"reference": "the goal for one change", "goal": at_most(1)}
        self._report.add(f"{self._name}: {name}, P50", median(seconds), "s")
        p99 = quantiles(seconds, n=100, method="inclusive")[-1]
        self._report.add(f"{self._name}: {name}, P99", p99, "s", **(goal if self._goal else {}))


def _pairs(count: int) -> Iterator[tuple[Peer, Peer]]:
    peers = [
        Peer(f"ns{i % 10}", {"app": f"app{i % APPS}", "tier": f"tier{i}"}, f"10.0.{i}.1")
        for i in range(200)
    ]
    for i in range(count):
        yield peers[i % 200], peers[(i * 7 + i // 200) % 200]


def _verdicts(report: Report, count: int, asked: int) -> None:
    """The goal's own row is the reference, so that the ratio is what is asked for."""
    known = PolicySet(policies(count, 10))
    pairs = list(_pairs(asked))
    begin = time.process_time()
    for source, destination in pairs:
        known.verdict(source, destination, 1024)
    rate = asked / (time.process_time() - begin)
    report.add("the goal for verdicts", 20_000, "/s")
    reference, goal = "the goal for verdicts", at_least(1)
    report.add(f"verdicts on {count:,} policies", rate, "/s", reference=reference, goal=goal)
