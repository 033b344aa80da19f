# SPDX-License-Identifier: Apache-2.0
"""What the balancer is doing: devices and their mode, packets by reason and place, maps."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import attrs

from pycilium.datapath.status import Fill

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pycilium.datapath.xdp import BalancerCore
    from pycilium.datapath.xdp_device import BalancerDevice
    from pycilium.datapath.xdp_plan import State
    from pycilium.libbpf import Map, ObjectSpec

_FLOWS = ("pcl_xdp_flows4", "pcl_xdp_flows6")


@attrs.frozen
class ReasonCounter:
    """Packets and bytes, all CPUs together, and the place in the code that counted last."""

    packets: int
    bytes: int
    place: str


@attrs.frozen
class BalancerStatus:
    """One look at everything; counters by name in enum pcl_xdp_reason."""

    devices: tuple[BalancerDevice, ...]
    services: int
    backends: int
    forwarded: int
    counters: Mapping[str, ReasonCounter]
    maps: Mapping[str, Fill]

    @property
    def drops(self) -> dict[str, ReasonCounter]:
        """The counters of reasons to drop."""
        return {name: one for name, one in self.counters.items() if "_DROP_" in name}

    def rows(self) -> list[tuple[str, str]]:
        """Label and value of every line."""
        devices = [
            (one.name, one.mode.value + (f" ({one.note})" if one.note else ""))
            for one in self.devices
        ]
        counted = [
            (name, f"{one.packets} packets, last at {one.place}")
            for name, one in self.counters.items()
        ]
        return [
            *devices,
            ("services", str(self.services)),
            ("backends", str(self.backends)),
            *((name, str(fill)) for name, fill in self.maps.items()),
            ("forwarded", f"{self.forwarded} packets"),
            *counted,
        ]

    def __str__(self) -> str:
        return "\n".join(f"{label:<28} {value}" for label, value in self.rows())

    def _repr_html_(self) -> str:
        cells = (f"<tr><td>{escape(a)}</td><td>{escape(b)}</td></tr>" for a, b in self.rows())
        return f"<table>{''.join(cells)}</table>"


def read_status(core: BalancerCore, state: State) -> BalancerStatus:
    """Ask the kernel's maps; flow tables are counted entry by entry."""
    statistics = core.statistics.read(list(state.vips.values()))
    maps = {
        "pcl_xdp_rings": Fill(state.rings.used, core.maps["pcl_xdp_rings"].max_entries),
        "pcl_xdp_backends": Fill(state.rows.used, core.maps["pcl_xdp_backends"].max_entries),
        **{name: Fill(len(core.maps[name]), core.maps[name].max_entries) for name in _FLOWS},
    }
    return BalancerStatus(
        devices=tuple(one.device for one in core.attached),
        services=len(state.vips),
        backends=sum(len(vip.members) for vip in state.vips.values()),
        forwarded=sum(one.packets for one in statistics),
        counters=read_counters(core.spec, core.maps["pcl_xdp_counters"]),
        maps=maps,
    )


def read_counters(spec: ObjectSpec, table: Map) -> dict[str, ReasonCounter]:
    """Every reason that was counted."""
    reasons, files = spec.enums["pcl_xdp_reason"], spec.enums["pcl_xdp_file"]
    found = {}
    for number, cpus in table.pairs():
        packets = sum(one.packets for one in cpus)
        if packets:
            counted = sum(one.bytes for one in cpus)
            found[reasons(number).name] = ReasonCounter(packets, counted, _place(files, cpus))
    return found


def _place(files: Any, cpus: list[Any]) -> str:
    last = max(cpus, key=lambda one: one.packets)
    name = files(last.file).name.removeprefix("PCL_XDP_FILE_").lower()
    return f"{name}.{'bpf.c' if name == 'xdp' else 'h'}:{last.line}"
