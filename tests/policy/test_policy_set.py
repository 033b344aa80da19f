# SPDX-License-Identifier: Apache-2.0
"""PolicySet: matrices, differences, remarks, suggestions."""

from __future__ import annotations

import json
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycilium import Policy, SpecError
from pycilium.model import CidrPeer, Direction, Entity, FqdnPeer, NamedPort, PortRange, Rule
from pycilium.model.selector import Selector
from pycilium.policy import Peer, PolicySet
from pycilium.policy.covering import CoverIndex, Placed

WEB = Peer(labels={"app": "web"}, ip="10.0.0.4")
DB = Peer(labels={"app": "db"}, ip="10.0.0.5")
OUT = Peer(ip="192.0.2.1")
PEERS = {"web": WEB, "db": DB, "out": OUT}
ALLOW = Policy.allow(to="app=db", from_="app=web", ports="5432/tcp")


def test_a_denial_names_direction_policies_and_the_nearest_allow() -> None:
    verdict = PolicySet([ALLOW]).verdict(WEB, DB, 22)
    assert (verdict.allowed, str(verdict.direction)) == (False, "ingress")
    assert verdict.policies == (ALLOW.name,)
    assert verdict.nearest is not None
    assert verdict.nearest.rule.ref.file == __file__
    assert "the port is 22/tcp" in str(verdict)


def test_the_matrix_in_every_form() -> None:
    matrix = PolicySet([ALLOW]).matrix(PEERS, [5432, "22/tcp"])
    assert len(matrix) == 12
    assert [cell.verdict.allowed for cell in matrix["web", "db"]] == [True, False]
    assert "5432/tcp" in str(matrix)
    assert matrix._repr_html_().count("<tr>") == 4
    assert matrix.to_rows()[0]["source"] == "web"
    assert matrix.__rich__().row_count == 3


def test_html_escapes_names() -> None:
    matrix = PolicySet().matrix({"<script>": WEB, "b": DB}, [80])
    assert "<script>" not in matrix._repr_html_()


def test_a_difference_says_what_opens_and_what_closes() -> None:
    wider = Policy.allow(to="app=db", from_="app=web", ports="22/tcp")
    found = PolicySet([ALLOW]).diff(PolicySet([wider]), PEERS, [22, 5432])
    assert bool(found)
    assert [(c.after.source, c.after.port.first) for c in found.opened] == [("web", 22)]
    assert [(c.after.source, c.after.port.first) for c in found.closed] == [("web", 5432)]
    assert "| 🟢 opened | web | db | 22/tcp |" in found.to_markdown()
    assert json.loads(found.to_json())["asked"] == 12
    assert not PolicySet([ALLOW]).diff(PolicySet([ALLOW]), PEERS, [22])


def test_a_large_matrix_is_shown_in_part_and_written_in_full() -> None:
    peers = {f"p{i}": Peer(labels={"app": str(i)}, ip=f"10.0.0.{i}") for i in range(60)}
    matrix = PolicySet([ALLOW]).matrix(peers, [80])
    shown, page = matrix._repr_html_(), matrix.to_html()
    assert "50 of 60 peers are shown" in shown
    assert (shown.count("<tr>"), page.count("<tr>")) == (51, 61)
    with pytest.raises(KeyError):
        matrix["p1", "p1"]


def test_brackets_in_names_are_not_marks_of_rich() -> None:
    from rich.console import Console

    matrix = PolicySet().matrix({"[red]a": WEB, "b": DB}, [80])
    console = Console(width=100)
    with console.capture() as captured:
        console.print(matrix)
    assert "[red]a" in captured.get()


RULES = st.builds(
    Rule,
    st.sampled_from(list(Direction)),
    st.none() | st.lists(
        st.sampled_from([
            Selector.parse("app=web"), Selector.parse("app=web,tier=a"), Selector(), Entity.ALL,
            Entity.WORLD, CidrPeer(ip_network("10.0.0.0/8")), CidrPeer(ip_network("10.1.0.0/16")),
            CidrPeer(ip_network("10.0.0.0/8"), (ip_network("10.1.0.0/16"),)), FqdnPeer("a.b"),
        ]),
        max_size=3,
    ).map(tuple),
    st.none() | st.lists(
        st.sampled_from([
            PortRange(0), PortRange(6), PortRange(6, 80, 80), PortRange(6, 80, 90),
            PortRange(17, 80, 90), NamedPort(6, "web"),
        ]),
        max_size=3,
    ).map(tuple),
)  # fmt: skip
POLICIES = st.builds(
    Policy,
    st.just("p"),
    st.sampled_from(["*", "app=db", "app=db,tier=a", "app=web"]).map(Selector.parse),
    st.lists(RULES, max_size=3).map(tuple),
    nodes=st.booleans(),
)


