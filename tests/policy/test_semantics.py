# SPDX-License-Identifier: Apache-2.0
"""What policies mean, case by case: deny wins, empty is nobody, namespaces are walls."""

from __future__ import annotations

from pathlib import Path

import pytest

from pycilium import Policy, SpecError
from pycilium.model import Labels
from pycilium.policy import Subject, evaluate, load_manifests

HEAD = """apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: p, namespace: shop}
spec:
"""


def pod(app: str, namespace: str = "shop") -> Subject:
    return Subject(Labels.of({"app": app, "io.kubernetes.pod.namespace": namespace}))


def ask(text: str, source: Subject, destination: Subject, port: int = 80) -> bool:
    return evaluate(load_manifests(HEAD + text), source, destination, port, 6).allowed


ALLOW_WEB = """  endpointSelector: {matchLabels: {app: db}}
  ingress:
  - fromEndpoints:
    - matchLabels: {app: web}
"""


def test_selected_is_denied_unless_allowed() -> None:
    assert ask(ALLOW_WEB, pod("web"), pod("db"))
    assert not ask(ALLOW_WEB, pod("cat"), pod("db"))
    assert ask(ALLOW_WEB, pod("cat"), pod("web"))


def test_a_namespaced_policy_selects_and_admits_its_own_namespace_only() -> None:
    assert not ask(ALLOW_WEB, pod("web", "other"), pod("db"))
    assert ask(ALLOW_WEB, pod("web", "other"), pod("db", "other"))


@pytest.mark.parametrize("operator", ["NotIn", "DoesNotExist"])
def test_no_operator_reaches_beyond_the_namespace(operator: str) -> None:
    values = "values: [nobody]" if operator == "NotIn" else ""
    expression = f"{{key: tier, operator: {operator}, {values}}}".replace(", }", "}")
    text = f"""  endpointSelector: {{matchExpressions: [{expression}]}}
  ingress: [{{}}]
"""
    assert not ask(text, pod("web"), pod("db"))
    assert ask(text, pod("web"), pod("db", "other"))


def test_a_peer_selector_that_names_a_namespace_crosses() -> None:
    text = """  endpointSelector: {}
  ingress:
  - fromEndpoints:
    - matchLabels: {app: web, io.kubernetes.pod.namespace: other}
"""
    assert ask(text, pod("web", "other"), pod("db"))
    assert not ask(text, pod("web"), pod("db"))


@pytest.mark.parametrize(
    ("rule", "allowed"),
    [
        ("- {}", False),
        ("- fromEndpoints: []", False),
        ("- fromEndpoints: [{}]", True),
        ("- toPorts: [{ports: [{port: '80', protocol: TCP}]}]", True),
        ("- toPorts: [{ports: [{port: '81', protocol: TCP}]}]", False),
        ("- fromEntities: [cluster]", True),
        ("- fromEntities: [none]", False),
    ],
)
def test_empty_is_never_all(rule: str, allowed: bool) -> None:
    text = f"  endpointSelector: {{}}\n  ingress:\n  {rule}\n"
    assert ask(text, pod("web"), pod("db")) is allowed


def test_an_empty_section_does_not_turn_on_default_deny() -> None:
    assert ask("  endpointSelector: {}\n  ingress: []\n", pod("web"), pod("db"))


def test_default_deny_can_be_turned_off() -> None:
    text = ALLOW_WEB + "  enableDefaultDeny: {ingress: false}\n"
    assert ask(text, pod("cat"), pod("db"))


def test_deny_wins_over_a_narrower_allow() -> None:
    text = """  endpointSelector: {}
  ingress:
  - fromEndpoints: [{matchLabels: {app: web}}]
    toPorts: [{ports: [{port: "80", protocol: TCP}]}]
  ingressDeny:
  - fromEntities: [all]
"""
    assert not ask(text, pod("web"), pod("db"))


def test_the_nearest_rule_says_what_differs() -> None:
    verdict = evaluate(load_manifests(HEAD + ALLOW_WEB), pod("cat"), pod("db"), 80, 6)
    assert verdict.nearest is not None
    assert "app=cat" in verdict.nearest.missing


def test_rules_know_their_line(tmp_path: Path) -> None:
    path = tmp_path / "db.yaml"
    path.write_text(HEAD + ALLOW_WEB)
    (policy,) = load_manifests(path)
    assert str(policy.rules[0].ref) == "p (db.yaml:7)"
    assert Policy.from_yaml(path) == policy


def test_the_builder_knows_its_callers_line() -> None:
    policy = Policy.allow(to="app=db", from_="app=web", ports="5432/tcp")
    assert policy.rules[0].ref.file == __file__


