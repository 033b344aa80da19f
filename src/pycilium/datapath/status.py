# SPDX-License-Identifier: Apache-2.0
"""How a datapath is: hooks, features, how full the maps are, what was dropped."""

from __future__ import annotations

import attrs

from pycilium.datapath import hooks
from pycilium.datapath.context import Context
from pycilium.libbpf import MapType, features

_COUNTED = (MapType.HASH, MapType.LRU_HASH, MapType.LPM_TRIE)


@attrs.frozen
class MapUse:
    """Entries of a map, and how many it holds."""

    name: str
    used: int
    size: int


@attrs.frozen
class Status:
    """A snapshot; str() is a report."""

    hooks: str
    endpoints: int
    policies: int
    services: int
    maps: tuple[MapUse, ...]
    missing: tuple[str, ...]
    drops: dict[str, int]
    programs: dict[str, int]

    def __str__(self) -> str:
        lines = [
            f"hooks      {self.hooks}",
            f"endpoints  {self.endpoints}, policies {self.policies}, services {self.services}",
            *(f"program    {name}: {count} instructions verified" for name, count in self.programs.items()),
            *(f"map        {use.name}: {use.used} of {use.size}" for use in self.maps),
            *(f"missing    {text}" for text in self.missing),
            *(f"dropped    {reason}: {count} packets" for reason, count in self.drops.items()),
        ]
        return "\n".join(lines)


def counters(context: Context) -> dict[str, tuple[int, int]]:
    """Packets and bytes by reason, those that are not zero."""
    found = {}
    reasons = {int(reason): reason.name for reason in context.spec.enums["pcl_reason"]}
    for number, per_cpu in context.map("pcl_counters").pairs():
        packets = sum(one.packets for one in per_cpu)
        if packets and number in reasons:
            name = reasons[number].removeprefix("PCL_")
            found[name] = (packets, sum(one.bytes for one in per_cpu))
    return found


def snapshot(context: Context, *, endpoints: int, services: int) -> Status:
    """Ask the kernel."""
    uses = [
        MapUse(name, len(one), one.max_entries)
        for name, one in context.object.maps.items()
        if one.type in _COUNTED and name != "pcl_manifest"
    ]
    missing = [
        f"{f.name} (Linux {f.since})" if f.since else f.name
        for f in features.report()
        if not f.present and (f.name != "bpffs" or context.pin is not None)
    ]
    drops = {n: packets for n, (packets, _) in counters(context).items() if n.startswith("DROP")}
    programs = {name: one.verified_insns for name, one in context.object.programs.items()}
    return Status(
        hooks.kind(), endpoints, len(context.policies), services, tuple(uses), tuple(missing), drops, programs
    )
