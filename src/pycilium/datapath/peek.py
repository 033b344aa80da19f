# SPDX-License-Identifier: Apache-2.0
"""What a pinned datapath serves, read without taking it over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from pycilium.datapath import pins, serial, service_columns, status
from pycilium.datapath.config import Config
from pycilium.datapath.core import Core
from pycilium.libbpf import ObjectSpec
from pycilium.net import NetNS

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from pycilium.model import ServiceLB


@attrs.frozen
class Peek:
    """Services in force, counters by reason, and how full the service maps are (used, size)."""

    services: tuple[ServiceLB, ...]
    counters: Mapping[str, status.Counter]
    fill: Mapping[str, tuple[int, int]]


def peek(name: str, *, bpffs: str | os.PathLike[str] = "/sys/fs/bpf") -> Peek:
    """Read what Datapath.open(pin=name) left or runs; nothing is written, whoever runs it.

    Raises SpecError where nothing is pinned, ConflictError where it is another version's.
    """
    spec = ObjectSpec.bundled("endpoint")
    where = pins.directory(name, bpffs)
    with NetNS.current() as node, pins.open_object(spec, where) as loaded:
        core = Core(node=node, spec=spec, loaded=loaded, config=Config(), pins=where, sizes={})
        services = serial.load(core.manifest.read()["services"])
        if services is None:
            services = tuple(service_columns.services_of(service_columns.read(core)))
        return Peek(services, status.read_counters(core), _fill(core))


def _fill(core: Core) -> dict[str, tuple[int, int]]:
    """Of hash maps the entries, of the backends' array the rows that stand for one."""
    maps = core.maps
    backends = sum(1 for _, row in maps["pcl_backends"].pairs() if row.state)
    used = {name: len(maps[name]) for name in ("pcl_services", "pcl_source_ranges")}
    used |= {"pcl_backends": backends, "pcl_affinity": len(maps["pcl_affinity"])}
    return {name: (count, maps[name].max_entries) for name, count in used.items()}
