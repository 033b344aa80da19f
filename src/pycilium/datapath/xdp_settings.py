# SPDX-License-Identifier: Apache-2.0
"""How the XDP balancer treats a VIP, and the constants of the program."""

from __future__ import annotations

import enum
import re
from ipaddress import IPv4Network, IPv6Network
from typing import Any, TypeVar

import attrs

from pycilium.datapath.config import jiffies
from pycilium.datapath.wire import mac_bytes
from pycilium.errors import SpecError
from pycilium.lb import maglev

_Choice = TypeVar("_Choice", bound=enum.Enum)
_MAC = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", re.IGNORECASE)


class Mode(enum.Enum):
    """Where on a device the program runs; AUTO is native, else generic, and status() says which."""

    AUTO = "auto"
    NATIVE = "native"
    GENERIC = "generic"


class Forward(enum.Enum):
    """How a packet gets to its backend; the backend answers the client itself (DSR)."""

    IPIP = "ipip"  # in a tunnel of its own family
    L2 = "l2"  # to the backend's MAC: it is on the same link


class HashBy(enum.Enum):
    """What of a new flow chooses its backend."""

    FLOW = "flow"
    SOURCE = "source"  # the client's address: all its flows to this VIP go to one backend


def choice(kind: type[_Choice], field: str, value: _Choice | str) -> _Choice:
    """A member or its value; SpecError for anything else."""
    try:
        return kind(value)
    except ValueError:
        allowed = ", ".join(str(one.value) for one in kind)
        raise SpecError(field, value, f"one of {allowed}") from None


def _forward(value: Forward | str) -> Forward:
    return choice(Forward, "forward", value)


def _hash_by(value: HashBy | str) -> HashBy:
    return choice(HashBy, "hash_by", value)


@attrs.frozen(kw_only=True)
class VipSettings:
    """Of one VIP. remember=False: no flow is kept, the ring alone decides.

    ring: slots of the Maglev table, a prime, best at least 100 times the number of backends.
    """

    forward: Forward = attrs.field(default=Forward.IPIP, converter=_forward)
    hash_by: HashBy = attrs.field(default=HashBy.FLOW, converter=_hash_by)
    remember: bool = True
    ring: int = maglev.DEFAULT_SIZE

    def __attrs_post_init__(self) -> None:
        maglev.check_size(self.ring)

    def flags(self, names: Any) -> int:
        """enum pcl_xdp_vip_flags."""
        return (
            (names.PCL_XDP_VIP_L2 if self.forward is Forward.L2 else 0)
            | (names.PCL_XDP_VIP_HASH_SOURCE if self.hash_by is HashBy.SOURCE else 0)
            | (0 if self.remember else names.PCL_XDP_VIP_NO_FLOWS)
        )


def _prefix4(value: str | IPv4Network) -> IPv4Network:
    try:
        network = IPv4Network(value)
    except ValueError:
        network = IPv4Network("0.0.0.0/0")
    if network.prefixlen != 16:
        raise SpecError("source4", str(value), "an IPv4 prefix of 16 bits")
    return network


def _prefix6(value: str | IPv6Network) -> IPv6Network:
    try:
        network = IPv6Network(value)
    except ValueError:
        network = IPv6Network("::/128")
    if network.prefixlen > 96:
        raise SpecError("source6", str(value), "an IPv6 prefix of at most 96 bits")
    return network


@attrs.frozen(kw_only=True)
class BalancerOptions:
    """Constants of the loaded program.

    source4, source6: prefixes of the tunnels' source addresses; the rest of the address is a
    hash of the flow. gateway: a router's MAC that every packet goes to; without one the
    routing table is asked, once a second for each backend. seed: of the hash, the same on every
    balancer that shares VIPs. new_flows: what one CPU remembers in a second at most, so that a
    flood of new flows does not push out the known ones; 0: no limit. unknown_ports: whether a
    VIP's other ports are dropped or left to the host ("drop", "pass").
    """

    source4: IPv4Network = attrs.field(default=IPv4Network("172.16.0.0/16"), converter=_prefix4)
    source6: IPv6Network = attrs.field(default=IPv6Network("100::/64"), converter=_prefix6)
    gateway: str | None = None
    gateway_mtu: int = 1500
    seed: int = 0
    new_flows: int = 0
    unknown_ports: str = attrs.field(default="drop", validator=attrs.validators.instance_of(str))

    def __attrs_post_init__(self) -> None:
        if self.unknown_ports not in ("drop", "pass"):
            raise SpecError("unknown_ports", self.unknown_ports, "one of drop, pass")
        if self.gateway is not None and not _MAC.fullmatch(self.gateway):
            raise SpecError("gateway", self.gateway, "a MAC address as in 02:00:00:00:00:01")
        for name, value, top in (
            ("seed", self.seed, 1 << 64),
            ("new_flows", self.new_flows, 1 << 32),
            ("gateway_mtu", self.gateway_mtu, 1 << 16),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < top:
                raise SpecError(name, value, f"a whole number below {top}")

    def variables(self) -> dict[str, dict[str, Any]]:
        """Values of the object's .rodata variables."""
        per_tick = self.new_flows // jiffies(1) or 1 if self.new_flows else 0
        config: dict[str, Any] = {
            "seed": self.seed,
            "hop_lifetime": jiffies(1),
            "flows_per_tick": per_tick,
            "source4": int.from_bytes(self.source4.network_address.packed, "little"),
            "source6": self.source6.network_address.packed,
            "gateway_mtu": self.gateway_mtu,
        }
        if self.gateway is not None:
            config["gateway"] = mac_bytes(self.gateway)
        return {"pcl_xdp_config": config}
