# SPDX-License-Identifier: Apache-2.0
"""What a datapath is opened with, checked before anything is loaded."""

from __future__ import annotations

import enum
import time
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

import attrs

from pycilium.errors import SpecError
from pycilium.libbpf import ObjectSpec

SYN_SECONDS, TCP_SECONDS, CLOSING_SECONDS, OTHER_SECONDS = 60, 8000, 10, 60
HAIRPIN_IPV4 = ip_address("169.254.42.1")
HAIRPIN_IPV6 = ip_address("fd00:169:254:42::1")
GATEWAY_IPV4, GATEWAY_IPV6 = "169.254.1.1", "fe80::1"
MAX_POLICY_ENTRIES = 16384
_CLOCK_MONOTONIC_COARSE = 6  # linux/time.h; it advances once a jiffy
_RESIZABLE = (
    "pcl_endpoints", "pcl_addresses", "pcl_ipcache", "pcl_policies", "pcl_services", "pcl_slots",
    "pcl_backends", "pcl_ct4", "pcl_ct6", "pcl_fragments", "pcl_events",
)  # fmt: skip


class Events(enum.Enum):
    """What the kernel reports as it happens; counters are always on."""

    NONE = "none"
    DROPS = "drops"
    VERDICTS = "verdicts"


def _events(value: Events | str) -> Events:
    try:
        return Events(value)
    except ValueError:
        allowed = ", ".join(one.value for one in Events)
        raise SpecError("events", value, f"one of {allowed}") from None


def _sizes(value: Mapping[str, int] | None) -> dict[str, int]:
    sizes = dict(value or {})
    for name, size in sizes.items():
        if name not in _RESIZABLE:
            raise SpecError("sizes", name, f"one of {', '.join(_RESIZABLE)}")
        if not isinstance(size, int) or size < 1:
            raise SpecError(f"sizes[{name}]", size, "a number of entries above zero")
    return sizes


@attrs.frozen(kw_only=True)
class Config:
    """The options of Datapath.open()."""

    sizes: dict[str, int] = attrs.field(factory=dict, converter=_sizes, hash=False)
    events: Events = attrs.field(default=Events.VERDICTS, converter=_events)
    allow_host: bool = True
    ipv4: bool = True
    ipv6: bool = True
    services: bool = True

    def variables(self, spec: ObjectSpec, *, trace: bool = False) -> dict[str, Any]:
        """The .rodata of the endpoint object."""
        levels = spec.enums["pcl_events_level"]
        level = Events.NONE if trace else self.events
        hertz = round(1 / time.clock_getres(_CLOCK_MONOTONIC_COARSE))
        config = {
            "trace": int(trace),
            "events": levels[f"PCL_EVENTS_{level.name}"],
            "ipv4": int(self.ipv4),
            "ipv6": int(self.ipv6),
            "services": int(self.services),
            "syn_timeout": SYN_SECONDS * hertz,
            "tcp_timeout": TCP_SECONDS * hertz,
            "closing_timeout": CLOSING_SECONDS * hertz,
            "other_timeout": OTHER_SECONDS * hertz,
            "hairpin_ipv4": int.from_bytes(HAIRPIN_IPV4.packed, "little"),
            "hairpin_ipv6": HAIRPIN_IPV6.packed,
        }
        return {"pcl_config": config}

    def max_entries(self) -> dict[str, int]:
        """Sizes by map; the epochs go with the policies."""
        sizes = dict(self.sizes)
        if "pcl_policies" in sizes:
            sizes["pcl_epochs"] = sizes["pcl_policies"]
        return sizes
