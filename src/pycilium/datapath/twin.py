# SPDX-License-Identifier: Apache-2.0
"""The same programs once more, loaded with tracing on and a conntrack of their own.

They read the live state (endpoints, policies, services, identities) and leave no trace in it:
what they would write goes into small maps that nobody else sees.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from pycilium.libbpf import RingBuffer, split_records

if TYPE_CHECKING:
    from pycilium.datapath.core import Core
    from pycilium.libbpf import Object

_SHARED = (
    "pcl_endpoints",
    "pcl_addresses",
    "pcl_ipcache",
    "pcl_policies",
    "pcl_epochs",
    "pcl_services",
    "pcl_slots",
    "pcl_backends",
    "pcl_affinity",
    "pcl_source_ranges",
    "pcl_devices",
    "pcl_unmasked",
)
_SMALL = {
    "pcl_ct4": 1024,
    "pcl_ct6": 1024,
    "pcl_fragments": 64,
    "pcl_events": 4096,
    "pcl_trace": 65536,
    "pcl_nat_remotes": 8,
}


@attrs.frozen
class Trace:
    """What a traced run did: the program's return value and the records of pcl_trace."""

    action: int
    records: tuple[Any, ...]


class Twin:
    """Loaded on first use, closed with its datapath."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._loaded: Object | None = None
        self._ring: RingBuffer | None = None

    def run(self, program: str, frame: bytes, ifindex: int) -> Trace:
        """Trace one packet as the first of its connection."""
        loaded, ring = self._load()
        for name in ("pcl_ct4", "pcl_ct6"):
            loaded.maps[name].remove(list(loaded.maps[name]))
        ring.drain()
        run = self._core.node.run(
            lambda: loaded.programs[program].test_run(frame, ctx={"ifindex": ifindex})
        )
        decode = self._core.spec.types["pcl_trace_record"].decode
        return Trace(run.retval, tuple(decode(one) for one in split_records(ring.drain())))

    def _load(self) -> tuple[Object, RingBuffer]:
        if self._loaded is None or self._ring is None:
            self._loaded = load_copy(self._core, trace=True)
            self._ring = RingBuffer(self._loaded.maps["pcl_trace"])
        return self._loaded, self._ring

    def close(self) -> None:
        """Unload."""
        if self._ring is not None:
            self._ring.close()
        if self._loaded is not None:
            self._loaded.close()
        self._ring = self._loaded = None


def load_copy(core: Core, *, trace: bool) -> Object:
    """The programs over the live tables and over a conntrack, counters and events of their own."""
    return core.spec.load(
        variables=core.config.variables(trace=trace),
        max_entries=_SMALL,
        reuse={name: core.maps[name] for name in _SHARED},
        disable_maps=("pcl_manifest",),
        disable_programs=core.config.left_out,
    )


def reload_programs(core: Core) -> Object:
    """The programs anew over every map of the datapath."""
    shared = {name: one for name, one in core.maps.items() if "." not in name}
    return core.spec.load(
        variables=core.config.variables(),
        reuse=shared,
        disable_maps=() if core.pins else ("pcl_manifest",),
        disable_programs=core.config.left_out,
    )
