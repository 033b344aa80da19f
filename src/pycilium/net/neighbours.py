# SPDX-License-Identifier: Apache-2.0
"""Permanent neighbour entries."""

from __future__ import annotations

from ipaddress import ip_address

from pycilium.errors import SpecError
from pycilium.net import _netlink
from pycilium.net.netns import NetNS

_FAMILIES = {4: 2, 6: 10}
_PERMANENT = 0x80


def add(address: str, mac: str, *, dev: int, ns: NetNS | None = None) -> None:
    """A neighbour that is never asked for; replaces what was known of it."""
    try:
        family = _FAMILIES[ip_address(address).version]
    except ValueError:
        raise SpecError("neighbour", address, "an IPv4 or IPv6 address") from None
    _netlink.inside(
        ns,
        lambda route: _netlink.call(
            route, "neigh", "replace", "add neighbour", address,
            dst=address, lladdr=mac, ifindex=dev, state=_PERMANENT, family=family,
        ),
    )  # fmt: skip
