# SPDX-License-Identifier: Apache-2.0
"""The truth table, asked of the kernel: every packet goes through the attached program."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from conformance.table import NAMED, NAMESPACES, PODS, PORTS, PROTOCOLS, ROWS, Row, address
from pycilium import Datapath
from pycilium.datapath.packet import Question
from pycilium.datapath.wire import mac_bytes
from pycilium.model import Labels
from pycilium.model.port import PROTOCOLS as NUMBERS
from pycilium.net import NetNS
from pycilium.policy import load_manifests

pytestmark = pytest.mark.root
DROPPED = 2


def labels(namespace: str, name: str) -> Labels:
    return Labels.of_pod(
        {"pod": name}, namespace, namespace_labels={"ns": namespace}, named_ports=NAMED
    )


class Cluster:
    """Nine pods on one node; every question is a connection of its own."""

    def __init__(self, node: NetNS, dp: Datapath) -> None:
        self.node, self.dp = node, dp
        self.source_port = 1024
        self.pods: dict[str, Any] = {
            f"{namespace}/{name}": dp.endpoints.create(
                address(namespace, name), labels=labels(namespace, name)
            )
            for namespace in NAMESPACES
            for name in PODS
        }

    def allows(self, source: str, destination: str, port: int, protocol: str) -> bool:
        one, other = self.pods[source], self.pods[destination]
        self.source_port = 1024 + (self.source_port - 1023) % 60000
        question = Question(
            source=one.ip,
            destination=other.ip,
            protocol=NUMBERS[protocol.lower()],
            source_port=self.source_port,
            destination_port=port,
            source_mac=mac_bytes(one.mac),
            destination_mac=mac_bytes(one.device.host_mac),
        )
        program = self.dp.object.programs["from_endpoint"]
        ctx = {"ifindex": one.ifindex}
        run = self.node.run(lambda: program.test_run(question.frame(), ctx=ctx))
        return bool(run.retval != DROPPED)

    def wrong(self, row: Row) -> Iterator[str]:
        for source in self.pods:
            for destination in self.pods:
                for port in PORTS if source != destination else ():
                    for protocol in PROTOCOLS:
                        denied = row.denied(source, destination, port, protocol)
                        if self.allows(source, destination, port, protocol) == denied:
                            yield f"{row.name}: {source} → {destination}:{port}/{protocol}"


def test_every_row(node: NetNS) -> None:
    """One cluster for all rows, so that each is also an update of the one before."""
    with node.run(lambda: Datapath.open(events="none")) as dp:
        cluster = Cluster(node, dp)
        for row in ROWS:
            dp.policies.apply(load_manifests(row.policies))
            assert not list(cluster.wrong(row))


def test_labels_are_updated(node: NetNS) -> None:
    """A pod that changes its labels comes under a policy, and leaves it again."""
    row = next(row for row in ROWS if row.name == "one pod only")
    with node.run(lambda: Datapath.open(events="none")) as dp:
        cluster = Cluster(node, dp)
        dp.policies.apply(load_manifests(row.policies))
        assert cluster.allows("y/a", "x/b", 80, "TCP")
        cluster.pods["x/b"].set_labels(labels("x", "a"))
        assert not cluster.allows("y/a", "x/b", 80, "TCP")
        cluster.pods["x/b"].set_labels(labels("x", "b"))
        assert cluster.allows("y/a", "x/b", 80, "TCP")
