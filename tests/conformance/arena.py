# SPDX-License-Identifier: Apache-2.0
"""The ends of the truth tables for real: nine pods on a node, and a host behind it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from conformance.model import ADDRESSES, NAMESPACES, NODE, OUTSIDE, PODS, Row
from pycilium import Datapath
from pycilium.model import Labels
from pycilium.net import NetNS, addresses, links, routes, sysctl
from pycilium.policy import load_manifests

USUAL = Row("as they are made", (), lambda *_: False)


class Arena:
    """Endpoints by name; `apply` makes a row true."""

    def __init__(self, dp: Datapath) -> None:
        self.dp = dp
        self.pods: dict[str, Any] = {
            name: dp.endpoints.create(ADDRESSES[name], labels=labels(USUAL, name)) for name in PODS
        }

    def apply(self, row: Row) -> None:
        """Labels that differ, then the policies."""
        for name, endpoint in self.pods.items():
            wanted = labels(row, name)
            if endpoint.labels != wanted:
                endpoint.set_labels(wanted)
        self.dp.policies.apply(load_manifests(row.policies))


def labels(row: Row, name: str) -> Labels:
    """What an orchestrator would say of a pod."""
    namespace = name[0]
    assert namespace in NAMESPACES
    return Labels.of_pod(
        row.labels(name),
        namespace,
        namespace_labels=row.namespace_labels(namespace),
        named_ports=dict(row.named_ports(name)),
    )


@contextmanager
def arena(node: NetNS, outside: NetNS) -> Iterator[Arena]:
    """A node with an address of its own, which forwards to a host that is outside."""
    addresses.add(f"{ADDRESSES[NODE]}/32", links.get("lo", ns=node).index, ns=node)
    near, far = links.create_veth("out", "eth0", peer_ns=outside, ns=node)
    for index, ns, address in (
        (near.index, node, "192.0.2.1/24"),
        (far.index, outside, f"{ADDRESSES[OUTSIDE]}/24"),
    ):
        addresses.add(address, index, ns=ns)
        links.set_up(index, ns=ns)
    for prefix in ("10.1.0.0/16", "10.0.0.0/24"):
        routes.add(prefix, via="192.0.2.1", dev=far.index, ns=outside)
    sysctl.write("net.ipv4.ip_forward", 1, ns=node)
    with node.run(lambda: Datapath.open(events="none")) as dp:
        yield Arena(dp)
