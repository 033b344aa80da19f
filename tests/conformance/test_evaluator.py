# SPDX-License-Identifier: Apache-2.0
"""The truth tables, asked of the evaluator."""

from __future__ import annotations

import pytest

from conformance import cluster_network_policy, network_policy
from conformance.model import ADDRESSES, ENDS, NAMESPACES, NODE, OUTSIDE, PODS, Row
from pycilium.policy import Peer, PolicySet

ROWS = {
    **{f"np: {row.name}": row for row in network_policy.ROWS},
    **{f"cnp: {row.name}": row for row in cluster_network_policy.ROWS},
}


def peers(row: Row) -> dict[str, Peer]:
    found = {
        name: Peer(name[0], row.labels(name), ADDRESSES[name], row.named_ports(name))
        for name in PODS
    }
    found[NODE] = Peer(entity="host", ip=ADDRESSES[NODE])
    found[OUTSIDE] = Peer(ip=ADDRESSES[OUTSIDE])
    return found


@pytest.mark.parametrize("name", list(ROWS))
def test_row(name: str) -> None:
    row = ROWS[name]
    spaces = {one: row.namespace_labels(one) for one in NAMESPACES}
    policies = PolicySet.from_manifests(row.policies, namespaces=spaces)
    ends = peers(row)
    wrong = []
    for source, destination, port, protocol, allowed in row.questions():
        verdict = policies.verdict(ends[source], ends[destination], port, protocol)
        if verdict.allowed != allowed:
            wrong.append(f"{source} → {destination}:{port}/{protocol}: {verdict}")
    assert not wrong, "\n".join(wrong[:10])


def test_no_row_says_what_another_says() -> None:
    """A row that denies nothing proves little; most deny something, and each asks all pairs."""
    denying = [row for row in ROWS.values() if not all(one[4] for one in row.questions())]
    assert len(denying) > len(ROWS) * 0.8
    assert len({row.name for row in network_policy.ROWS}) == len(network_policy.ROWS)
    for row in ROWS.values():
        assert len(list(row.questions())) == (len(ENDS) * (len(ENDS) - 1) - 2) * 6
