# SPDX-License-Identifier: Apache-2.0
"""Very many services by columns: written, changed, deleted, and what they hold in memory.

The limit is the batch write of the same packed entries into maps of the same sizes,
in the order that the columns have. Maps are open and columns made before the clock starts.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from statistics import median

import attrs
import numpy as np

from benchmarks.node_datapath import Node
from benchmarks.report import Report, at_most
from benchmarks.rounds import interleave
from pycilium import Backend, ServiceLB
from pycilium.lb.columns import ServiceColumns
from pycilium.libbpf import Map
from pycilium.model import Frontend
from pycilium.net import NetNS

ROUNDS = 5
SIZES = (10_000, 100_000)
BACKENDS = 10
HEAP = 1024  # bytes per service
OBJECTS = 10_000  # 100,000 services of ten backends as objects are a million of Backend

_MAPS = ("pcl_backends", "pcl_slots", "pcl_services")
_VIP, _POD, _PORT = 0x0A60_0000, 0x0B00_0000, 8080

Entries = dict[str, tuple[bytes, bytes, int]]


@attrs.frozen
class Load:
    """Services, and backends of each."""

    services: int
    backends: int

    def __str__(self) -> str:
        return f"{self.services:,} services of {self.backends} backends"

    @property
    def sizes(self) -> dict[str, int]:
        """Room for these, and as much again for what changes."""
        needed = self.services * self.backends + 1_000
        return {"pcl_services": self.services + 1_000} | dict.fromkeys(_MAPS[:2], needed)

    def columns(self, *, first_port: int = _PORT) -> ServiceColumns:
        """The services; `first_port` is that of the first backend alone."""
        total = self.services * self.backends
        ports = np.full(total, _PORT)
        ports[:1] = first_port
        return ServiceColumns.ipv4(
            _VIP + np.arange(self.services),
            np.full(self.services, 80),
            np.full(self.services, self.backends),
            _POD + np.arange(total),
            ports,
        )

    def objects(self) -> list[ServiceLB]:
        """The same, one by one."""
        return [self._object(number) for number in range(self.services)]

    def _object(self, number: int) -> ServiceLB:
        pods = range(number * self.backends, (number + 1) * self.backends)
        backends = [Backend(ip_address(_POD + pod), _PORT) for pod in pods]
        return ServiceLB(Frontend(ip_address(_VIP + number), 80), backends=backends)


@attrs.frozen
class Sample:
    """Seconds of one round."""

    cold: float
    change: float
    delete: float


def add(report: Report, *, rounds: int | None, quick: bool) -> None:
    """Add the rows of every size."""
    loads = [Load(20, 3)] if quick else [Load(size, BACKENDS) for size in SIZES]
    rounds = min(rounds or ROUNDS, 1 if quick else ROUNDS)
    for load in loads:
        _add_times(report, load, rounds)
        _add_memory(report, load)


def _add_times(report: Report, load: Load, rounds: int) -> None:
    entries = _entries(load)
    measures: dict[str, Callable[[], Sample]] = {
        "raw": lambda: Sample(_write_raw(load, entries), 0, 0),
        "columns": lambda: _by_columns(load),
    }
    if load.services <= OBJECTS:
        measures["objects"] = lambda: Sample(_by_objects(load), 0, 0)
    samples = interleave(measures, rounds, lambda measure: measure())
    limit = f"{load}, raw batches of the same entries"
    report.add(limit, _median(samples["raw"], "cold"), "s")
    columns = samples["columns"]
    report.add(
        f"{load}, by columns", _median(columns, "cold"), "s", reference=limit, goal=at_most(2.5)
    )
    if "objects" in samples:
        report.add(f"{load}, objects", _median(samples["objects"], "cold"), "s", reference=limit)
    report.add(f"{load}, one backend changed by columns", _median(columns, "change"), "s")
    report.add(f"{load}, deleted by columns", _median(columns, "delete"), "s", reference=limit)


def _median(samples: list[Sample], field: str) -> float:
    return median(getattr(sample, field) for sample in samples)


def _entries(load: Load) -> Entries:
    """What stands in the maps once the columns are written."""
    with NetNS.create() as namespace, Node.open(namespace, sizes=load.sizes) as node:
        node.datapath.services.apply_columns(load.columns())
        return {name: _sorted(node.datapath.object.maps[name]) for name in _MAPS}


def _sorted(table: Map) -> tuple[bytes, bytes, int]:
    """By number where the key is one: a hash table would give them bucket by bucket."""
    keys, values, count = table.batch_lookup()
    if table.key_size != 4:
        return keys, values, count
    order = np.frombuffer(keys, np.uint32).argsort()
    rows = np.frombuffer(values, np.uint8).reshape(count, -1)
    return np.frombuffer(keys, np.uint32)[order].tobytes(), rows[order].tobytes(), count


def _write_raw(load: Load, entries: Entries) -> float:
    with NetNS.create() as namespace, Node.open(namespace, sizes=load.sizes) as node:
        maps = node.datapath.object.maps
        begin = time.perf_counter()
        for name, (keys, values, count) in entries.items():
            maps[name].batch_update(keys, values, count)
        return time.perf_counter() - begin


def _by_columns(load: Load) -> Sample:
    first, second = load.columns(), load.columns(first_port=_PORT + 1)
    none = Load(0, 0).columns()
    with NetNS.create() as namespace, Node.open(namespace, sizes=load.sizes) as node:
        times = []
        for wanted in (first, second, none):
            begin = time.perf_counter()
            node.datapath.services.apply_columns(wanted)
            times.append(time.perf_counter() - begin)
    return Sample(*times)


def _by_objects(load: Load) -> float:
    wanted = load.objects()
    with NetNS.create() as namespace, Node.open(namespace, sizes=load.sizes) as node:
        begin = time.perf_counter()
        node.apply_services(wanted)
        return time.perf_counter() - begin


def _add_memory(report: Report, load: Load) -> None:
    heap = f"{load}, Python heap per service, by columns"
    with NetNS.create() as namespace, Node.open(namespace, sizes=load.sizes) as node:
        services, columns = node.datapath.services, load.columns()
        used = _heap(lambda: services.apply_columns(columns))
        allowed = f"{load}, Python heap per service, allowed"
        report.add(allowed, HEAP, "B")
        report.add(heap, used / load.services, "B", reference=allowed, goal=at_most(1))
        maps = node.datapath.object.maps
        held = sum(_locked(maps[name]) for name in _MAPS)
        report.add(f"{load}, kernel memory of the maps", held / 2**20, "MiB")


def _heap(action: Callable[[], object]) -> int:
    """Bytes that are still held afterwards."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def _locked(table: Map) -> int:
    """Bytes as the kernel counts them (fdinfo)."""
    lines = Path(f"/proc/self/fdinfo/{table.fd}").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("memlock"))
