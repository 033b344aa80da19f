# SPDX-License-Identifier: Apache-2.0
"""The devices of the node that face other nodes and the world, and the programs on them."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import attrs

from pycilium.datapath.hooks import Attachments
from pycilium.datapath.wire import addr
from pycilium.errors import KernelError, SpecError
from pycilium.libbpf import Hook
from pycilium.net import addresses, links, sysctl

if TYPE_CHECKING:
    from pycilium.datapath.core import Core
    from pycilium.datapath.wire import Address
    from pycilium.libbpf import Object
    from pycilium.net import LinkInfo

PROGRAMS = {Hook.RX: "from_device", Hook.TX: "to_device"}
_MOST_PORTS = 32768


@attrs.frozen
class NodeDevice:
    """One device, and the addresses that stand for others behind it; None: it has none."""

    ifindex: int
    name: str
    mac: str
    ipv4: Address | None
    ipv6: Address | None


class NodeDevices:
    """Iterable; empty where the datapath was opened without devices."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._devices: list[NodeDevice] = []
        self._attached: dict[int, Attachments] = {}

    def __iter__(self) -> Any:
        return iter(self._devices)

    def __len__(self) -> int:
        return len(self._devices)

    def start(self) -> None:
        """Find the devices, write what is known of them, then put the programs on."""
        core = self._core
        if not core.config.devices:
            return
        found = [self._find(name) for name in core.config.devices]
        self._write(found)
        core.maps["pcl_unmasked"].update(self._unmasked())
        for info in found:
            pins = core.link_pins(f"device{info.index}")
            self._attached[info.index] = Attachments.attach(
                core.config.hooks, core.node, core.object, info.index, pins, PROGRAMS
            )

    def adopt(self) -> None:
        """Open the links again that a pinned datapath left; a device made anew gets new ones."""
        core = self._core
        found = [self._find(name) for name in core.config.devices]
        self._write(found)
        for info in found:
            pins = core.link_pins(f"device{info.index}")
            self._attached[info.index] = Attachments.adopt(
                core.config.hooks, core.node, core.object, info.index, pins, PROGRAMS
            )

    def replace_programs(self, fresh: Object) -> None:
        """Without a packet between."""
        for one in self._attached.values():
            one.update(self._core.node, fresh)

    def node_changed(self) -> None:
        """The node's addresses are others: perhaps those of the devices."""
        if self._core.config.devices:
            self._write([self._find(name) for name in self._core.config.devices])

    def let_go(self) -> None:
        """Close what this process holds."""
        for one in self._attached.values():
            one.close(self._core.node)
        self._attached.clear()

    def remove(self) -> None:
        """Take the programs off."""
        for one in self._attached.values():
            one.remove(self._core.node)
        self._attached.clear()

    def _find(self, name: str) -> LinkInfo:
        try:
            return links.get(name, ns=self._core.node)
        except KernelError as error:
            known = ", ".join(one.name for one in links.list_all(ns=self._core.node))
            raise SpecError("devices", name, f"a device of the node: {known}") from error

    def _write(self, found: list[LinkInfo]) -> None:
        own = addresses.list_all(ns=self._core.node)
        devices = [
            NodeDevice(info.index, info.name, info.mac, *_primary(info.index, own))
            for info in found
        ]
        if devices == self._devices:
            return
        gone = {one.ifindex for one in self._devices} - {one.ifindex for one in devices}
        table = self._core.maps["pcl_devices"]
        table.update((one.ifindex, _value(one)) for one in devices)
        table.remove(gone)
        self._devices = devices

    def _unmasked(self) -> Iterable[tuple[dict[str, Any], int]]:
        static = int(self._core.limits.PCL_IPCACHE_STATIC_BITS)
        for text in self._core.config.masquerade_exclude:
            prefix = ip_network(text)
            key = {
                "prefixlen": static + prefix.prefixlen,
                "family": prefix.version,
                "addr": addr(prefix.network_address),
            }
            yield key, 1


def check(devices: Any, masquerade: Any, exclude: Any, ports: Any) -> dict[str, Any]:
    """The arguments of Datapath.open as fields of Config. Raises SpecError."""
    names = (devices,) if isinstance(devices, str) else tuple(devices)
    for one in names:
        if not isinstance(one, str) or not 0 < len(one) < 16:
            raise SpecError("devices", one, "names of devices, as in ['eth0']")
    if not isinstance(masquerade, bool):
        raise SpecError("masquerade", masquerade, "True or False")
    if masquerade and not names:
        raise SpecError("masquerade", masquerade, "False, or devices=[...] that answers come in by")
    prefixes = tuple(
        str(_prefix(one)) for one in ((exclude,) if isinstance(exclude, str) else exclude)
    )
    return {
        "devices": tuple(dict.fromkeys(names)),
        "masquerade": masquerade,
        "masquerade_exclude": prefixes,
        "nat_ports": _ports(ports),
    }


def overlap(core: Core) -> str:
    """Where ports of the node's own connections are among those that it gives to others."""
    text = sysctl.read("net/ipv4/ip_local_port_range", ns=core.node)
    low, high = (int(one) for one in text.split())
    first, last = core.config.nat_ports
    if not core.config.devices or first > high or last < low:
        return ""
    both = f"{max(first, low)} to {min(last, high)}"
    return f"ports {both} are also given to the node's own connections (ip_local_port_range)"


def _ports(value: Any) -> tuple[int, int]:
    allowed = f"first and last port, 1 to 65535, at most {_MOST_PORTS} of them, as in (1024, 29999)"
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise SpecError("nat_ports", value, allowed)
    first, last = value
    for one in (first, last):
        if not isinstance(one, int) or isinstance(one, bool):
            raise SpecError("nat_ports", value, allowed)
    if not 0 < first <= last < 65536 or last - first >= _MOST_PORTS:
        raise SpecError("nat_ports", value, allowed)
    return first, last


def _prefix(value: Any) -> Any:
    try:
        return ip_network(value)
    except ValueError:
        allowed = 'prefixes such as "10.0.0.0/8"'
        raise SpecError("masquerade_exclude", value, allowed) from None


def _primary(index: int, own: list[addresses.AddressInfo]) -> tuple[Address | None, Address | None]:
    """The first address of each family that others can answer to."""
    mine = [one.interface.ip for one in own if one.index == index]
    reachable = [one for one in mine if not one.is_link_local]
    return tuple(  # type: ignore[return-value]
        next((one for one in reachable if one.version == family), None) for family in (4, 6)
    )


def _value(device: NodeDevice) -> dict[str, Any]:
    return {
        "ipv4": int.from_bytes(device.ipv4.packed, "little") if device.ipv4 else 0,
        "ipv6": device.ipv6.packed if device.ipv6 else bytes(16),
    }
