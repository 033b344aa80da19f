# SPDX-License-Identifier: Apache-2.0
"""A container's network: ADD and DEL of the CNI plugin, beside bridge with host-local.

Both are called as a container runtime calls them: a process for each call, the configuration on
its standard input, the namespace in its environment, from a node that is a namespace of the run's
own. A round adds and removes one container by every plugin, in turn. "tcx" is the same plugin on
TCX links in place of clsact filters; "alone" has no agent, so each call starts a Python. A
container with the same labels is there already, as of a deployment with several; "first of its
labels" is one whose policy set has to be made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from statistics import median

from benchmarks.cni_callers import Caller, Calls, bridge, pycilium
from benchmarks.report import Report, at_most
from pycilium.net import NetNS

ROUNDS = 60
ALONE_ROUNDS = 5
SIZES = (10, 1_000)
WORKERS = (8, 32)
BASE = "bridge + host-local"


def run(*, rounds: int | None = None, quick: bool = False) -> Report:
    """Measure the calls; P99 of few rounds is their worst."""
    count = rounds or (2 if quick else ROUNDS)
    report = Report("node")
    with NetNS.create() as node, ExitStack() as stack:
        ours = stack.enter_context(pycilium(node, "clsact"))
        callers = {
            BASE: stack.enter_context(bridge(node)),
            "pycilium": ours,
            "pycilium, tcx": stack.enter_context(pycilium(node, "tcx")),
        }
        both = {name: callers[name] for name in (BASE, "pycilium")}
        with _each_has_one(list(callers.values())):
            _report_calls(report, _interleaved(callers, count))
            for workers in (2,) if quick else WORKERS:
                _report_concurrent(report, both, workers, 4 if quick else 64)
        _report_first(report, ours, count)
        _report_alone(report, ours, 2 if quick else ALONE_ROUNDS)
        for size in (3,) if quick else SIZES:
            _report_flat(report, ours, size, count)
    return report


def _interleaved(callers: dict[str, Caller], rounds: int) -> dict[str, Calls]:
    """Namespaces go at the end: the kernel takes them apart later, and holds up who comes then."""
    calls = {name: Calls() for name in callers}
    with _pods((rounds + 2) * len(callers)) as pods:
        turns = iter(pods)
        for number in range(rounds + 2):
            for name in list(callers) if number % 2 else list(callers)[::-1]:
                added, removed = callers[name].turn(next(turns))
                if number >= 2:  # the first ones make bridges and warm caches
                    calls[name].add.append(added)
                    calls[name].delete.append(removed)
    return calls


def _report_calls(report: Report, calls: dict[str, Calls]) -> None:
    for kind in ("ADD", "DEL"):
        for name, one in calls.items():
            times = one.add if kind == "ADD" else one.delete
            base = name == BASE
            goal = at_most(1.0) if name == "pycilium" and kind == "ADD" else None
            for word, value in (("p50", median(times)), ("p99", _p99(times))):
                report.add(
                    f"{kind} {word}: {name}",
                    value * 1e3,
                    "ms",
                    reference=None if base else f"{kind} {word}: {BASE}",
                    goal=goal if word == "p50" else None,
                )


@contextmanager
def _each_has_one(callers: Sequence[Caller]) -> Iterator[None]:
    with ExitStack() as stack:
        pods = stack.enter_context(_pods(len(callers)))
        for caller, pod in zip(callers, pods, strict=True):
            stack.enter_context(caller.standing([pod]))
        yield


def _report_first(report: Report, caller: Caller, rounds: int) -> None:
    with _pods(rounds) as pods:
        times = [caller.turn(pod)[0] for pod in pods]
    name = "ADD p50: pycilium, first of its labels"
    report.add(name, median(times) * 1e3, "ms", reference=f"ADD p50: {BASE}")


def _report_alone(report: Report, caller: Caller, rounds: int) -> None:
    """Without an agent: what a restart costs the containers that come meanwhile."""
    with caller.without_agent() as alone, _pods(rounds) as pods:
        times = [alone.turn(pod)[0] for pod in pods]
    name = "ADD p50: pycilium, alone"
    report.add(name, median(times) * 1e3, "ms", reference=f"ADD p50: {BASE}")


def _report_concurrent(
    report: Report, callers: dict[str, Caller], workers: int, count: int
) -> None:
    for name, caller in callers.items():
        with _pods(count) as pods, ThreadPoolExecutor(workers) as pool:
            times = list(pool.map(caller.add, pods))
            list(pool.map(caller.delete, pods))
        reference = None if name == BASE else f"ADD p50, {workers} at once: {BASE}"
        report.add(
            f"ADD p50, {workers} at once: {name}", median(times) * 1e3, "ms", reference=reference
        )


def _report_flat(report: Report, caller: Caller, size: int, rounds: int) -> None:
    """With so many containers on the node already."""
    with _pods(size) as standing, caller.standing(standing), _pods(rounds) as pods:
        times = [caller.turn(pod)[0] for pod in pods]
    base = "ADD p50: pycilium"
    report.add(f"ADD p50: pycilium, {size:,} endpoints", median(times) * 1e3, "ms", reference=base)


@contextmanager
def _pods(count: int) -> Iterator[Sequence[NetNS]]:
    with ExitStack() as stack:
        yield [stack.enter_context(_named()) for _ in range(count)]


def _named() -> NetNS:
    import secrets

    return NetNS.create(f"bench-{secrets.token_hex(6)}")


def _p99(times: Sequence[float]) -> float:
    return sorted(times)[max(0, round(len(times) * 0.99) - 1)]
