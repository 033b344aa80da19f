# SPDX-License-Identifier: Apache-2.0
"""Policies in audit mode: what they would deny passes, is reported, and is denied in force."""

from __future__ import annotations

import attrs
import pytest

from pycilium import Datapath, Policy
from pycilium.model import Direction, Flow
from pycilium.model.policy import DEFAULT_DENY

from .traffic import listening, reaches

pytestmark = pytest.mark.root


def audited(dp: Datapath) -> list[tuple[int, Direction | None, str]]:
    return [
        (flow.destination.port, flow.audited, flow.rule.policy if flow.rule else "")
        for flow in dp.flows(timeout=0)
        if isinstance(flow, Flow) and flow.protocol == 6
    ]


def test_what_a_policy_in_audit_mode_would_deny_passes_and_is_told(dp: Datapath) -> None:
    web = dp.endpoints.create("10.1.0.10", labels={"app": "web"}, name="web")
    db = dp.endpoints.create("10.1.0.20", labels={"app": "db"}, name="db")
    allow = Policy.allow(from_="app=web", to="app=db", ports="80/tcp", name="allow")
    deny = Policy.deny(from_="app=web", subject="from", ports="81/tcp", name="deny")
    wanted = [attrs.evolve(one, audit=True) for one in (allow, deny)]
    dp.policies.apply(wanted)
    for port in (80, 81, 82):
        with listening(db, port):
            assert reaches(web, "10.1.0.20", port)
    assert audited(dp) == [
        (80, None, ""),  # by default: what is in audit mode does not allow either
        (81, Direction.EGRESS, "deny"),
        (82, Direction.INGRESS, DEFAULT_DENY.policy),
    ]
    assert dp.counters()["PCL_AUDITED"].packets == 2
    dp.policies.apply([allow, deny])
    with listening(db, 80):
        assert reaches(web, "10.1.0.20", 80)
    for port in (81, 82):
        with listening(db, port):
            assert not reaches(web, "10.1.0.20", port)


def test_an_enforced_denial_stands_above_audit(dp: Datapath) -> None:
    web = dp.endpoints.create("10.1.0.10", labels={"app": "web"}, name="web")
    db = dp.endpoints.create("10.1.0.20", labels={"app": "db"}, name="db")
    enforced = Policy.allow(from_="app=web", to="app=db", ports="80/tcp", name="enforced")
    wider = Policy.allow(from_="app=web", to="app=db", ports="81/tcp", name="wider")
    dp.policies.apply([enforced, attrs.evolve(wider, audit=True)])
    with listening(db, 81):
        assert not reaches(web, "10.1.0.20", 81)


def test_explain_says_what_audit_mode_lets_through(dp: Datapath) -> None:
    web = dp.endpoints.create("10.1.0.10", labels={"app": "web"}, name="web")
    db = dp.endpoints.create("10.1.0.20", labels={"app": "db"}, name="db")
    deny = Policy.deny(from_="app=web", to="app=db", ports="22/tcp", name="no-ssh")
    dp.policies.apply(deny, audit=True)
    answer = dp.explain(web, db, "22/tcp")
    assert answer.allowed
    assert answer.audited
    assert answer.rule == deny.rules[0].ref
    assert not answer.disagreement
    assert "allowed in audit mode, else denied by no-ssh (test_audit.py:" in answer.headline
    assert not dp.explain(web, db, "23/tcp").audited


def test_the_log_word_is_in_the_flow(dp: Datapath) -> None:
    web = dp.endpoints.create("10.1.0.10", labels={"app": "web"}, name="web")
    db = dp.endpoints.create("10.1.0.20", labels={"app": "db"}, name="db")
    allow = Policy.allow(from_="app=web", to="app=db", ports="80/tcp", name="allow")
    rule = attrs.evolve(allow.rules[0], log="storefront")
    dp.policies.apply(attrs.evolve(allow, rules=(rule,)))
    with listening(db, 80):
        assert reaches(web, "10.1.0.20", 80)
    (flow,) = (f for f in dp.flows(timeout=0) if isinstance(f, Flow) and f.protocol == 6)
    assert flow.log == "storefront"
    assert str(flow).endswith("[storefront]")


def test_a_denial_behind_an_audited_direction_is_named(dp: Datapath) -> None:
    """Found by random rules: egress would be denied in audit mode, ingress is denied."""
    web = dp.endpoints.create("10.1.0.10", labels={"app": "web"}, name="web")
    db = dp.endpoints.create("10.1.0.20", labels={"app": "db"}, name="db")
    trial = attrs.evolve(Policy.deny(from_="app=web", subject="from", name="trial"), audit=True)
    deny = Policy.deny(from_="app=web", to="app=db", name="deny")
    dp.policies.apply([trial, deny])
    answer = dp.explain(web, db, "80/tcp")
    assert not answer.allowed
    assert answer.rule == deny.rules[0].ref
    assert not answer.disagreement
