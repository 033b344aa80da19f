# SPDX-License-Identifier: Apache-2.0
"""Namespaces for the end-to-end paths: a client pod, a node and a server pod."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import attrs

from pycilium.net import NetNS, addresses, links, neighbours, routes, sysctl

CLIENT = "10.1.0.10"
SERVER = "10.1.0.20"
GATEWAY = "10.1.0.1"
PORT = 8080


@attrs.frozen
class Pods:
    """Three namespaces of the run's own; traffic stays inside them."""

    client: NetNS
    node: NetNS
    server: NetNS


@contextmanager
def unconnected() -> Iterator[Pods]:
    """The three namespaces with nothing but loopback between them."""
    with ExitStack() as stack:
        client, node, server = (stack.enter_context(NetNS.create()) for _ in range(3))
        sysctl.write("net.ipv4.ip_forward", 1, ns=node)
        yield Pods(client, node, server)


@contextmanager
def routed() -> Iterator[Pods]:
    """Both pods behind the node by veth and plain routes: the limit."""
    with unconnected() as pods:
        _connect(pods.node, pods.client, "client", CLIENT)
        _connect(pods.node, pods.server, "server", SERVER)
        yield pods


def _connect(node: NetNS, pod: NetNS, name: str, address: str) -> None:
    outer, inner = links.create_veth(name, "eth0", peer_ns=pod, ns=node)
    links.set_up(outer.index, ns=node)
    links.set_up(inner.index, ns=pod)
    addresses.add(f"{GATEWAY}/32", outer.index, ns=node)
    addresses.add(f"{address}/32", inner.index, ns=pod)
    routes.add(f"{address}/32", dev=outer.index, ns=node)
    routes.add("default", via=GATEWAY, dev=inner.index, onlink=True, ns=pod)
    # Permanent, so that no resolution falls into a measurement.
    neighbours.add(address, inner.mac, dev=outer.index, ns=node)
    neighbours.add(GATEWAY, outer.mac, dev=inner.index, ns=pod)
