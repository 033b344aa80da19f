# SPDX-License-Identifier: Apache-2.0
"""explain(): the kernel's answer in words, its rule, and no trace in live state."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from pycilium import Datapath, Policy, ServiceLB, SpecError

from .conftest import raw, state

pytestmark = pytest.mark.root


@pytest.fixture
def pair(dp: Datapath) -> tuple[Any, Any]:
    web = dp.endpoints.create(["10.1.0.10", "fd00::10"], labels={"app": "web"}, name="web")
    db = dp.endpoints.create(["10.1.0.20", "fd00::20"], labels={"app": "db"}, name="db")
    rule = {"from_": "app=web", "to": "app=db", "ports": "5432/tcp", "name": "db"}
    dp.policies.apply(Policy.allow(**rule))
    dp.services.apply(ServiceLB("10.96.0.10:5432/tcp", backends=["10.1.0.20:5432"]))
    return web, db


def stable(text: str) -> str:
    """Without the lines of the C code and of this file."""
    return re.sub(r"(\.(?:h|c|py)):\d+", r"\1:N", text)


def test_allowed_through_a_service(dp: Datapath, pair: tuple[Any, Any]) -> None:
    explanation = dp.explain(pair[0], "10.96.0.10:5432/tcp")
    assert explanation.allowed
    assert (
        stable(str(explanation))
        == """\
10.1.0.10 → 10.96.0.10:5432/tcp: allowed by db (test_explain.py:N)
├─ parse        tcp to 10.96.0.10, port 5432
├─ ct           new connection
├─ service      service 1 with 1 backend
├─ backend      10.1.0.20:5432 (backend 1)
├─ source       identity 256 (app=web), endpoint web (id 1)
├─ destination  identity 257 (app=db), endpoint db (id 2)
├─ policy       egress to 257 (app=db): allowed by default
├─ policy       ingress from 256 (app=web): allowed by db (test_explain.py:N)
├─ ct create    entry written
├─ ct create    entry written
├─ forward      to db by redirect_peer
└─ verdict      PCL_FORWARDED"""
    )


def test_denied_with_the_nearest_rule(dp: Datapath, pair: tuple[Any, Any]) -> None:
    explanation = dp.explain(pair[0], pair[1], "22/tcp")
    assert not explanation.allowed
    assert (
        stable(str(explanation))
        == """\
10.1.0.10 → 10.1.0.20:22/tcp: denied by default: no rule allows it
├─ parse        tcp to 10.1.0.20, port 22
├─ ct           new connection
├─ service      the destination is no service
├─ source       identity 256 (app=web), endpoint web (id 1)
├─ destination  identity 257 (app=db), endpoint db (id 2)
├─ policy       egress to 257 (app=db): allowed by default
├─ policy       ingress from 256 (app=web): denied by default: no rule allows it
├─ verdict      PCL_DROP_POLICY at policy.h:N
└─ nearest      db (test_explain.py:N) would allow from app=web on 5432/tcp, \
but the port is 22/tcp"""
    )


def test_every_way_to_ask(dp: Datapath, pair: tuple[Any, Any]) -> None:
    web, db = pair
    asked = [
        dp.explain(web, db, "5432/tcp"),
        dp.explain(web, db, 5432),
        dp.explain(web, (db, "5432/tcp")),
        dp.explain("web", "db", "5432"),
        dp.explain("10.1.0.10", "10.1.0.20:5432/tcp"),
        dp.explain(web, "[fd00::20]:5432/tcp"),
        dp.explain(db, web, "icmp"),
        dp.explain(db, "fd00::10", "icmp"),
        dp.explain(web, "192.0.2.1:53/udp"),
        dp.explain("192.0.2.1", web, "80/tcp"),
    ]
    assert all(asked)
    assert not any(one.disagreement for one in asked)
    refused = [dp.explain("192.0.2.1", db, "5432/tcp"), dp.explain(web, db, "icmp")]
    assert not any(refused)
    assert not any(one.disagreement for one in refused)


def test_nothing_live_is_touched(dp: Datapath) -> None:
    """IPv4 only: the kernel's own IPv6 chatter would count."""
    web = dp.endpoints.create("10.1.0.10", labels={"app": "web"})
    db = dp.endpoints.create("10.1.0.20", labels={"app": "db"})
    dp.services.apply(ServiceLB("10.96.0.10:5432/tcp", backends=["10.1.0.20:5432"]))

    def everything() -> tuple[Any, ...]:
        names = ("pcl_ct4", "pcl_ct6", "pcl_fragments", "pcl_counters", "pcl_event_counts")
        return (state(dp), *(raw_of(dp, name) for name in names))

    before = everything()
    for _ in range(3):
        dp.explain(web, db, "5432/tcp")
        dp.explain(web, "10.96.0.10:5432/tcp")
    assert dp.measure(web, "192.0.2.1:80/tcp", repeat=100) > 0
    assert everything() == before
    assert list(dp.flows(timeout=0)) == []


def raw_of(dp: Datapath, name: str) -> Any:
    table = dp.object.maps[name]
    return table.batch_lookup() if table.type.per_cpu else raw(table)


def test_disagreement_is_said_loudly(dp: Datapath, pair: tuple[Any, Any]) -> None:
    """The kernel's set is replaced behind the datapath's back."""
    outer = dp.object.maps["pcl_policies"]
    with outer.create_inner(1) as inner:
        outer[pair[1].slot] = inner
    explanation = dp.explain(pair[0], pair[1], "5432/tcp")
    assert not explanation.allowed
    assert "DISAGREEMENT" in str(explanation)
    assert "please report" in explanation.disagreement


def test_other_shapes(dp: Datapath, pair: tuple[Any, Any]) -> None:
    explanation = dp.explain(pair[0], pair[1], "22/tcp")
    plain = explanation.to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["steps"][0]["stage"] == "parse"
    assert "<table>" in explanation._repr_html_()


@pytest.mark.parametrize(
    ("source", "destination", "port", "field"),
    [
        ("web", "10.1.0.20", None, "port"),
        ("web", "nowhere", "80/tcp", "destination"),
        ("web", "10.1.0.20:80/sctp", None, "port"),
        ("web", "10.1.0.20", "0/tcp", "port"),
        ("web", "10.1.0.20", "99999", "port"),
        ("nobody", "10.1.0.20", "80/tcp", "source"),
        ("192.0.2.1", "192.0.2.2:80/tcp", None, "destination"),
        ("host", "web", "80/tcp", "source"),
        ("10.1.0.10", 5, None, "destination"),
    ],
)
def test_bad_questions(
    dp: Datapath, pair: tuple[Any, Any], source: Any, destination: Any, port: Any, field: str
) -> None:
    with pytest.raises(SpecError, match=f"^{field}"):
        dp.explain(source, destination, port)
