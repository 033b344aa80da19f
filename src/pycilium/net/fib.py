# SPDX-License-Identifier: Apache-2.0
"""Routes of one routing protocol in one table: with several gateways, and without an interface.

Each call runs on a thread of its own, so it may be made from an event loop.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

from pycilium.errors import KernelError, SpecError
from pycilium.net import _netlink
from pycilium.net.netns import NetNS

BGP = 186  # RTPROT_BGP
_FAMILIES = {4: 2, 6: 10}
_ESRCH = 3


class Fib:
    """The routes that carry a protocol's number; those of others are not touched.

    table: 254 is the main one. Raises KernelError where the kernel refuses, as for a gateway that
    no interface reaches.
    """

    def __init__(self, *, table: int = 254, protocol: int = BGP, ns: NetNS | None = None) -> None:
        self.table = table
        self.protocol = protocol
        self._ns = ns

    def replace(self, prefix: str, gateways: list[str]) -> None:
        """Send a prefix by these gateways, equally; IPv4 may go by IPv6 (RFC 8950)."""
        fields = self._fields(prefix)
        hops = [_hop(fields["family"], one) for one in gateways]
        if len(hops) == 1:
            fields.update(hops[0])
        else:
            fields["multipath"] = [{"hops": 0, **one} for one in hops]
        self._call("replace", "replace route", prefix, fields)

    def remove(self, prefix: str) -> None:
        """Remove the protocol's route; what is absent is fine."""
        try:
            self._call("del", "remove route", prefix, self._fields(prefix))
        except KernelError as error:
            if error.errno != _ESRCH:
                raise

    def prefixes(self) -> list[str]:
        """Every prefix that the protocol has a route for."""
        found = []
        for message in self._call("dump", "list routes", "", {}):
            known = _netlink.attributes(message)
            ours = known.get("RTA_TABLE") == self.table and message["proto"] == self.protocol
            if ours and message["family"] in _FAMILIES.values():
                four = message["family"] == _FAMILIES[4]
                address = known.get("RTA_DST") or ("0.0.0.0" if four else "::")
                found.append(f"{address}/{message['dst_len']}")
        return found

    def gateways(self, prefix: str) -> list[str]:
        """Where a prefix is sent."""
        network = ip_network(prefix)
        for message in self._call("dump", "list routes", "", {}):
            known = _netlink.attributes(message)
            if known.get("RTA_TABLE") != self.table or message["proto"] != self.protocol:
                continue
            if f"{known.get('RTA_DST')}/{message['dst_len']}" == str(network):
                hops = known.get("RTA_MULTIPATH") or [message]
                return sorted(filter(None, (_gateway(one) for one in hops)))
        return []

    def _fields(self, prefix: str) -> dict[str, Any]:
        try:
            network = ip_network(prefix)
        except ValueError as error:
            raise SpecError("route destination", prefix, f"a prefix ({error})") from None
        return {
            "dst": str(network),
            "family": _FAMILIES[network.version],
            "table": self.table,
            "proto": self.protocol,
        }

    def _call(self, command: str, operation: str, name: str, fields: dict[str, Any]) -> list[Any]:
        def work(route: Any) -> list[Any]:
            found = _netlink.call(route, "route", command, operation, name, **fields)
            return list(found)

        with NetNS.current() if self._ns is None else _Borrowed(self._ns) as ns:
            return _netlink.inside(ns, work)


class _Borrowed:
    """A namespace that is somebody else's to close."""

    def __init__(self, ns: NetNS) -> None:
        self._ns = ns

    def __enter__(self) -> NetNS:
        return self._ns

    def __exit__(self, *exception: object) -> None:
        return


def _hop(family: int, gateway: str) -> dict[str, Any]:
    version = ip_address(gateway).version
    if _FAMILIES[version] == family:
        return {"gateway": gateway}
    return {"via": {"family": _FAMILIES[version], "addr": gateway}}


def _gateway(message: Any) -> str | None:
    known = _netlink.attributes(message)
    via = known.get("RTA_VIA")
    return known.get("RTA_GATEWAY") or (via["addr"] if via else None)