SPEC = "  endpointSelector: {}\n"
BAD = [
    ("  ingress: []\n", "endpointSelector"),
    (SPEC + "  ingres: []\n", "spec.ingres"),
    (SPEC + "  ingress: 5\n", "spec.ingress"),
    (SPEC + "  ingress: [{fromCIDR: [10.0.0.0/33]}]\n", "spec.ingress[0].fromCIDR[0]"),
    (SPEC + "  ingress: [{fromCIDR: [10.0.0.1/8]}]\n", "host bits"),
    (
        SPEC + "  ingress: [{fromCIDRSet: [{cidr: 10.0.0.0/8, except: [11.0.0.0/8]}]}]\n",
        "a part of",
    ),
    (SPEC + "  ingress: [{fromCIDRSet: [{cidr: 10.0.0.0/8, except: [0.0.0.0/0]}]}]\n", "a part of"),
    (SPEC + "  ingress: [{fromEntities: [moon]}]\n", "one of all, world"),
    (SPEC + "  ingress: [{fromEntities: [all], fromCIDR: [10.0.0.0/8]}]\n", "two rules"),
    (SPEC + "  ingress: [{toPorts: [{ports: [{port: '99999'}]}]}]\n", "65535"),
    (SPEC + "  ingress: [{toPorts: [{ports: [{port: '80', protocol: TPC}]}]}]\n", "TCP"),
    (SPEC + "  ingress: [{toPorts: [{ports: [{port: Web_}]}]}]\n", "a port's name"),
    (SPEC + "  ingress: [{toPorts: [{ports: [{port: '80', endPort: 79}]}]}]\n", "from 80"),
    (SPEC + "  egress: [{toFQDNs: [{matchName: '*.x'}]}]\n", "without *"),
    (SPEC + "  ingress: [{toPorts: [{rules: {http: [{}]}}]}]\n", "L7 rules beside ports"),
    ("  endpointSelector: {matchExpressions: [{key: a, operator: Is}]}\n", "NotIn"),
    ("  endpointSelector: {matchExpressions: [{key: a, operator: In}]}\n", "at least one value"),
    (SPEC + "  endpointSelector: {}\n", "each key once"),
    (SPEC + "  ingres: []\n", "did you mean ingress?"),
    (SPEC + "  egress: [{toGroups: []}]\n", "AWS"),
    (SPEC + "  nodeSelector: {}\n", "one of them"),
    (SPEC + "  egressDeny: [{toFQDNs: [{matchName: x}]}]\n", "no toFQDNs in a deny rule"),
    (
        SPEC + "  ingressDeny: [{toPorts: [{ports: [{port: '80', protocol: TCP}],"
        " rules: {http: [{}]}}]}]\n",
        "no L7 rules in a deny",
    ),
    (
        SPEC + "  ingress: [{toPorts: [{ports: [{port: '80', protocol: UDP}],"
        " rules: {http: [{}]}}]}]\n",
        "only with protocol TCP",
    ),
    (
        SPEC + "  ingress: [{toPorts: [{ports: [{port: '80', protocol: TCP}],"
        " rules: {http: [{path: '(?=x)'}]}}]}]\n",
        "RE2's syntax",
    ),
    (
        SPEC + "  ingress: [{toPorts: [{ports: [{port: '80', protocol: TCP}],"
        f" rules: {{http: [{{path: {'x' * 1025}}}]}}}}]}}]\n",
        "at most 1024 characters",
    ),
    (SPEC + "  ingress: [{icmps: [{fields: [{type: 256}]}]}]\n", "from 0 to 255"),
    (SPEC + "  ingress: [\n", "valid YAML"),
]


@pytest.mark.parametrize(("text", "words"), BAD, ids=range(len(BAD)))
def test_bad_manifests_say_where_and_what(text: str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_manifests(HEAD + text)
    assert words in str(caught.value)
    assert "<text>" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 5000 + "\n",
        "a: " + "{b: " * 200 + "1" + "}" * 200 + "\n",
        "a: &a [x]\nb: [" + ", ".join(["*a"] * 100) + "]\n",
        "x: " + "y" * (11 << 20) + "\n",
        "\n".join("  " * i + "a:" for i in range(100)) + "\n",
    ],
    ids=["brackets", "braces", "aliases", "bytes", "indent"],
)
def test_hostile_documents_are_refused(text: str) -> None:
    with pytest.raises(SpecError):
        load_manifests(text)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Policy.allow(to="app", from_="app=web"), "prefix"),
        (lambda: Policy.allow(to="app=db", ports="80/tpc"), "tcp"),
        (lambda: Policy.allow(to="app=db", ports="99999/tcp"), "65535"),
        (lambda: Policy.allow(to="app=db", ports="90-80/tcp"), "not above"),
        (lambda: Policy.allow(to="app=db", from_="entity:moon"), "world"),
        (lambda: Labels.of({"reserved:host": ""}), "reserved"),
        (lambda: Labels.of({"a b": "c"}), "space"),
    ],
)
def test_bad_values_from_python(make: object, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        make()  # type: ignore[operator]
    assert words in str(caught.value)
