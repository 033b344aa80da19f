# SPDX-License-Identifier: Apache-2.0
"""The network side of an endpoint: a veth pair, its configuration, the way to it on the node.

The gateway of every endpoint is 169.254.1.1 and fe80::1, neighbours that are written down and
never asked for: nobody can claim to be the gateway.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import attrs

from pycilium.errors import KernelError
from pycilium.net import LinkInfo, NetNS, addresses, links, neighbours, routes, sysctl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycilium.datapath.wire import Address

GATEWAYS = {4: "169.254.1.1", 6: "fe80::1"}
_ENODEV = 19


@attrs.frozen
class Device:
    """The host's side of an endpoint's interface."""

    ifindex: int
    name: str
    mac: str  # the endpoint's
    host_mac: str
    peer_redirect: bool  # a veth whose other end is in another namespace


def create_pair(
    node: NetNS, inside: NetNS, name: str, ifname: str, mac: str | None
) -> tuple[Device, int]:
    """A veth pair, both ends down; the device and the index of the endpoint's end."""
    own = mac or _random_mac()  # chosen here, nobody has to ask for it inside
    host = links.add_veth(name, ifname, peer_ns=inside, peer_mac=own, ns=node)
    assert host.peer_index is not None
    return Device(host.index, host.name, own, host.mac, host.netns_id is not None), host.peer_index


def find(node: NetNS, which: str | int, mac: str) -> Device:
    """An interface of the node that somebody else made; `mac` is the endpoint's."""
    info = links.get(which, ns=node)
    return Device(info.index, info.name, mac, info.mac, _reaches_out(info))


def lookup(node: NetNS, ifindex: int) -> LinkInfo | None:
    """The interface, if it is still there."""
    try:
        return links.get(ifindex, ns=node)
    except KernelError as error:
        if error.errno != _ENODEV:
            raise
        return None


def configure_inside(
    inside: NetNS, index: int, device: Device, ifname: str, own: Sequence[Address]
) -> None:
    """Addresses, gateway and default routes of the endpoint's end, which comes up."""
    inside.session(_configure, inside, index, device, ifname, own)


def _configure(
    inside: NetNS, index: int, device: Device, ifname: str, own: Sequence[Address]
) -> None:
    silence_ipv6(ifname, own, inside)
    for address in own:
        addresses.add(f"{address}/{address.max_prefixlen}", index, ns=inside)
    links.set_up(index, ns=inside)
    for family in sorted({address.version for address in own}):
        gateway = GATEWAYS[family]
        neighbours.add(gateway, device.host_mac, dev=index, ns=inside)
        routes.add("default", via=gateway, dev=index, onlink=True, ns=inside)


def open_way(node: NetNS, device: Device, own: Sequence[Address]) -> None:
    """The node's route and neighbour for each address; the device comes up first."""
    links.set_up(device.ifindex, ns=node)
    for address in own:
        neighbours.add(str(address), device.mac, dev=device.ifindex, ns=node)
        routes.add(f"{address}/{address.max_prefixlen}", dev=device.ifindex, ns=node)


def close_way(node: NetNS, device: Device, own: Sequence[Address]) -> None:
    """Take back the routes of a device that stays."""
    for address in own:
        routes.remove(f"{address}/{address.max_prefixlen}", dev=device.ifindex, ns=node)


def silence_ipv6(ifname: str, own: Sequence[Address], ns: NetNS) -> None:
    """Without an IPv6 address a device's chatter would only be dropped and counted."""
    if not any(address.version == 6 for address in own):
        _disable_ipv6(ifname, ns)


def _disable_ipv6(ifname: str, ns: NetNS) -> None:
    setting = f"net/ipv6/conf/{ifname}/disable_ipv6"
    try:
        sysctl.write(setting, 1, ns=ns)
    except KernelError as error:
        if error.errno != 2:  # a kernel without IPv6
            raise


def _random_mac() -> str:
    """Of an address that is administered locally and means one station."""
    first, *rest = secrets.token_bytes(6)
    return ":".join(f"{byte:02x}" for byte in (first & 0xFC | 0x02, *rest))


def _reaches_out(info: LinkInfo) -> bool:
    return info.kind == "veth" and info.netns_id is not None
