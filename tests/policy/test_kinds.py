# SPDX-License-Identifier: Apache-2.0
"""Every kind of manifest, by what it means."""

from __future__ import annotations

from typing import Any

import pytest

from pycilium import SpecError
from pycilium.policy import DnsCache, Peer, PolicySet, convert, read_manifests

NAMESPACES = {"x": {"ns": "x"}, "y": {"ns": "y"}}
A = Peer(namespace="x", labels={"pod": "a"}, ip="10.0.0.4")
B = Peer(namespace="y", labels={"pod": "b"}, ip="10.0.0.5", named_ports={"web": ("TCP", 8080)})
C = Peer(namespace="x", labels={"pod": "c"}, ip="10.0.1.6")
OUTSIDE = Peer(ip="192.0.2.7")
HOST = Peer(entity="host")


def policy_set(text: str, **options: Any) -> PolicySet:
    return PolicySet.from_manifests(text, namespaces=NAMESPACES, **options)


def kubernetes(spec: str) -> str:
    head = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n"
    return f"{head}metadata: {{name: p, namespace: y}}\nspec: {spec}\n"


def cilium(spec: str, kind: str = "CiliumNetworkPolicy") -> str:
    namespace = ", namespace: y" if kind == "CiliumNetworkPolicy" else ""
    return (
        f"apiVersion: cilium.io/v2\nkind: {kind}\nmetadata: {{name: p{namespace}}}\nspec: {spec}\n"
    )


def cluster(tier: str, priority: int, rules: str, subject: str = "namespaces: {}") -> str:
    return (
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\n"
        f"metadata: {{name: {tier.lower()}-{priority}}}\n"
        f"spec: {{tier: {tier}, priority: {priority}, subject: {{{subject}}}, {rules}}}\n"
    )


def calico(spec: str, kind: str = "NetworkPolicy", name: str = "p") -> str:
    namespace = ", namespace: y" if kind == "NetworkPolicy" else ""
    head = f"apiVersion: projectcalico.org/v3\nkind: {kind}\n"
    return f"{head}metadata: {{name: {name}{namespace}}}\nspec: {spec}\n"


def every(*documents: str) -> str:
    return "---\n".join(documents)


