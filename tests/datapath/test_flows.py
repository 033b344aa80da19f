# SPDX-License-Identifier: Apache-2.0
"""Flows, counters, status: what happened, with names, and nothing missing silently."""

from __future__ import annotations

import pytest

from pycilium import Datapath, Policy, SpecError
from pycilium.datapath import LostFlows
from pycilium.net import NetNS

from .traffic import listening, open_connection, reaches

pytestmark = pytest.mark.root


def test_flows_name_endpoints_and_rules(dp: Datapath) -> None:
    web = dp.endpoints.create("10.1.0.10", labels={"app": "web"}, name="web")
    db = dp.endpoints.create("10.1.0.20", labels={"app": "db"}, name="db")
    dp.policies.apply(Policy.allow(from_="app=web", to="app=db", ports="80/tcp", name="rule"))
    with listening(db, 80):
        assert reaches(web, "10.1.0.20", 80)
        assert not reaches(web, "10.1.0.20", 22)
    allowed, denied, *_ = dp.flows(timeout=0)
    assert (allowed.source.name, allowed.destination.name, allowed.destination.port) == (
        "web",
        "db",
        80,
    )
    assert allowed.allowed
    assert str(allowed.rule).startswith("rule (test_flows.py:")
    assert (denied.allowed, denied.reason, denied.destination.port) == (
        False,
        "PCL_DROP_POLICY",
        22,
    )
    assert denied.location.startswith("policy.h:")
    assert dp.status().drops["PCL_DROP_POLICY"].packets >= 1
    counts = dp.status().events
    assert counts.emitted == counts.delivered + counts.lost


def test_losses_are_counted_exactly(node: NetNS) -> None:
    with node.run(lambda: Datapath.open(sizes={"pcl_events": 4096})) as dp:
        web = dp.endpoints.create("10.1.0.10", labels={"app": "web"})
        db = dp.endpoints.create("10.1.0.20", labels={"app": "db"})
        with listening(db, 80) as server:
            for _ in range(100):
                client = web.run(open_connection, "10.1.0.20", 80)
                assert client is not None
                client.close()
                server.accept()[0].close()
        flows = list(dp.flows(timeout=0))
        lost = sum(one.count for one in flows if isinstance(one, LostFlows))
        assert lost > 0
        counts = dp.status().events
        assert counts.emitted == counts.delivered + counts.lost
        assert (counts.delivered, counts.lost) == (len(flows) - 1, lost)


@pytest.mark.parametrize(("level", "expected"), [("none", 0), ("drops", 1)])
def test_level_of_events(node: NetNS, level: str, expected: int) -> None:
    with node.run(lambda: Datapath.open(events=level)) as dp:
        web = dp.endpoints.create("10.1.0.10", labels={"app": "web"})
        db = dp.endpoints.create("10.1.0.20", labels={"app": "db"})
        dp.policies.apply(Policy.allow(from_="app=web", to="app=db", ports="80/tcp"))
        with listening(db, 80):
            assert reaches(web, "10.1.0.20", 80)
            assert not reaches(web, "10.1.0.20", 22)
        assert len(list(dp.flows(timeout=0))) == expected


def test_reload_keeps_connections(dp: Datapath) -> None:
    web = dp.endpoints.create("10.1.0.10", labels={"app": "web"})
    db = dp.endpoints.create("10.1.0.20", labels={"app": "db"})
    with listening(db, 80) as server:
        client = web.run(open_connection, "10.1.0.20", 80)
        assert client is not None
        accepted, _ = server.accept()
        old = dp.object.programs["from_endpoint"].id
        dp.reload()
        assert dp.object.programs["from_endpoint"].id != old
        client.sendall(b"still here")
        assert accepted.recv(16) == b"still here"
        client.close()
        accepted.close()
    assert dp.explain(web, db, "80/tcp").allowed


@pytest.mark.parametrize(
    "arguments",
    [
        {"sizes": {"nope": 1}},
        {"sizes": {"pcl_ct4": 0}},
        {"sizes": {"pcl_ct4": "x"}},
        {"events": "all"},
    ],
)
def test_bad_options(arguments: dict[str, object]) -> None:
    with pytest.raises(SpecError):
        Datapath.open(**arguments)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Datapath.open(pinned="x")  # type: ignore[call-arg]
