# SPDX-License-Identifier: Apache-2.0
"""The invariants of policy that the rules alone can show, each by its name."""

from __future__ import annotations

from ipaddress import ip_address

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from differential import strategies as draw
from pycilium import Policy, SpecError
from pycilium.model import Action, Direction, Entity, Labels, Rule, Tier
from pycilium.model.selector import Operator, Requirement, Selector
from pycilium.policy import Peer, PolicySet, Subject, convert, evaluate, load_manifests

EMPTY = {
    "fromEndpoints": "fromEndpoints: []",
    "fromCIDR": "fromCIDR: []",
    "fromCIDRSet": "fromCIDRSet: []",
    "fromEntities": "fromEntities: []",
    "fromNodes": "fromNodes: []",
    "an unknown CIDR group": "fromCIDRSet: [{cidrGroupRef: nowhere}]",
    "a selector of no CIDR group": "fromCIDRSet: [{cidrGroupSelector: {matchLabels: {a: b}}}]",
}
EMPTY_EGRESS = {
    "toEndpoints": "toEndpoints: []",
    "toServices": "toServices: []",
    "an unknown service": "toServices: [{k8sService: {serviceName: x, namespace: y}}]",
    "a name that nothing is known of": 'toFQDNs: [{matchName: "example.com"}]',
    "toFQDNs": "toFQDNs: []",
    "toCIDRSet": "toCIDRSet: []",
}
PEERS = {
    "web": Peer("x", {"app": "web"}, "10.1.0.1"),
    "db": Peer("x", {"app": "db"}, "10.1.0.2"),
    "stranger": Peer("y", {"app": "web"}, "10.1.0.3"),
    "outside": Peer(ip="192.0.2.1"),
    "host": Peer(entity="host", ip="10.1.255.254"),
}


def manifest(direction: str, rule: str) -> str:
    return (
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p, namespace: x}\n"
        f"spec: {{endpointSelector: {{}}, {direction}: [{{{rule}}}]}}\n"
    )


@pytest.mark.parametrize("rule", EMPTY.values(), ids=EMPTY)
def test_p1_an_empty_list_of_sources_is_nobody(rule: str) -> None:
    policies = PolicySet(load_manifests(manifest("ingress", rule)), allow_host=False)
    for name in ("web", "stranger", "outside", "host"):
        assert not policies.verdict(PEERS[name], PEERS["db"], 80), name


@pytest.mark.parametrize("rule", EMPTY_EGRESS.values(), ids=EMPTY_EGRESS)
def test_p1_an_empty_list_of_destinations_is_nobody(rule: str) -> None:
    policies = PolicySet(load_manifests(manifest("egress", rule)))
    for name in ("web", "stranger", "outside"):
        assert not policies.verdict(PEERS["db"], PEERS[name], 80), name


@pytest.mark.parametrize("rule", [*EMPTY.values(), "fromEndpoints: [{}]"])
def test_p1_absent_and_empty_stay_apart_through_export(rule: str) -> None:
    before = PolicySet(load_manifests(manifest("ingress", rule)))
    after = PolicySet(load_manifests(convert(before.policies).yaml))
    assert not before.diff(after, PEERS, [80])


subjects = st.one_of(
    st.builds(lambda one: Subject(one, ip_address("10.1.0.1")), draw.labels),
    st.sampled_from(draw.OUTSIDE).map(
        lambda one: Subject(address=ip_address(one), reserved="world", enforced=False)
    ),
)


@settings(max_examples=300, deadline=None)
@given(draw.policies, draw.labels, subjects, st.sampled_from(draw.PORTS))
def test_p2_a_matching_deny_wins_over_all_of_its_place(
    policies: list[Policy], labels: Labels, peer: Subject, port: int
) -> None:
    """Whatever allows the same with a narrower prefix, a smaller range, earlier or later."""
    flat = [
        attrs.evolve(
            one, tier=Tier.NORMAL, priority=0, audit=False,
            rules=tuple(attrs.evolve(r, order=0) for r in one.rules),
        )
        for one in policies
    ]  # fmt: skip
    me = Subject(labels, ip_address("10.1.0.2"))
    deny = Rule(Direction.INGRESS, (Entity.ALL,), None, Action.DENY)
    for place in (0, len(flat)):
        known = [*flat]
        known.insert(place, Policy("deny", Selector(), (deny,)))
        verdict = evaluate(known, attrs.evolve(peer, enforced=False), me, port, 6)
        assert not verdict.allowed
        assert verdict.direction is Direction.INGRESS


