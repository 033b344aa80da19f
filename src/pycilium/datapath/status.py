# SPDX-License-Identifier: Apache-2.0
"""What a datapath is doing: hooks, features, how full its maps are, drops by reason."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import attrs

from pycilium.datapath.node_devices import overlap
from pycilium.libbpf import features

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pycilium.datapath.claims import RefusedBind
    from pycilium.datapath.core import Core
    from pycilium.datapath.flows import EventCounts
    from pycilium.datapath.node_devices import NodeDevices
    from pycilium.datapath.sockets import Sockets
    from pycilium.libbpf.features import Feature

_COUNTED = ("pcl_endpoints", "pcl_addresses", "pcl_ipcache", "pcl_services", "pcl_ct4", "pcl_ct6")


@attrs.frozen
class Counter:
    """Packets and bytes, all CPUs together."""

    packets: int
    bytes: int


@attrs.frozen
class Fill:
    """Entries of a map that are used, and how many it can hold."""

    used: int
    size: int

    def __str__(self) -> str:
        return f"{self.used}/{self.size}"


@attrs.frozen
class Status:
    """One look at everything; hooks is "tcx" or "clsact", sockets where which calls are hooked."""

    name: str
    hooks: str
    endpoints: int
    identities: int
    policies: int
    services: int
    maps: Mapping[str, Fill]
    counters: Mapping[str, Counter]
    events: EventCounts
    features: tuple[Feature, ...]
    sockets: str = "off"
    devices: str = "none"
    refused_binds: tuple[RefusedBind, ...] = ()

    @property
    def drops(self) -> dict[str, Counter]:
        """The counters of reasons to drop."""
        return {name: one for name, one in self.counters.items() if "_DROP_" in name}

    def rows(self) -> list[tuple[str, str]]:
        """Label and value of every line."""
        missing = [f"{one.name}: {one.without}" for one in self.features if not one.present]
        return [
            ("datapath", self.name),
            ("hooks", self.hooks),
            ("socket hooks", self.sockets),
            ("devices", self.devices),
            ("endpoints", str(self.endpoints)),
            ("identities", str(self.identities)),
            ("policies", str(self.policies)),
            ("services", str(self.services)),
            *((name, str(fill)) for name, fill in self.maps.items()),
            ("events", f"{self.events.emitted} emitted, {self.events.lost} lost"),
            *((name, f"{one.packets} packets") for name, one in self.counters.items()),
            *(("refused bind", str(one)) for one in self.refused_binds),
            *(("missing", text) for text in missing),
        ]

    def __str__(self) -> str:
        return "\n".join(f"{label:<28} {value}" for label, value in self.rows())

    def _repr_html_(self) -> str:
        cells = (f"<tr><td>{escape(a)}</td><td>{escape(b)}</td></tr>" for a, b in self.rows())
        return f"<table>{''.join(cells)}</table>"


def read_counters(core: Core) -> dict[str, Counter]:
    """Every reason that was counted, by its name in enum pcl_reason."""
    reasons = core.spec.enums["pcl_reason"]
    found = {}
    for number, cpus in core.maps["pcl_counters"].pairs():
        packets = sum(one.packets for one in cpus)
        if packets:
            found[reasons(number).name] = Counter(packets, sum(one.bytes for one in cpus))
    return found


def read_fill(core: Core, policy_slots: int) -> dict[str, Fill]:
    """How full the maps are whose entries come and go."""
    found = {name: Fill(len(core.maps[name]), core.maps[name].max_entries) for name in _COUNTED}
    found["pcl_policies"] = Fill(policy_slots, core.maps["pcl_policies"].max_entries - 1)
    return found


def read_features() -> tuple[Feature, ...]:
    """Probes of this kernel."""
    return tuple(features.report())


def read_sockets(sockets: Sockets) -> str:
    """The cgroup and the calls whose programs are attached there, and those whose are not."""
    if sockets.cgroup is None:
        return "off"
    missing = [name for name in sockets.wanted_hooks if name not in sockets.hooks]
    text = f"{sockets.cgroup}: {' '.join(sockets.hooks) or 'none'}"
    return f"{text}; missing: {' '.join(missing)}" if missing else text


def read_devices(devices: NodeDevices, core: Core) -> str:
    """Those that serve clients outside, and what is not as it should be."""
    shown = []
    for one in devices:
        own = [str(address) for address in (one.ipv4, one.ipv6) if address]
        shown.append(f"{one.name} ({', '.join(own) or 'no address: nothing can leave under it'})")
    return "; ".join(filter(None, (", ".join(shown) or "none", overlap(core))))
