# SPDX-License-Identifier: Apache-2.0
"""What it costs to bring state into the kernel: entries, services, one change.

Beside it stand the same entries written from C with one system call each, and
the same services written by kube-proxy's tools, whose times hold the start of
their process, as kube-proxy pays it. One change of ours is the median of ten in
a row; it stands again for one alone, after something else has used the
processor's caches. All of it runs in namespaces of the run's own, interleaved
round by round; a figure is the median of the rounds.
"""

from __future__ import annotations

import itertools
import subprocess
import time
from collections.abc import Callable, Sequence
from statistics import median

import attrs
import numpy as np

from benchmarks import build, command, kubeproxy
from benchmarks.contenders import TARGET
from benchmarks.node_datapath import Node
from benchmarks.report import Goal, Report, at_most
from benchmarks.rounds import interleave
from pycilium import ServiceLB
from pycilium.libbpf import ObjectSpec
from pycilium.net import NetNS

ROUNDS = 5
ENTRIES = 1_000_000
BATCH = 10_000
SERVICES = 10_000
NFT_SERVICES = 1_000  # nft takes most of a minute for one transaction of 10,000

Measure = Callable[[], float]


@attrs.frozen
class Sizes:
    """How much of everything."""

    entries: int = ENTRIES
    services: int = SERVICES
    nft_services: int = NFT_SERVICES


def run(*, rounds: int | None = None, quick: bool = False) -> Report:
    """Measure writing many entries, many services, and one change."""
    sizes = Sizes(1_000, 20, 10) if quick else Sizes()
    rounds = rounds or (1 if quick else ROUNDS)
    report = Report("program")
    _compare(report, "s", rounds, _entries(sizes.entries), goal=at_most(0.45))
    _compare(report, "s", rounds, _cold(sizes), goal=at_most(0.4))
    with NetNS.create() as ours, NetNS.create() as theirs, Node.open(ours) as node:
        changes = _changes(node, theirs, sizes.services)
        _compare(report, "s", rounds, changes, goal=at_most(0.0005))
    return report


def _compare(
    report: Report, unit: str, rounds: int, measures: dict[str, Measure], *, goal: Goal
) -> None:
    """Rows for all; the first is the reference, the second is ours and has the goal."""
    samples = interleave(measures, rounds, lambda measure: measure())
    reference, ours, *_ = measures
    for name, measured in samples.items():
        report.add(
            name,
            median(measured),
            unit,
            reference=None if name == reference else reference,
            goal=goal if name == ours else None,
        )


def _entries(count: int) -> dict[str, Measure]:
    return {
        f"{count:,} map entries, C, one system call each": lambda: _mapwrite(count, 1),
        f"{count:,} map entries, pycilium": lambda: _bulk(count),
        f"{count:,} map entries, C, in batches": lambda: _mapwrite(count, BATCH),
    }


def _mapwrite(count: int, batch: int) -> float:
    command_line = [str(build.tool("mapwrite")), str(count), str(batch)]
    output = subprocess.run(command_line, capture_output=True, check=True).stdout
    return int(output) / 1e9


def _bulk(count: int) -> float:
    """Processor seconds for making the columns and writing them, as many as stay in the cache."""
    spec = ObjectSpec.from_file(build.program("bulk"))
    with spec.load(max_entries={"bench_entries": count}) as loaded:
        begin = time.process_time()
        for start in range(0, count, BATCH):
            size = min(BATCH, count - start)
            loaded.maps["bench_entries"].batch_update(*_columns(start, size), size)
        return time.process_time() - begin


def _columns(start: int, size: int) -> tuple[memoryview, memoryview]:
    """Packed keys and values, the same that tools/mapwrite.c writes."""
    keys, values = np.zeros((size, 2), np.uint64), np.empty((size, 2), np.uint64)
    keys[:, 0] = np.arange(start, start + size)
    values[:] = keys[:, :1]
    return keys.data.cast("B"), values.data.cast("B")


def _cold(sizes: Sizes) -> dict[str, Measure]:
    wanted = kubeproxy.services(sizes.services, TARGET)
    few = wanted[: sizes.nft_services]
    rules, table = kubeproxy.iptables.nat_table(wanted), kubeproxy.nftables.nat_table(few)
    return {
        f"{len(wanted):,} services, iptables-legacy-restore": lambda: _restore(
            command.IPTABLES_LEGACY, rules
        ),
        f"{len(wanted):,} services, pycilium": lambda: _apply_cold(wanted),
        f"{len(wanted):,} services, iptables-nft-restore": lambda: _restore(
            command.IPTABLES_NFT, rules
        ),
        f"{len(few):,} services, nft -f": lambda: _restore(command.NFTABLES, table),
    }


def _restore(tool: tuple[str, ...], text: str) -> float:
    with NetNS.create() as namespace:
        return command.feed(namespace, tool, text)


def _apply_cold(services: Sequence[ServiceLB]) -> float:
    with NetNS.create() as namespace, Node.open(namespace) as node:
        return _timed(lambda: node.apply_services(services))


def _changes(node: Node, theirs: NetNS, count: int) -> dict[str, Measure]:
    """One backend moves, in a table of `count` services; for iptables one service comes."""
    wanted = kubeproxy.services(count, TARGET)
    node.apply_services(wanted)
    command.feed(theirs, command.IPTABLES_LEGACY, kubeproxy.iptables.nat_table(wanted))
    numbers = itertools.count(count)
    addition = (*command.IPTABLES_LEGACY, "--noflush")

    def add_rules() -> float:
        added = kubeproxy.service(next(numbers))
        return command.feed(theirs, addition, kubeproxy.iptables.addition(added))

    def move_one() -> float:
        backend = attrs.evolve(wanted[0].backends[0], port=next(numbers) % 50_000 + 1)
        changed = [attrs.evolve(wanted[0], backends=[backend]), *wanted[1:]]
        return _timed(lambda: node.apply_services(changed))

    def move_ten() -> float:
        return median([move_one() for _ in range(10)])

    def move_after_a_pause() -> float:
        add_rules()
        return move_one()

    return {
        f"one change at {count:,} services, iptables-legacy": add_rules,
        f"one change at {count:,} services, pycilium": move_ten,
        f"one change at {count:,} services, pycilium, caches cold": move_after_a_pause,
    }


def _timed(action: Callable[[], object]) -> float:
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin
