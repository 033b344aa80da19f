# SPDX-License-Identifier: Apache-2.0
"""Interfaces: create veth pairs, find, change, move and delete."""

from __future__ import annotations

import re
from typing import Any

import attrs

from pycilium.errors import KernelError, SpecError
from pycilium.net import _netlink
from pycilium.net.netns import NetNS

_IFF_UP = 1
_MAC = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", re.IGNORECASE)


@attrs.frozen
class LinkInfo:
    """An interface as the kernel has it; peer_index and netns_id only where it has them."""

    index: int
    name: str
    mac: str
    mtu: int
    up: bool
    kind: str
    peer_index: int | None
    netns_id: int | None


def create_veth(
    name: str,
    peer: str,
    *,
    peer_ns: NetNS | None = None,
    mtu: int | None = None,
    mac: str | None = None,
    peer_mac: str | None = None,
    ns: NetNS | None = None,
) -> tuple[LinkInfo, LinkInfo]:
    """A veth pair, both ends down, the second one in `peer_ns` (None: beside the first)."""
    near = add_veth(name, peer, peer_ns=peer_ns, mtu=mtu, mac=mac, peer_mac=peer_mac, ns=ns)
    return near, get(peer, ns=peer_ns or ns)


def add_veth(
    name: str,
    peer: str,
    *,
    peer_ns: NetNS | None = None,
    mtu: int | None = None,
    mac: str | None = None,
    peer_mac: str | None = None,
    ns: NetNS | None = None,
) -> LinkInfo:
    """The same without a look at the second end: its index is the first one's peer_index."""
    _check_name(name)
    _check_name(peer)
    other = _fields(mtu=mtu, address=_checked_mac(peer_mac))
    other["ifname"] = peer
    if peer_ns is not None:
        other["net_ns_fd"] = peer_ns.fd
    own = _fields(mtu=mtu, address=_checked_mac(mac))

    def create(route: Any) -> None:
        _netlink.call(
            route, "link", "add", "create veth", name, ifname=name, kind="veth", peer=other, **own
        )

    _netlink.inside(ns, create)
    return get(name, ns=ns)


def get(which: str | int, *, ns: NetNS | None = None) -> LinkInfo:
    """One interface by name or index; KernelError (ENODEV) where there is none."""

    def find(route: Any) -> LinkInfo:
        if isinstance(which, int):
            found = _netlink.call(route, "link", "get", "find link", str(which), index=which)
        else:
            found = _netlink.call(route, "link", "get", "find link", which, ifname=which)
        return _info(found[0])

    return _netlink.inside(ns, find)


def exists(which: str | int, *, ns: NetNS | None = None) -> bool:
    """Whether there is such an interface."""
    try:
        get(which, ns=ns)
    except KernelError as error:
        if error.errno == 19:
            return False
        raise
    return True


def list_all(*, ns: NetNS | None = None) -> list[LinkInfo]:
    """Every interface of a namespace."""
    return _netlink.inside(
        ns,
        lambda route: [
            _info(one) for one in _netlink.call(route, "link", "dump", "list links", "")
        ],
    )


def delete(index: int, *, missing_ok: bool = True, ns: NetNS | None = None) -> None:
    """Delete an interface, a veth with its peer."""
    try:
        _change(index, "del", "delete link", ns)
    except KernelError as error:
        if error.errno != 19 or not missing_ok:
            raise


def set_up(index: int, *, ns: NetNS | None = None) -> None:
    """Bring an interface up."""
    _change(index, "set", "set up link", ns, state="up")


def set_down(index: int, *, ns: NetNS | None = None) -> None:
    """Bring an interface down."""
    _change(index, "set", "set down link", ns, state="down")


def set_mtu(index: int, mtu: int, *, ns: NetNS | None = None) -> None:
    """Change the MTU, in bytes."""
    _change(index, "set", "set MTU of link", ns, mtu=mtu)


def set_mac(index: int, mac: str, *, ns: NetNS | None = None) -> None:
    """Change the MAC address."""
    _change(index, "set", "set MAC of link", ns, address=_checked_mac(mac))


def set_xdp(index: int, fd: int, flags: int, *, ns: NetNS | None = None) -> None:
    """Put an XDP program on without a link (fd -1: take it off); flags are XDP_FLAGS_*.

    The error has the kernel's own text, which links do not give.
    """
    value = {"attrs": [["IFLA_XDP_FD", fd], ["IFLA_XDP_FLAGS", flags]]}
    _change(index, "set", "set XDP of link", ns, xdp=value)


def rename(index: int, name: str, *, ns: NetNS | None = None) -> None:
    """Give an interface that is down another name."""
    _check_name(name)
    _change(index, "set", "rename link", ns, ifname=name)


def move(index: int, to: NetNS, *, ns: NetNS | None = None) -> None:
    """Move an interface into another namespace; it goes down on the way."""
    _change(index, "set", "move link", ns, net_ns_fd=to.fd)


def _change(index: int, command: str, operation: str, ns: NetNS | None, **fields: Any) -> None:
    _netlink.inside(
        ns,
        lambda route: _netlink.call(
            route, "link", command, operation, str(index), index=index, **fields
        ),
    )


def _info(message: Any) -> LinkInfo:
    found = _netlink.attributes(message)
    kind = _netlink.attributes(found["IFLA_LINKINFO"]) if "IFLA_LINKINFO" in found else {}
    return LinkInfo(
        message["index"],
        found["IFLA_IFNAME"],
        found.get("IFLA_ADDRESS") or "",
        found["IFLA_MTU"],
        bool(message["flags"] & _IFF_UP),
        kind.get("IFLA_INFO_KIND", ""),
        found.get("IFLA_LINK"),
        found.get("IFLA_LINK_NETNSID"),
    )


def _fields(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _check_name(name: str) -> None:
    if not 0 < len(name.encode()) < 16 or "/" in name or name.split() != [name]:
        raise SpecError("link name", name, "1 to 15 bytes without space or slash")


def _checked_mac(mac: str | None) -> str | None:
    if mac is not None and not _MAC.fullmatch(mac):
        raise SpecError("mac", mac, "six bytes as in 02:00:00:00:00:01")
    return mac
