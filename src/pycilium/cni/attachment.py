# SPDX-License-Identifier: Apache-2.0
"""An endpoint as a container's attachment: what ADD answers of it, and whether it still holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address, ip_interface
from typing import TYPE_CHECKING

import attrs

from pycilium.cni.errors import CniError, Code
from pycilium.cni.result import Interface, Ip, Result, Route
from pycilium.datapath.device import GATEWAYS
from pycilium.errors import KernelError, SpecError
from pycilium.net import LinkInfo, NetNS, addresses, links, routes

if TYPE_CHECKING:
    from pycilium.cni.request import Request
    from pycilium.datapath.endpoint import Endpoint

_DEFAULTS = {4: "0.0.0.0/0", 6: "::/0"}
_ENODEV = 19


@attrs.frozen
class Found:
    """An interface that another plugin made: its host side, and what the container has."""

    host_ifname: str
    mac: str
    addresses: tuple[IPv4Address | IPv6Address, ...]


def result(endpoint: Endpoint, request: Request) -> Result:
    """What ADD answers: both ends of the device, addresses, the way out."""
    sandbox = request.netns or ""
    families = [one.version for one in endpoint.addresses]
    dns = request.config.get("dns")
    return Result(
        interfaces=(
            Interface(endpoint.device.name, endpoint.device.host_mac),
            Interface(endpoint.ifname, endpoint.mac, sandbox),
        ),
        ips=tuple(
            Ip(f"{one}/{one.max_prefixlen}", GATEWAYS[one.version], 1) for one in endpoint.addresses
        ),
        routes=tuple(Route(_DEFAULTS[family], GATEWAYS[family]) for family in families),
        dns=dns if isinstance(dns, dict) else {},
    )


def is_inside(endpoint: Endpoint, request: Request) -> bool:
    """Whether the endpoint's interface is the one in the request's namespace."""
    with _sandbox(request) as inside:
        own = _link(request.ifname, inside)
    return own is not None and (own.mac, own.peer_index) == (endpoint.mac, endpoint.ifindex)


def check(endpoint: Endpoint, request: Request, node: NetNS) -> None:
    """CniError for the first thing that is not as the result of the ADD has it."""
    previous = request.previous
    assert previous is not None
    _require(links.exists(endpoint.ifindex, ns=node), f"{endpoint.device.name} is gone")
    _require(links.get(endpoint.ifindex, ns=node).up, f"{endpoint.device.name} is down")
    expected = {ip_interface(one.address) for one in previous.ips}
    own = {one.ip for one in expected}
    _require(set(endpoint.addresses) <= own, f"prevResult has not {_listed(endpoint.addresses)}")
    with _sandbox(request) as inside:
        link = _link(request.ifname, inside)
        if link is None or link.peer_index != endpoint.ifindex:
            raise _changed(f"{request.ifname} is not the interface that ADD made")
        _require(link.up, f"{request.ifname} is down")
        present = {one.interface for one in addresses.list_all(link.index, ns=inside)}
        _require(expected <= present, f"{request.ifname} has not {_listed(expected - present)}")
        _require_ways(previous, link, inside)


def found(request: Request, node: NetNS) -> Found:
    """The interface that the plugin before this one made. Raises CniError."""
    previous = request.previous
    assert previous is not None
    with _sandbox(request) as inside:
        link = _link(request.ifname, inside)
        if link is None or link.peer_index is None:
            raise CniError(
                Code.UNSUPPORTED_FIELD,
                f"{request.ifname} of the plugin before this one is no veth",
                "chain pycilium behind a plugin that makes veth pairs, such as ptp",
            )
    own = tuple(ip_interface(one.address).ip for one in previous.ips)
    return Found(links.get(link.peer_index, ns=node).name, link.mac, own)


def _require_ways(previous: Result, link: LinkInfo, inside: NetNS) -> None:
    """Default routes; a plugin behind this one may have added others."""
    present = {
        str(one.destination) for one in routes.list_all(ns=inside) if one.index == link.index
    }
    for one in previous.routes:
        if one.dst in _DEFAULTS.values():
            _require(one.dst in present, f"the route {one.dst} is gone")


@contextmanager
def _sandbox(request: Request) -> Iterator[NetNS]:
    try:
        inside = NetNS.open(request.netns or "")
    except SpecError as error:
        raise CniError(
            Code.INVALID_ENVIRONMENT, f"CNI_NETNS: {request.netns!r} is no namespace", str(error)
        ) from None
    with inside:
        yield inside


def _link(ifname: str, inside: NetNS) -> LinkInfo | None:
    try:
        return links.get(ifname, ns=inside)
    except KernelError as error:
        if error.errno != _ENODEV:
            raise
        return None


def _require(holds: bool, text: str) -> None:
    if not holds:
        raise _changed(text)


def _changed(text: str) -> CniError:
    return CniError(Code.CHANGED, text, "remove the container and add it again")


def _listed(values: object) -> str:
    return ", ".join(sorted(map(str, values)))  # type: ignore[call-overload]
