# SPDX-License-Identifier: Apache-2.0
"""Addresses of interfaces."""

from __future__ import annotations

import socket
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv6Address,
    IPv6Interface,
    ip_address,
    ip_interface,
)
from typing import Any

import attrs

from pycilium.errors import KernelError, SpecError
from pycilium.net import _netlink
from pycilium.net.netns import NetNS

_FAMILIES = {4: 2, 6: 10}  # AF_INET, AF_INET6
_IFA_F_NODAD = 2
_EEXIST, _EADDRNOTAVAIL = 17, 99


@attrs.frozen
class AddressInfo:
    """An address on an interface."""

    interface: IPv4Interface | IPv6Interface
    index: int


def parse(text: str) -> IPv4Interface | IPv6Interface:
    """An address with its prefix length; SpecError where it is none."""
    try:
        return ip_interface(text)
    except ValueError:
        raise SpecError("address", text, "an address as in 10.0.0.1/24 or fd00::1/64") from None


def add(address: str, index: int, *, ns: NetNS | None = None) -> None:
    """Add an address, IPv6 without duplicate address detection; what is there already is fine."""
    _change("add", "add address", address, index, ns, tolerate=_EEXIST)


def remove(address: str, index: int, *, ns: NetNS | None = None) -> None:
    """Remove an address; what is absent is fine."""
    _change("del", "remove address", address, index, ns, tolerate=_EADDRNOTAVAIL)


def list_all(index: int | None = None, *, ns: NetNS | None = None) -> list[AddressInfo]:
    """The addresses of one interface, or of all."""

    def dump(route: Any) -> list[AddressInfo]:
        found = _netlink.call(route, "addr", "dump", "list addresses", "")
        return [_info(one) for one in found if index is None or one["index"] == index]

    return _netlink.inside(ns, dump)


def source_to(address: str) -> IPv4Address | IPv6Address | None:
    """Which own address the routing table picks towards another; None: no way. Nothing is sent."""
    far = parse(address)
    try:
        with socket.socket(_FAMILIES[far.version], socket.SOCK_DGRAM) as one:
            one.connect((str(far.ip), 9))
            return ip_address(one.getsockname()[0])
    except OSError:  # no route, or not even the family
        return None


def _change(
    command: str, operation: str, address: str, index: int, ns: NetNS | None, *, tolerate: int
) -> None:
    interface = parse(address)
    fields: dict[str, Any] = {
        "index": index,
        "address": str(interface.ip),
        "prefixlen": interface.network.prefixlen,
        "family": _FAMILIES[interface.version],
    }
    if interface.version == 6:
        fields["flags"] = _IFA_F_NODAD
    try:
        _netlink.inside(
            ns, lambda route: _netlink.call(route, "addr", command, operation, address, **fields)
        )
    except KernelError as error:
        if error.errno != tolerate:
            raise


def _info(message: Any) -> AddressInfo:
    found = _netlink.attributes(message)
    address = found.get("IFA_LOCAL") or found["IFA_ADDRESS"]
    return AddressInfo(ip_interface(f"{address}/{message['prefixlen']}"), message["index"])
