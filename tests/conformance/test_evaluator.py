# SPDX-License-Identifier: Apache-2.0
"""The truth table, asked of the evaluator."""

from __future__ import annotations

import pytest

from conformance.table import NAMED, NAMESPACES, PODS, PORTS, PROTOCOLS, ROWS, Row, address
from pycilium.policy import Peer, PolicySet

PEERS = {
    f"{namespace}/{name}": Peer(namespace, {"pod": name}, address(namespace, name), NAMED)
    for namespace in NAMESPACES
    for name in PODS
}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name.replace(" ", "-"))
def test_row(row: Row) -> None:
    spaces = {one: {"ns": one} for one in NAMESPACES}
    policies = PolicySet.from_manifests(row.policies, namespaces=spaces)
    wrong = []
    for source, one in PEERS.items():
        for destination, other in PEERS.items():
            for port in PORTS if source != destination else ():
                for protocol in PROTOCOLS:
                    verdict = policies.verdict(one, other, port, protocol)
                    if verdict.allowed == row.denied(source, destination, port, protocol):
                        wrong.append(f"{source} → {destination}:{port}/{protocol}: {verdict}")
    assert not wrong, "\n".join(wrong[:10])