@given(st.lists(POLICIES, max_size=6))
def test_the_index_finds_every_rule_that_covers_another(policies: list[Policy]) -> None:
    placed = [Placed(policy, rule) for policy in policies for rule in policy.rules]
    index = CoverIndex(placed)
    for number, mine in enumerate(placed):
        everyone = [
            (i, other) for i, other in enumerate(placed) if i != number and other.covers(mine)
        ]
        assert list(index.covering(number)) == everyone


def test_lint_grows_with_the_rules_and_not_with_their_square() -> None:
    """Steps, not seconds: pairs of rules that are compared."""
    counts = []
    for size in (500, 2000):
        policies = [
            Policy.allow(to=f"app=a{i}", from_=f"app=b{i % 97}", ports=f"{i % 50 + 1}/tcp")
            for i in range(size)
        ]
        placed = [Placed(policy, rule) for policy in policies for rule in policy.rules]
        index = CoverIndex(placed)
        counts.append(sum(len(found) for i in range(size) for found in index.candidates(i)))
    assert counts[1] <= counts[0] * 8


LINTS: list[tuple[str, list[Policy]]] = [
    ("duplicate", [ALLOW, Policy.allow(to="app=db", from_="app=web", ports="5432/tcp")]),
    ("shadowed", [ALLOW, Policy.allow(to="app=db", from_="app=web", ports="5000-6000/tcp")]),
    ("hidden-by-deny", [ALLOW, Policy.deny(to="*", from_="app=web")]),
    ("selects-nothing", [Policy.allow(to="app=gone", from_="app=web")]),
    ("matches-nothing", [Policy.allow(to="app=db", from_="app=gone")]),
]


@pytest.mark.parametrize(("kind", "policies"), LINTS, ids=[one[0] for one in LINTS])
def test_lint_finds(kind: str, policies: list[Policy]) -> None:
    assert [one.kind for one in PolicySet(policies).lint(PEERS)] == [kind]


def test_lint_is_silent_on_what_is_meant() -> None:
    assert PolicySet([ALLOW, Policy.deny(to="app=db", from_="app=x")]).lint() == []


HTTP = """
kind: CiliumNetworkPolicy
metadata: {name: http}
spec:
  endpointSelector: {}
  ingress:
  - fromEndpoints: [{}]
    toPorts: [{ports: [{port: "80", protocol: TCP}], rules: {http: [{method: GET}]}}]
  - fromEndpoints: [{}]
    toPorts: [{ports: [{port: "80", protocol: TCP}]}]
"""


def test_lint_finds_l7_that_cannot_apply() -> None:
    assert [one.kind for one in PolicySet.from_manifests(HTTP).lint()] == ["l7-without-effect"]


@pytest.mark.parametrize(
    ("source", "destination", "port", "protocol"),
    [
        (WEB, DB, 22, "TCP"),
        (OUT, DB, 5432, "TCP"),
        (OUT, DB, 8, "ICMP"),
        (Peer(entity="remote-node"), DB, 80, "TCP"),
    ],
)
def test_a_suggestion_allows_what_it_is_for(
    source: Peer, destination: Peer, port: int, protocol: str
) -> None:
    both = [ALLOW, Policy.allow(from_="app=web", to="app=nobody", subject="from")]
    policies = PolicySet(both)
    assert not policies.verdict(source, destination, port, protocol)
    found = policies.suggest(source, destination, port, protocol)
    assert found.verdict.allowed
    again = PolicySet([*both, *PolicySet.from_manifests(found.yaml).policies])
    assert again.verdict(source, destination, port, protocol).allowed
    assert not again.verdict(source, destination, port + 1, protocol).allowed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"labels": 5}, "labels"),
        ({"ip": "10.0.0"}, "ip"),
        ({}, "labels, a namespace, an ip or an entity"),
        ({"entity": "moon"}, "entity"),
        ({"labels": {}, "named_ports": {"WEB": ("TCP", 1)}}, "named_ports"),
        ({"labels": {}, "named_ports": {"web": ("TCP", 70000)}}, "named_ports.web"),
        ({"labels": {}, "named_ports": {"web": 80}}, "named_ports.web"),
    ],
)
def test_a_bad_peer_is_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        Peer(**arguments)


@pytest.mark.parametrize(
    ("port", "protocol"), [(-1, "TCP"), (65536, "TCP"), ("80", "TCP"), (80, "XTP")]
)
def test_a_bad_question_is_refused(port: Any, protocol: str) -> None:
    with pytest.raises(SpecError):
        PolicySet().verdict(WEB, DB, port, protocol)
