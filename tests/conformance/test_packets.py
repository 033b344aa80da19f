# SPDX-License-Identifier: Apache-2.0
"""The truth tables with real packets: UDP, TCP SYN and SCTP INIT between all ends, row by row."""

from __future__ import annotations

import socket

import pytest

from conformance import cluster_network_policy, network_policy
from conformance.arena import arena
from conformance.model import ADDRESSES, Row, either, into, out_of
from conformance.network_policy import BOTH, policy
from conformance.probes import Probes, crc32c
from pycilium.net import NetNS

pytestmark = pytest.mark.root
TABLES = {
    "NetworkPolicy": network_policy.ROWS,
    "ClusterNetworkPolicy": cluster_network_policy.ROWS,
}


@pytest.mark.parametrize("table", list(TABLES))
def test_every_row(node: NetNS, netns: NetNS, table: str) -> None:
    """One cluster and the same connections for all rows: each is an update of the one before."""
    with arena(node, netns) as made, Probes(made, node, netns) as probes:
        for row in TABLES[table]:
            made.apply(row)
            wrong = list(probes.wrong(row))
            assert not wrong, f"{len(wrong)} wrong\n" + "\n".join(wrong[:20])


def test_a_wrong_row_is_found(node: NetNS, netns: NetNS) -> None:
    """The probes see a leak and a loss: rows that say what the policies do not."""
    closed = policy("x", BOTH)
    with arena(node, netns) as made, Probes(made, node, netns) as probes:
        leaking = Row("no policy, but expected", (), either(into("x"), out_of("x")))
        made.apply(leaking)
        assert {line.split()[-1] for line in probes.wrong(leaking)} == {"leaks"}
        losing = Row("a policy, but not expected", (closed,), lambda *_: False)
        made.apply(losing)
        found = list(probes.wrong(losing))
        assert {line.rsplit(maxsplit=2)[-1] for line in found} == {"lost"}


def test_a_pod_reaches_itself_whatever_the_policy(node: NetNS, netns: NetNS) -> None:
    """A pod's own address is local to its namespace: such packets never meet a program."""
    with arena(node, netns) as made:
        made.apply(Row("closed", (policy("x", BOTH),), lambda *_: True))
        pod = made.pods["x/a"]
        address = (ADDRESSES["x/a"], 8080)
        before = {name: one.packets for name, one in made.dp.counters().items()}
        with (
            pod.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as server,
            pod.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as client,
        ):
            server.bind(address)
            server.listen()
            client.settimeout(2)
            client.connect(address)
            accepted, _ = server.accept()
            accepted.close()
        assert {name: one.packets for name, one in made.dp.counters().items()} == before


def test_the_checksum_of_sctp() -> None:
    assert crc32c(b"123456789") == 0xE3069283
