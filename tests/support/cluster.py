# SPDX-License-Identifier: Apache-2.0
"""Nodes of a cluster and a client outside, each a namespace, joined by a router namespace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import attrs

from pycilium.net import NetNS, addresses, links, routes, sysctl

VIP = {4: "203.0.113.10", 6: "fd03:113::10"}


@attrs.frozen
class Host:
    """A namespace with one device, eth0, towards the router."""

    number: int
    ns: NetNS

    def address(self, family: int) -> str:
        """Its own."""
        return f"172.20.{self.number}.2" if family == 4 else f"fd20:{self.number}::2"

    def pod(self, last: int) -> list[str]:
        """Addresses of an endpoint here."""
        return [f"10.{self.number}.0.{last}", f"fd10:{self.number}::{last}"]


@attrs.frozen
class Cluster:
    """nodes[i].number is i + 1; the client's number is 9."""

    router: NetNS
    nodes: tuple[Host, ...]
    client: Host


def _forward(ns: NetNS) -> None:
    for family in ("ipv4", "ipv6"):
        sysctl.write(f"net/{family}/conf/all/forwarding", 1, ns=ns)


def _trust(ns: NetNS) -> None:
    """Addresses are ready at once: nobody else has them."""
    for which in ("all", "default"):
        sysctl.write(f"net/ipv6/conf/{which}/accept_dad", 0, ns=ns)


def _join(stack: ExitStack, router: NetNS, number: int) -> Host:
    ns = stack.enter_context(NetNS.create())
    host = Host(number, ns)
    _trust(ns)
    links.set_up(links.get("lo", ns=ns).index, ns=ns)
    near, far = links.create_veth(f"to{number}", "eth0", peer_ns=ns, ns=router)
    for one, where, last in ((near, router, 1), (far, ns, 2)):
        addresses.add(f"172.20.{number}.{last}/24", one.index, ns=where)
        addresses.add(f"fd20:{number}::{last}/64", one.index, ns=where)
        links.set_up(one.index, ns=where)
    for gateway in (f"172.20.{number}.1", f"fd20:{number}::1"):
        routes.add("default", via=gateway, dev=far.index, ns=ns)
        prefixes = [f"10.{number}.0.0/16"] if "." in gateway else [f"fd10:{number}::/64"]
        for prefix in prefixes:
            routes.add(prefix, via=gateway[:-1] + "2", dev=near.index, ns=router)
    return host


@contextmanager
def cluster(nodes: int = 2) -> Iterator[Cluster]:
    """VIP is routed to the first node."""
    with ExitStack() as stack:
        router = stack.enter_context(NetNS.create())
        _forward(router)
        _trust(router)
        hosts = tuple(_join(stack, router, number) for number in range(1, nodes + 1))
        for host in hosts:
            _forward(host.ns)
        client = _join(stack, router, 9)
        first = links.get("to1", ns=router).index
        for family, vip in VIP.items():
            routes.add(f"{vip}/{32 if family == 4 else 128}", via=hosts[0].address(family),
                       dev=first, ns=router)  # fmt: skip
        yield Cluster(router, hosts, client)