@pytest.mark.parametrize("priority", [0, 1, 2**31 - 1, 2**31, 2**32 - 1])
def test_p2_priorities_do_not_wrap(priority: int) -> None:
    """The lower speaks first over the whole range."""
    allow = Policy.allow(to="app=db", from_="app=web", priority=priority)
    deny = Policy.deny(to="app=db", from_="app=web", priority=priority + 1)
    web, db = (Subject(Labels.of({"app": name})) for name in ("web", "db"))
    assert evaluate([allow, deny], web, db, 80, 6).allowed
    later = attrs.evolve(deny, priority=priority - 1)
    assert not evaluate([allow, later], web, db, 80, 6).allowed


@pytest.mark.parametrize("key", ["io.kubernetes.pod.namespace", "io.cilium.x", "reserved:host",
                                 "k8s:app", "cidr:10.0.0.0/8"])  # fmt: skip
def test_p6_a_pod_cannot_say_what_is_the_clusters_to_say(key: str) -> None:
    with pytest.raises(SpecError, match="labels"):
        Labels.of_pod({key: "x"}, "shop")


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(("app", "team", "io.kubernetes.pod.namespace")),
    st.sampled_from(Operator),
    st.sampled_from(("x", "y", "web")),
)
def test_p6_a_policy_of_a_namespace_selects_nothing_outside(
    key: str, operator: Operator, value: str
) -> None:
    values = [value] if operator in (Operator.IN, Operator.NOT_IN) else []
    expression = {"key": key, "operator": operator.value, **({"values": values} if values else {})}
    document = {
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "p", "namespace": "x"},
        "spec": {"endpointSelector": {"matchExpressions": [expression]}, "ingressDeny": [{}]},
    }
    policies = PolicySet(load_manifests(document))
    assert not policies.selecting(PEERS["stranger"])


CLASSES = {
    "pod": Subject(Labels.of_pod({"app": "web"}, "x"), ip_address("10.1.0.1")),
    "host": Subject(address=ip_address("10.1.255.254"), reserved="host", enforced=False),
    "remote-node": Subject(address=ip_address("10.2.0.1"), reserved="remote-node", enforced=False),
    "world": Subject(address=ip_address("192.0.2.1"), reserved="world", enforced=False),
    "ingress": Subject(reserved="ingress", enforced=False),
    "health": Subject(reserved="health", enforced=False),
}
ENTITIES = {"host", "remote-node", "world", "ingress", "health"}


@pytest.mark.parametrize("name", CLASSES)
def test_p7_every_peer_is_of_one_class(name: str) -> None:
    """Entities beside one another, and a selector for everything means workloads alone."""
    db = Subject(Labels.of({"app": "db"}))
    matching = set()
    for entity in ENTITIES:
        policy = Policy.allow(to="app=db", from_=f"entity:{entity}")
        if evaluate([policy], CLASSES[name], db, 80, 6, allow_host=False).allowed:
            matching.add(entity)
    assert matching == {name} & ENTITIES
    anything = Rule(Direction.INGRESS, (Selector(),), None)
    everybody = Policy("p", Selector(), (anything,), default_deny_ingress=True)
    allowed = evaluate([everybody], CLASSES[name], db, 80, 6, allow_host=False).allowed
    assert allowed == (name == "pod")


@pytest.mark.parametrize("name", CLASSES)
def test_p7_selectors_of_nodes_never_mean_pods(name: str) -> None:
    text = manifest("ingress", "fromNodes: [{}]")
    policies = load_manifests(text)
    me = Subject(Labels.of_pod({"app": "db"}, "x"))
    allowed = evaluate(policies, CLASSES[name], me, 80, 6, allow_host=False).allowed
    assert allowed == (name in ("host", "remote-node"))


def test_p7_nobody_is_selected_by_a_requirement_that_no_label_can_meet() -> None:
    never = Selector((Requirement("reserved:host", Operator.EXISTS),))
    policy = Policy("p", never, (), default_deny_ingress=True)
    assert not PolicySet([policy]).selecting(PEERS["web"])
