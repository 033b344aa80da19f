# SPDX-License-Identifier: Apache-2.0
"""A scoped datapath in a namespace of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from pycilium import Datapath
from pycilium.libbpf import Map

SMALL = {
    "pcl_endpoints": 16,
    "pcl_addresses": 32,
    "pcl_ipcache": 32,
    "pcl_policies": 8,
    "pcl_epochs": 8,
    "pcl_services": 16,
    "pcl_slots": 64,
    "pcl_backends": 32,
    "pcl_source_ranges": 16,
    "pcl_ct4": 1024,
    "pcl_ct6": 1024,
    "pcl_events": 65536,
}


@pytest.fixture
def dp(node: Any) -> Iterator[Datapath]:
    with node.run(lambda: Datapath.open(sizes=SMALL)) as datapath:
        yield datapath


@attrs.frozen
class State:
    """What the kernel holds: entries as bytes, set contents, program ids on every hook."""

    entries: dict[str, dict[bytes, bytes]]
    sets: dict[int, dict[bytes, bytes]]
    set_ids: dict[int, int]
    epochs: tuple[int, ...]


def raw(table: Map) -> dict[bytes, bytes]:
    keys, values, count = table.batch_lookup()
    k, v = table.key_size, table.value_size
    return {keys[i * k : i * k + k]: values[i * v : i * v + v] for i in range(count)}


def state(datapath: Datapath) -> State:
    maps = datapath.object.maps
    names = (
        "pcl_endpoints",
        "pcl_addresses",
        "pcl_ipcache",
        "pcl_services",
        "pcl_slots",
        "pcl_backends",
        "pcl_source_ranges",
    )
    outer = maps["pcl_policies"]
    set_ids = dict(outer.pairs())
    sets = {}
    for slot, number in set_ids.items():
        with Map.from_id(number, like=outer.inner) as inner:
            sets[slot] = raw(inner)
    epochs = tuple(maps["pcl_epochs"].values())
    return State({name: raw(maps[name]) for name in names}, sets, set_ids, epochs)