LIST = '{"kind": "List", "items": []}'
ALL_OF_Y = "podSelector: {}"
CASES = [
    # Kubernetes' defaults
    ("k8s default deny ingress", kubernetes(f"{{{ALL_OF_Y}}}"), A, B, 80, "TCP", False),
    ("k8s default deny leaves egress", kubernetes(f"{{{ALL_OF_Y}}}"), B, A, 80, "TCP", True),
    ("k8s other namespace", kubernetes(f"{{{ALL_OF_Y}}}"), B, A, 80, "TCP", True),
    ("k8s empty is all", kubernetes(f"{{{ALL_OF_Y}, ingress: [{{}}]}}"), A, B, 80, "TCP", True),
    (
        "k8s from nobody but own pods",
        kubernetes(f"{{{ALL_OF_Y}, ingress: [{{from: [{{podSelector: {{}}}}]}}]}}"),
        A, B, 80, "TCP", False,
    ),
    (
        "k8s any namespace",
        kubernetes(f"{{{ALL_OF_Y}, ingress: [{{from: [{{namespaceSelector: {{}}}}]}}]}}"),
        A, B, 80, "TCP", True,
    ),
    (
        "k8s any namespace is not the world",
        kubernetes(f"{{{ALL_OF_Y}, ingress: [{{from: [{{namespaceSelector: {{}}}}]}}]}}"),
        OUTSIDE, B, 80, "TCP", False,
    ),
    (
        "k8s default port protocol",
        kubernetes(f"{{{ALL_OF_Y}, ingress: [{{ports: [{{port: 80}}]}}]}}"),
        A, B, 80, "UDP", False,
    ),
    (
        "k8s endPort",
        kubernetes(f"{{{ALL_OF_Y}, ingress: [{{ports: [{{port: 80, endPort: 90}}]}}]}}"),
        A, B, 90, "TCP", True,
    ),
    (
        "k8s named port",
        kubernetes(f"{{{ALL_OF_Y}, ingress: [{{ports: [{{port: web}}]}}]}}"),
        A, B, 8080, "TCP", True,
    ),
    (
        "k8s named port, other number",
        kubernetes(f"{{{ALL_OF_Y}, ingress: [{{ports: [{{port: web}}]}}]}}"),
        A, B, 80, "TCP", False,
    ),
    (
        "k8s named port of the destination, egress",
        kubernetes(f"{{{ALL_OF_Y}, policyTypes: [Egress], egress: [{{ports: [{{port: web}}]}}]}}"),
        B, A, 8080, "TCP", False,
    ),
    (
        "k8s egress type without rules",
        kubernetes(f"{{{ALL_OF_Y}, policyTypes: [Egress]}}"), B, A, 80, "TCP", False,
    ),
    (
        "k8s ipBlock of pods",
        kubernetes(f"{{{ALL_OF_Y}, ingress: [{{from: [{{ipBlock: {{cidr: 10.0.0.0/24}}}}]}}]}}"),
        A, B, 80, "TCP", True,
    ),
    (
        "k8s ipBlock except",
        kubernetes(
            f"{{{ALL_OF_Y}, ingress: [{{from: [{{ipBlock: {{cidr: 10.0.0.0/16, "
            "except: [10.0.1.0/24]}}]}]}"
        ),
        C, B, 80, "TCP", False,
    ),
    ("k8s host", kubernetes(f"{{{ALL_OF_Y}}}"), HOST, B, 80, "TCP", True),
    # Tiers
    (
        "admin deny over an allow",
        every(
            cluster("Admin", 1, "ingress: [{action: Deny, from: [{namespaces: {}}]}]"),
            kubernetes(f"{{{ALL_OF_Y}, ingress: [{{}}]}}"),
        ),
        A, B, 80, "TCP", False,
    ),
    (
        "admin accept over default deny",
        every(
            cluster("Admin", 1, "ingress: [{action: Accept, from: [{namespaces: {}}]}]"),
            kubernetes(f"{{{ALL_OF_Y}}}"),
        ),
        A, B, 80, "TCP", True,
    ),
    (
        "admin pass leaves it to the namespace",
        every(
            cluster("Admin", 1, "ingress: [{action: Pass, from: [{namespaces: {}}]}]"),
            cluster("Admin", 2, "ingress: [{action: Accept, from: [{namespaces: {}}]}]"),
            kubernetes(f"{{{ALL_OF_Y}}}"),
        ),
        A, B, 80, "TCP", False,
    ),
    (
        "lower priority number first",
        every(
            cluster("Admin", 5, "ingress: [{action: Accept, from: [{namespaces: {}}]}]"),
            cluster("Admin", 4, "ingress: [{action: Deny, from: [{namespaces: {}}]}]"),
        ),
        A, B, 80, "TCP", False,
    ),
    (
        "rules in order",
        cluster(
            "Admin", 1,
            "ingress: [{action: Accept, from: [{namespaces: {}}], protocols: "
            "[{tcp: {destinationPort: {number: 80}}}]}, {action: Deny, from: [{namespaces: {}}]}]",
        ),
        A, B, 80, "TCP", True,
    ),
    (
        "baseline deny without a policy",
        cluster("Baseline", 0, "ingress: [{action: Deny, from: [{namespaces: {}}]}]"),
        A, B, 80, "TCP", False,
    ),
    (
        "baseline is overruled",
        every(
            cluster("Baseline", 0, "ingress: [{action: Deny, from: [{namespaces: {}}]}]"),
            kubernetes(f"{{{ALL_OF_Y}, ingress: [{{}}]}}"),
        ),
        A, B, 80, "TCP", True,
    ),
    (
        "networks",
        cluster("Admin", 1, "egress: [{action: Deny, to: [{networks: [192.0.2.0/24]}]}]"),
        A, OUTSIDE, 80, "TCP", False,
    ),
    # Cilium
    (
        "cilium peers are of the own namespace",
        cilium("{endpointSelector: {}, ingress: [{fromEndpoints: [{}]}]}"), A, B, 80, "TCP", False,
    ),
    (
        "cilium names another namespace",
        cilium(
            "{endpointSelector: {}, ingress: [{fromEndpoints: [{matchLabels: "
            "{'k8s:io.kubernetes.pod.namespace': x}}]}]}"
        ),
        A, B, 80, "TCP", True,
    ),
    (
        "cilium empty list is nobody",
        cilium("{endpointSelector: {}, ingress: [{fromEndpoints: []}]}"), B, B, 80, "TCP", False,
    ),
    (
        "cilium empty list with ports is nobody",
        cilium(
            "{endpointSelector: {}, ingress: [{fromEndpoints: [], "
            "toPorts: [{ports: [{port: '80'}]}]}]}"
        ),
        B, B, 80, "TCP", False,
    ),
    (
        "cilium deny wins",
        cilium(
            "{endpointSelector: {}, ingress: [{fromEntities: [all]}], "
            "ingressDeny: [{fromEntities: [world]}]}"
        ),
        OUTSIDE, B, 80, "TCP", False,
    ),
    (
        "cilium default deny off",
        cilium(
            "{endpointSelector: {}, enableDefaultDeny: {ingress: false}, "
            "ingressDeny: [{fromEntities: [world]}]}"
        ),
        A, B, 80, "TCP", True,
    ),
    (
        "cilium cidr group",
        every(
            "apiVersion: cilium.io/v2\nkind: CiliumCIDRGroup\nmetadata: {name: office}\n"
            "spec: {externalCIDRs: [192.0.2.0/24]}\n",
            cilium("{endpointSelector: {}, ingress: [{fromCIDRSet: [{cidrGroupRef: office}]}]}"),
        ),
        OUTSIDE, B, 80, "TCP", True,
    ),
    (
        "cilium unknown cidr group is nobody",
        cilium("{endpointSelector: {}, ingress: [{fromCIDRSet: [{cidrGroupRef: office}]}]}"),
        OUTSIDE, B, 80, "TCP", False,
    ),
    (
        "cilium service",
        every(
            "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: x}\n"
            "spec: {selector: {pod: a}}\n",
            cilium(
                "{endpointSelector: {}, egress: [{toServices: [{k8sService: "
                "{serviceName: a, namespace: x}}]}]}"
            ),
        ),
        B, A, 80, "TCP", True,
    ),
    (
        "cilium nodes",
        every(
            "apiVersion: v1\nkind: Node\nmetadata: {name: n, labels: {zone: z}}\n"
            "status: {addresses: [{type: InternalIP, address: 192.0.2.7}]}\n",
            cilium("{endpointSelector: {}, ingress: [{fromNodes: [{matchLabels: {zone: z}}]}]}"),
        ),
        OUTSIDE, B, 80, "TCP", True,
    ),
    (
        "cilium icmp by name",
        cilium("{endpointSelector: {}, ingress: [{icmps: [{fields: [{type: EchoRequest}]}]}]}"),
        A, B, 8, "ICMP", True,
    ),
    # Calico
    (
        "calico in order",
        calico(
            "{selector: all(), ingress: [{action: Deny, source: {selector: pod == 'a', "
            "namespaceSelector: all()}}, {action: Allow}]}"
        ),
        A, B, 80, "TCP", False,
    ),
    (
        "calico allow before deny",
        calico("{selector: all(), ingress: [{action: Allow}, {action: Deny}]}"),
        A, B, 80, "TCP", True,
    ),
    (
        "calico order of policies",
        every(
            calico("{selector: all(), order: 20, ingress: [{action: Allow}]}"),
            calico("{selector: all(), order: 10, ingress: [{action: Deny}]}", name="q"),
        ),
        A, B, 80, "TCP", False,
    ),
    (
        "calico selector",
        calico(
            "{selector: \"pod in {'b', 'z'} && !has(gone)\", ingress: [{action: Allow, "
            "protocol: TCP, source: {selector: \"pod != 'c'\", namespaceSelector: ns == 'x'}, "
            "destination: {ports: [80, '90:99']}}]}"
        ),
        A, B, 95, "TCP", True,
    ),
    (
        "calico selector, other pod",
        calico(
            "{selector: all(), ingress: [{action: Allow, "
            "source: {selector: \"!(pod == 'c') && has(pod)\", namespaceSelector: all()}}]}"
        ),
        C, B, 80, "TCP", False,
    ),
    (
        "calico global",
        calico(
            "{selector: pod == 'b', types: [Ingress], ingress: "
            "[{action: Allow, source: {nets: [192.0.2.0/24], notNets: [192.0.2.0/29]}}]}",
            "GlobalNetworkPolicy",
        ),
        OUTSIDE, B, 80, "TCP", False,
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[case[0].replace(" ", "-") for case in CASES])
def test_kind(case: tuple[Any, ...]) -> None:
    _, text, source, destination, port, protocol, allowed = case
    verdict = policy_set(text).verdict(source, destination, port, protocol)
    assert verdict.allowed == allowed, verdict


def test_cidr_matches_pods_only_where_it_is_asked_for() -> None:
    text = kubernetes(f"{{{ALL_OF_Y}, ingress: [{{from: [{{ipBlock: {{cidr: 10.0.0.0/24}}}}]}}]}}")
    assert policy_set(text).verdict(A, B, 80)
    assert not policy_set(text, cidr_matches_pods=False).verdict(A, B, 80)


def test_names_resolve_through_the_dns_cache() -> None:
    text = cilium("{endpointSelector: {}, egress: [{toFQDNs: [{matchPattern: '*.example.com'}]}]}")
    assert not policy_set(text).verdict(B, OUTSIDE, 443)
    cache = DnsCache().feed("WWW.Example.com.", ["192.0.2.7"], ttl=30, now=100)
    assert policy_set(text, dns=cache).verdict(B, OUTSIDE, 443)
    assert not policy_set(text, dns=cache.expire(131)).verdict(B, OUTSIDE, 443)
    other = DnsCache().feed("a.b.example.com", ["192.0.2.7"], ttl=30)
    assert not policy_set(text, dns=other).verdict(B, OUTSIDE, 443)


def test_l7_is_carried_as_a_redirect() -> None:
    l7 = "toPorts: [{ports: [{port: '80', protocol: TCP}], rules: {http: [{method: GET}]}}]"
    other = "toPorts: [{ports: [{port: '80', protocol: TCP}], rules: {http: [{path: /b}]}}]"
    verdict = policy_set(cilium(f"{{endpointSelector: {{}}, ingress: [{{{l7}}}]}}")).verdict(
        A, B, 80
    )
    assert verdict.allowed
    assert str(verdict.redirect) == "HTTP GET"
    both = cilium(f"{{endpointSelector: {{}}, ingress: [{{{l7}}}, {{{other}}}]}}")
    assert str(policy_set(both).verdict(A, B, 80).redirect) == "HTTP GET, HTTP /b"
    # X1: what one peer may do without a proxy, another still may not
    mixed = (
        f"{{endpointSelector: {{}}, ingress: [{{{l7}}}, "
        "{fromEntities: [world], toPorts: [{ports: [{port: '80', protocol: TCP}]}]}]}"
    )
    assert policy_set(cilium(mixed)).verdict(OUTSIDE, B, 80).redirect is None
    assert policy_set(cilium(mixed)).verdict(A, B, 80).redirect is not None


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("{selector: \"pod contains 'x'\"}", "==, !=, in, not in or has()"),
        ('{selector: "pod == \'x"}', "an expression"),
        ("{selector: all(), ingress: [{action: Allow, http: {}}]}", "rules.http"),
        ("{selector: all(), ingress: [{action: Permit}]}", "one of Allow, Deny, Pass, Log"),
        (
            "{selector: all(), ingress: [{action: Allow, destination: {selector: a == 'b'}}]}",
            "side",
        ),
        ("{selector: all(), ingress: [{action: Allow, destination: {ports: [80]}}]}", "protocol"),
        ("{tier: mine, selector: all()}", "default"),
    ],
)
def test_calico_says_what_does_not_map(spec: str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        policy_set(calico(spec))
    assert words in str(caught.value)
    assert "<text>:" in str(caught.value)


def test_one_bad_document_does_not_stop_the_others() -> None:
    text = every(kubernetes("{podSelecto: {}}"), kubernetes(f"{{{ALL_OF_Y}}}"))
    with pytest.raises(SpecError, match="podSelector"):
        read_manifests(text)
    found = read_manifests(text, go_on=True)
    assert len(found.policies) == 1
    assert "did you mean podSelector?" in str(found.errors[0])


def test_dicts_and_json() -> None:
    document = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "p", "namespace": "y"},
        "spec": {"podSelector": {}},
    }
    assert not PolicySet.from_manifests([document, LIST]).verdict(A, B, 80)


