# SPDX-License-Identifier: Apache-2.0
"""The truth tables, asked of the kernel: every packet goes through the attached program."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from conformance import cluster_network_policy, network_policy
from conformance.arena import Arena, arena
from conformance.model import ADDRESSES, NODE, Row
from pycilium.datapath.packet import Question
from pycilium.datapath.wire import mac_bytes
from pycilium.model.port import PROTOCOLS
from pycilium.net import NetNS

pytestmark = pytest.mark.root
DROPPED = 2
TABLES = {
    "NetworkPolicy": network_policy.ROWS,
    "ClusterNetworkPolicy": cluster_network_policy.ROWS,
}


class Asker:
    """Every question is a connection of its own, from a port that nobody else has."""

    def __init__(self, made: Arena) -> None:
        self.arena = made
        self.source_port = 1023

    def allows(self, source: str, destination: str, port: int, protocol: str) -> bool:
        """At the sender's device; at the receiver's for what comes from outside."""
        self.source_port += 1
        here = self.arena.pods.get(source) or self.arena.pods[destination]
        inside, host = mac_bytes(here.mac), mac_bytes(here.device.host_mac)
        leaves = source in self.arena.pods
        question = Question(
            source=ip_address(ADDRESSES[source]),
            destination=ip_address(ADDRESSES[destination]),
            protocol=PROTOCOLS[protocol.lower()],
            source_port=self.source_port,
            destination_port=port,
            source_mac=inside if leaves else host,
            destination_mac=host if leaves else inside,
        )
        name = "from_endpoint" if leaves else "to_endpoint"
        program = self.arena.dp.object.programs[name]
        run = program.test_run(question.frame(), ctx={"ifindex": here.ifindex})
        return bool(run.retval != DROPPED)

    def wrong(self, row: Row) -> Iterator[str]:
        """What the kernel decides otherwise; the node itself sends no packet here."""
        self.source_port = 1023
        for source, destination, port, protocol, allowed in row.questions():
            if source == NODE:
                continue
            if self.allows(source, destination, port, protocol) != allowed:
                yield f"{row.name}: {source} → {destination}:{port}/{protocol} must be {allowed}"


@pytest.mark.parametrize("table", list(TABLES))
def test_every_row(node: NetNS, netns: NetNS, table: str) -> None:
    """One cluster and the same connections for all rows: each is an update of the one before."""
    with arena(node, netns) as made:
        asker = Asker(made)
        for row in TABLES[table]:
            made.apply(row)
            wrong = node.run(lambda row=row: list(asker.wrong(row)))
            assert not wrong, "\n".join(wrong[:10])
