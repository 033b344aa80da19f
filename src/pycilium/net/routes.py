# SPDX-License-Identifier: Apache-2.0
"""Routes of the main table."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

import attrs

from pycilium.errors import KernelError, SpecError
from pycilium.net import _netlink
from pycilium.net.netns import NetNS

_FAMILIES = {4: 2, 6: 10}
_DEFAULT = {4: "0.0.0.0/0", 6: "::/0"}
_MAIN, _LINK_SCOPE, _ONLINK = 254, 253, 4
_ESRCH = 3


@attrs.frozen
class RouteInfo:
    """A route as the kernel has it."""

    destination: IPv4Network | IPv6Network
    via: str | None
    index: int | None


def add(
    destination: str,
    *,
    dev: int,
    via: str | None = None,
    source: str | None = None,
    onlink: bool = False,
    ns: NetNS | None = None,
) -> None:
    """Add or replace a route; "default" takes its family from `via`."""
    _change("replace", "add route", destination, dev, via, source, onlink, ns)


def remove(destination: str, *, dev: int, via: str | None = None, ns: NetNS | None = None) -> None:
    """Remove a route; what is absent is fine."""
    try:
        _change("del", "remove route", destination, dev, via, None, False, ns)
    except KernelError as error:
        if error.errno != _ESRCH:
            raise


def list_all(*, ns: NetNS | None = None) -> list[RouteInfo]:
    """The main table, both families."""

    def dump(route: Any) -> list[RouteInfo]:
        found = _netlink.call(route, "route", "dump", "list routes", "")
        return [_info(one) for one in found if _netlink.attributes(one).get("RTA_TABLE") == _MAIN]

    return _netlink.inside(ns, dump)


def _change(
    command: str,
    operation: str,
    destination: str,
    dev: int,
    via: str | None,
    source: str | None,
    onlink: bool,
    ns: NetNS | None,
) -> None:
    network = _network(destination, via)
    fields: dict[str, Any] = {
        "dst": str(network), "oif": dev, "family": _FAMILIES[network.version], "table": _MAIN,
    }  # fmt: skip
    if via is not None:
        fields["gateway"] = via
    elif network.version == 4:
        fields["scope"] = _LINK_SCOPE
    if source is not None:
        fields["prefsrc"] = source
    if onlink:
        fields["flags"] = _ONLINK
    _netlink.inside(
        ns, lambda route: _netlink.call(route, "route", command, operation, destination, **fields)
    )


def _network(destination: str, via: str | None) -> IPv4Network | IPv6Network:
    try:
        if destination == "default":
            return ip_network(_DEFAULT[ip_address(via).version if via else 4])
        return ip_network(destination)
    except ValueError:
        allowed = '"default" or a prefix as in 10.0.0.0/8'
        raise SpecError("route destination", destination, allowed) from None


def _info(message: Any) -> RouteInfo:
    found = _netlink.attributes(message)
    family = 4 if message["family"] == _FAMILIES[4] else 6
    address = found.get("RTA_DST") or ("0.0.0.0" if family == 4 else "::")
    network = ip_network(f"{address}/{message['dst_len']}")
    return RouteInfo(network, found.get("RTA_GATEWAY"), found.get("RTA_OIF"))