def test_a_pod_cannot_forge_what_the_cluster_says() -> None:
    for key in (
        "io.kubernetes.pod.namespace",
        "io.cilium.k8s.namespace.labels.ns",
        "reserved:host",
    ):
        with pytest.raises(SpecError, match="the cluster's own"):
            PolicySet().verdict(Peer(namespace="x", labels={key: "y"}), B, 80)


@pytest.mark.parametrize("operator", ["NotIn", "DoesNotExist", "Exists", "In"])
def test_a_namespaced_policy_never_selects_outside(operator: str) -> None:
    values = ", values: [z]" if operator.endswith("In") else ""
    key = "k8s:io.kubernetes.pod.namespace"
    expression = f"{{matchExpressions: [{{key: {key}, operator: {operator}{values}}}]}}"
    ps = policy_set(cilium(f"{{endpointSelector: {expression}, ingress: [{{}}]}}"))
    assert not ps.selecting(A)
    assert not ps.selecting(C)


def test_conversion_means_the_same() -> None:
    convertible = [case for case in CASES if case[0].startswith(("k8s", "cilium"))]
    assert len(convertible) > 20
    for name, text, source, destination, port, protocol, allowed in convertible:
        context = policy_set(text)
        converted = convert(context.policies)
        assert not converted.problems
        back = PolicySet(read_manifests(converted.yaml).policies, context.cluster)
        verdict = back.verdict(source, destination, port, protocol)
        assert verdict.allowed == allowed, (name, converted.yaml)


def test_conversion_reports_what_is_lost() -> None:
    text = calico("{selector: all(), ingress: [{action: Allow}, {action: Deny}]}")
    converted = convert(policy_set(text).policies)
    assert "deny always wins" in converted.problems[0]
