# SPDX-License-Identifier: Apache-2.0
"""The constants of one loaded datapath: timeouts, hairpin addresses, which features are on."""

from __future__ import annotations

import enum
import time
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import attrs

from pycilium.errors import NotSupportedError, SpecError
from pycilium.libbpf import features
from pycilium.model.label_filter import LabelFilter

_CLOCK_MONOTONIC_COARSE = 6  # linux/time.h; Python has no name for it

HAIRPIN_IPV4 = IPv4Address("169.254.42.1")
HAIRPIN_IPV6 = IPv6Address("fd00:169:254:42::1")

# Below the ports that the kernel gives to its own connections and those of services.
NAT_PORTS = (1024, 29999)

_SYN_SECONDS = 60
_TCP_SECONDS = 8000
_CLOSING_SECONDS = 10
_OTHER_SECONDS = 60


DEVICE_PROGRAMS = ("from_device", "to_device")


class EventLevel(enum.Enum):
    """What the kernel reports to flows(); counters are always on."""

    NONE = "none"
    DROPS = "drops"
    VERDICTS = "verdicts"

    @classmethod
    def of(cls, value: EventLevel | str) -> EventLevel:
        """An enum member or its value; SpecError for anything else."""
        try:
            return cls(value)
        except ValueError:
            allowed = ", ".join(level.value for level in cls)
            raise SpecError("events", value, f"one of {allowed}") from None

    @property
    def number(self) -> int:
        """Position in enum pcl_events_level."""
        return list(EventLevel).index(self)


class HookKind(enum.Enum):
    """How programs get onto a device: TCX links (Linux 6.6), or filters of clsact."""

    TCX = "tcx"
    CLSACT = "clsact"

    @classmethod
    def of(cls, value: HookKind | str | None) -> HookKind:
        """None: TCX where the kernel has it. Raises SpecError and NotSupportedError."""
        if value is None:
            return cls.TCX if features.have_tcx() else cls.CLSACT
        try:
            found = cls(value)
        except ValueError:
            raise SpecError("hooks", value, "one of tcx, clsact") from None
        if found is cls.TCX and not features.have_tcx():
            raise NotSupportedError("TCX", minimum_kernel="6.6")
        return found


def _hooks(value: HookKind | str | None) -> HookKind:
    return HookKind.of(value)


@attrs.frozen(kw_only=True)
class Config:
    """What Datapath.open was asked for."""

    events: EventLevel = attrs.field(default=EventLevel.VERDICTS)
    allow_host: bool = True
    cidr_matches_pods: bool = True
    label_filter: LabelFilter = attrs.field(factory=LabelFilter)
    ipv4: bool = True
    ipv6: bool = True
    services: bool = True
    node_name: str = ""
    zone: str = ""
    socket_lb: str | None = None  # a cgroup2 directory
    guard_ports: bool = True
    devices: tuple[str, ...] = ()
    masquerade: bool = False
    masquerade_exclude: tuple[str, ...] = ()
    nat_ports: tuple[int, int] = NAT_PORTS
    maglev_size: int = 1021
    hooks: HookKind = attrs.field(default=None, converter=_hooks)

    def variables(self, *, trace: bool = False) -> dict[str, dict[str, Any]]:
        """Values of the object's .rodata variables."""
        return {
            "pcl_config": {
                "trace": int(trace),
                "events": EventLevel.NONE.number if trace else self.events.number,
                "ipv4": int(self.ipv4),
                "ipv6": int(self.ipv6),
                "services": int(self.services),
                "devices": int(bool(self.devices)),
                "masquerade": int(self.masquerade),
                "nat_first": self.nat_ports[0],
                "nat_count": self.nat_ports[1] - self.nat_ports[0] + 1,
                "second": jiffies(1),
                "syn_timeout": jiffies(_SYN_SECONDS),
                "tcp_timeout": jiffies(_TCP_SECONDS),
                "closing_timeout": jiffies(_CLOSING_SECONDS),
                "other_timeout": jiffies(_OTHER_SECONDS),
                "hairpin_ipv4": int.from_bytes(HAIRPIN_IPV4.packed, "little"),
                "hairpin_ipv6": HAIRPIN_IPV6.packed,
            }
        }

    def to_dict(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            **attrs.asdict(self, recurse=False),
            "events": self.events.value,
            "hooks": self.hooks.value,
            "label_filter": list(self.label_filter.patterns),
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Config:
        """What to_dict() made."""
        events, label_filter = EventLevel.of(content["events"]), content["label_filter"]
        several = ("devices", "masquerade_exclude", "nat_ports")
        return cls(
            **{
                **content,
                **{name: tuple(content.get(name, ())) for name in several if content.get(name)},
                "events": events,
                "label_filter": LabelFilter(label_filter),
            }
        )

    @property
    def left_out(self) -> tuple[str, ...]:
        """Programs that this configuration has no use for."""
        return () if self.devices else DEVICE_PROGRAMS


def jiffies(seconds: float) -> int:
    """Kernel ticks; the coarse clock moves once per tick, so its resolution tells their rate."""
    return round(seconds / time.clock_getres(_CLOCK_MONOTONIC_COARSE))


def seconds(ticks: int) -> int:
    """What jiffies() was given, in whole seconds."""
    return round(ticks * time.clock_getres(_CLOCK_MONOTONIC_COARSE))
