# SPDX-License-Identifier: Apache-2.0
"""What Kubernetes' end-to-end tests ask of NetworkPolicy, and the corners beside it."""

from __future__ import annotations

from typing import Any

from conformance.model import Manifest, Row, either, into, none, ns, out_of


def policy(namespace: str, spec: dict[str, Any], name: str = "p") -> Manifest:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"podSelector": {}, **spec},
    }


def pod(*names: str) -> dict[str, Any]:
    if len(names) == 1:
        return {"podSelector": {"matchLabels": {"pod": names[0]}}}
    return {"podSelector": expression("pod", "In", *names)}


def space(name: str) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {"ns": name}}}


def expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    found: dict[str, Any] = {"key": key, "operator": operator}
    return {"matchExpressions": [{**found, "values": list(values)} if values else found]}


def block(cidr: str, *holes: str) -> dict[str, Any]:
    return {"ipBlock": {"cidr": cidr, **({"except": list(holes)} if holes else {})}}


def port(number: int | str, protocol: str = "TCP", end: int | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"port": number, "protocol": protocol}
    return found if end is None else {**found, "endPort": end}


def source(*peers: dict[str, Any], ports: list[Any] | None = None) -> dict[str, Any]:
    """A rule of ingress."""
    return {**({"from": list(peers)} if peers else {}), **({"ports": ports} if ports else {})}


def target(*peers: dict[str, Any], ports: list[Any] | None = None) -> dict[str, Any]:
    """A rule of egress."""
    return {**({"to": list(peers)} if peers else {}), **({"ports": ports} if ports else {})}


def ingress(*rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"policyTypes": ["Ingress"], "ingress": list(rules), **more}


def egress(*rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"policyTypes": ["Egress"], "egress": list(rules), **more}


A = pod("a")
BOTH = {"policyTypes": ["Ingress", "Egress"]}
ANYWHERE: dict[str, Any] = {"namespaceSelector": {}}
OWN: dict[str, Any] = {"podSelector": {}}
NAME = "kubernetes.io/metadata.name"
ALLOW_Y_80 = ingress(source(space("y"), ports=[port(80)]), **A)

DEFAULTS = (
    Row("no policy", (), none),
    Row("default deny ingress", (policy("x", ingress()),), into("x")),
    Row("default deny egress", (policy("x", egress()),), out_of("x")),
    Row("default deny all", (policy("x", BOTH),), either(into("x"), out_of("x"))),
    Row(
        "default deny of one pod",
        (policy("x", {**BOTH, **A}),),
        either(into("x/a"), out_of("x/a")),
    ),
    Row(
        "default deny everywhere",
        tuple(policy(one, BOTH) for one in "xyz"),
        either(into("x", "y", "z"), out_of("x", "y", "z")),
    ),
    Row("allow all ingress", (policy("x", ingress({})),), none),
    Row("allow all egress", (policy("x", egress({})),), none),
    Row("a policy that selects nobody", (policy("x", {**BOTH, **pod("nobody")}),), none),
    Row("no types and no egress is ingress", (policy("x", {}),), into("x")),
    Row("empty types are none", (policy("x", {"policyTypes": []}),), into("x")),
    Row(
        "no types and egress is both",
        (policy("x", {"egress": [target(space("y"))]}),),
        either(into("x"), out_of("x", but=lambda d, p, t: ns(d) == "y")),
    ),
    Row(
        "rules of ingress under type Egress say nothing",
        (policy("x", {"policyTypes": ["Egress"], "ingress": [{}]}),),
        out_of("x"),
    ),
    Row(
        "rules of egress under type Ingress say nothing",
        (policy("x", {"policyTypes": ["Ingress"], "egress": [{}]}),),
        into("x"),
    ),
    Row(
        "empty lists of peers and ports are everything",
        (policy("x", ingress({"from": [], "ports": []})),),
        none,
    ),
)  # fmt: skip

SELECTORS = (
    Row(
        "from pods of the own namespace",
        (policy("x", ingress(source(pod("b")), **A)),),
        into("x/a", but=lambda s, p, t: s == "x/b"),
    ),
    Row(
        "from the whole own namespace and nobody else",
        (policy("x", ingress(source(OWN))),),
        into("x", but=lambda s, p, t: ns(s) == "x"),
    ),
    Row(
        "from pods of any namespace, which outside is not",
        (policy("x", ingress(source(ANYWHERE))),),
        into("x", but=lambda s, p, t: ns(s) != ""),
    ),
    Row(
        "from a namespace",
        (policy("x", ingress(source(space("y")), **A)),),
        into("x/a", but=lambda s, p, t: ns(s) == "y"),
    ),
    Row(
        "from a namespace by the name that Kubernetes puts on it",
        (policy("x", ingress(source({"namespaceSelector": {"matchLabels": {NAME: "y"}}}), **A)),),
        into("x/a", but=lambda s, p, t: ns(s) == "y"),
    ),
    Row(
        "from namespaces whose name is not one",
        (policy("x", ingress(source({"namespaceSelector": expression(NAME, "NotIn", "x")}), **A)),),
        into("x/a", but=lambda s, p, t: ns(s) in ("y", "z")),
    ),
    Row(
        "from namespaces by expression",
        (
            policy(
                "x", ingress(source({"namespaceSelector": expression("ns", "In", "y", "z")}), **A)
            ),
        ),
        into("x/a", but=lambda s, p, t: ns(s) in ("y", "z")),
    ),
    Row(
        "from namespaces that are not one",
        (policy("x", ingress(source({"namespaceSelector": expression("ns", "NotIn", "x")}), **A)),),
        into("x/a", but=lambda s, p, t: ns(s) in ("y", "z")),
    ),
    Row(
        "from namespaces that have a label",
        (policy("x", ingress(source({"namespaceSelector": expression("ns", "Exists")}), **A)),),
        into("x/a", but=lambda s, p, t: ns(s) != ""),
    ),
    Row(
        "from namespaces that have no such label",
        (
            policy(
                "x", ingress(source({"namespaceSelector": expression("no", "DoesNotExist")}), **A)
            ),
        ),
        into("x/a", but=lambda s, p, t: ns(s) != ""),
    ),
    Row(
        "pod and namespace together",
        (policy("x", ingress(source({**pod("b"), **space("y")}), **A)),),
        into("x/a", but=lambda s, p, t: s == "y/b"),
    ),
    Row(
        "pod or namespace",
        (policy("x", ingress(source(pod("b"), space("y")), **A)),),
        into("x/a", but=lambda s, p, t: s == "x/b" or ns(s) == "y"),
    ),
    Row(
        "several pods in several namespaces",
        (
            policy(
                "x",
                ingress(
                    source(
                        {**pod("b", "c"), "namespaceSelector": expression("ns", "In", "y", "z")}
                    ),
                    **A,
                ),
            ),
        ),
        into("x/a", but=lambda s, p, t: s in ("y/b", "y/c", "z/b", "z/c")),
    ),
    Row(
        "pods that are not one in any namespace",
        (
            policy(
                "x",
                ingress(source({"podSelector": expression("pod", "NotIn", "c"), **ANYWHERE}), **A),
            ),
        ),
        into("x/a", but=lambda s, p, t: s[1:] in ("/a", "/b")),
    ),
    Row(
        "labels and expressions count together",
        (
            policy(
                "x",
                {
                    **ingress(),
                    "podSelector": {
                        "matchLabels": {"pod": "a"}, **expression("tier", "DoesNotExist"),
                    },
                },
            ),
        ),
        into("x/a"),
    ),
    Row(
        "two expressions count together",
        (
            policy(
                "x",
                {
                    **ingress(),
                    "podSelector": {
                        "matchExpressions": [
                            {"key": "pod", "operator": "In", "values": ["a", "b"]},
                            {"key": "pod", "operator": "NotIn", "values": ["a"]},
                        ]
                    },
                },
            ),
        ),
        into("x/b"),
    ),
    Row(
        "a peer that nobody is",
        (policy("x", ingress(source(pod("nobody")), **A)),),
        into("x/a"),
    ),
)  # fmt: skip

RULES = (
    Row(
        "a port",
        (policy("x", ingress(source(ports=[port(80)]), **A)),),
        into("x/a", but=lambda s, p, t: (p, t) == (80, "TCP")),
    ),
    Row(
        "a port without a protocol is TCP",
        (policy("x", ingress({"ports": [{"port": 80}]}, **A)),),
        into("x/a", but=lambda s, p, t: (p, t) == (80, "TCP")),
    ),
    Row(
        "a port and a namespace",
        (policy("x", ALLOW_Y_80),),
        into("x/a", but=lambda s, p, t: (ns(s), p, t) == ("y", 80, "TCP")),
    ),
    Row(
        "two ports of one rule",
        (policy("x", ingress(source(ports=[port(80), port(81, "UDP")]), **A)),),
        into("x/a", but=lambda s, p, t: (p, t) in ((80, "TCP"), (81, "UDP"))),
    ),
    Row(
        "two peers and two ports of one rule are four pairs",
        (policy("x", ingress(source(pod("b"), space("y"), ports=[port(80), port(81)]), **A)),),
        into("x/a", but=lambda s, p, t: (s == "x/b" or ns(s) == "y") and t == "TCP"),
    ),
    Row(
        "two rules are not four pairs",
        (
            policy(
                "x",
                ingress(source(pod("b"), ports=[port(80)]), source(space("y"), ports=[port(81)])),
            ),
        ),
        into(
            "x",
            but=lambda s, p, t: t == "TCP" and (s == "x/b" if p == 80 else ns(s) == "y"),
        ),
    ),
    Row(
        "two rules of which one matches",
        (policy("x", ingress(source(pod("nobody")), source(space("z")), **A)),),
        into("x/a", but=lambda s, p, t: ns(s) == "z"),
    ),
    Row(
        "a range",
        (policy("x", ingress(source(ports=[port(80, end=81)]), **A)),),
        into("x/a", but=lambda s, p, t: t == "TCP"),
    ),
    Row(
        "a range that begins above",
        (policy("x", ingress(source(ports=[port(81, "UDP", 65535)]), **A)),),
        into("x/a", but=lambda s, p, t: (p, t) == (81, "UDP")),
    ),
    Row(
        "a range that ends below",
        (policy("x", ingress(source(ports=[port(1, "SCTP", 80)]), **A)),),
        into("x/a", but=lambda s, p, t: (p, t) == (80, "SCTP")),
    ),
    Row(
        "a range of one",
        (policy("x", ingress(source(ports=[port(81, end=81)]), **A)),),
        into("x/a", but=lambda s, p, t: (p, t) == (81, "TCP")),
    ),
    Row(
        "a range in egress",
        (policy("x", egress(target(space("y"), ports=[port(80, end=81)]), **A)),),
        out_of("x/a", but=lambda d, p, t: ns(d) == "y" and t == "TCP"),
    ),
    Row(
        "SCTP alone, and TCP is not taken for it",
        (policy("x", ingress(source(ports=[port(80, "SCTP")]), **A)),),
        into("x/a", but=lambda s, p, t: (p, t) == (80, "SCTP")),
    ),
    Row(
        "UDP on one port, and TCP is not taken for it",
        (policy("x", ingress(source(ports=[port(81, "UDP")]), **A)),),
        into("x/a", but=lambda s, p, t: (p, t) == (81, "UDP")),
    ),
    Row(
        "a protocol with all its ports",
        (policy("x", ingress({"ports": [{"protocol": "UDP"}]}, **A)),),
        into("x/a", but=lambda s, p, t: t == "UDP"),
    ),
    Row(
        "SCTP in egress",
        (policy("x", egress(target(ports=[port(80, "SCTP")]), **A)),),
        out_of("x/a", but=lambda d, p, t: (p, t) == (80, "SCTP")),
    ),
    Row(
        "UDP to one namespace in egress",
        (policy("x", egress(target(space("z"), ports=[port(80, "UDP")]), **A)),),
        out_of("x/a", but=lambda d, p, t: (ns(d), p, t) == ("z", 80, "UDP")),
    ),
)  # fmt: skip

NAMED = (
    Row(
        "a named port",
        (policy("x", ingress(source(ports=[port("serve-81-tcp")]), **A)),),
        into("x/a", but=lambda s, p, t: (p, t) == (81, "TCP")),
    ),
    Row(
        "a named port for one namespace",
        (policy("x", ingress(source(space("y"), ports=[port("serve-80-tcp")]), **A)),),
        into("x/a", but=lambda s, p, t: (ns(s), p, t) == ("y", 80, "TCP")),
    ),
    Row(
        "a named port in egress is the destination's",
        (policy("x", egress(target(ports=[port("serve-80-tcp")]))),),
        out_of("x", but=lambda d, p, t: ns(d) != "" and (p, t) == (80, "TCP")),
    ),
    Row(
        "a named port in egress to one namespace",
        (policy("x", egress(target(space("y"), ports=[port("serve-81-tcp")]))),),
        out_of("x", but=lambda d, p, t: (ns(d), p, t) == ("y", 81, "TCP")),
    ),
    Row(
        "a named port of UDP",
        (policy("x", ingress(source(ports=[port("serve-80-udp", "UDP")]), **A)),),
        into("x/a", but=lambda s, p, t: (p, t) == (80, "UDP")),
    ),
    Row(
        "a named port of SCTP",
        (policy("x", ingress(source(ports=[port("serve-80-sctp", "SCTP")]), **A)),),
        into("x/a", but=lambda s, p, t: (p, t) == (80, "SCTP")),
    ),
    Row(
        "a named port of another protocol",
        (policy("x", ingress(source(ports=[port("serve-80-udp")]), **A)),),
        into("x/a"),
    ),
    Row(
        "a named port that nobody has",
        (policy("x", ingress(source(ports=[port("nothing")]), **A)),),
        into("x/a"),
    ),
    Row(
        "a named port that each pod gives another number",
        (policy("x", ingress(source(ports=[port("serve-80-tcp")]))),),
        either(
            into("x/a", "x/c", but=lambda s, p, t: (p, t) == (80, "TCP")),
            into("x/b", but=lambda s, p, t: (p, t) == (81, "TCP")),
        ),
        ports={"x/b": {"serve-80-tcp": ("TCP", 81)}},
    ),
    Row(
        "a named port of each destination's own number in egress",
        (policy("x", egress(target(space("y"), ports=[port("serve-80-tcp")]))),),
        out_of(
            "x",
            but=lambda d, p, t: (
                t == "TCP" and (d, p) in (("y/a", 80), ("y/b", 81), ("y/c", 80))
            ),
        ),
        ports={"y/b": {"serve-80-tcp": ("TCP", 81)}},
    ),
)  # fmt: skip

STACKED = (
    Row(
        "two policies add up",
        (
            policy("x", ALLOW_Y_80),
            policy("x", ingress(source(space("y"), ports=[port(81)]), **A), "q"),
        ),
        into("x/a", but=lambda s, p, t: (ns(s), t) == ("y", "TCP")),
    ),
    Row(
        "overlapping subjects",
        (
            policy("x", {**ingress(source(space("y"))), **pod("a", "b")}),
            policy("x", {**ingress(source(space("z"))), **pod("b", "c")}, "q"),
        ),
        either(
            into("x/a", but=lambda s, p, t: ns(s) == "y"),
            into("x/b", but=lambda s, p, t: ns(s) in ("y", "z")),
            into("x/c", but=lambda s, p, t: ns(s) == "z"),
        ),
    ),
    Row(
        "allow all beats a narrow one",
        (policy("x", ALLOW_Y_80), policy("x", ingress({}), "q")),
        none,
    ),
    Row(
        "allow all beats default deny",
        (policy("x", ingress()), policy("x", ingress({}), "q")),
        none,
    ),
    Row(
        "allow all egress beats a narrow one",
        (policy("x", egress(target(space("y")), **A)), policy("x", egress({}), "q")),
        none,
    ),
    Row(
        "allow all of one direction leaves the other denied",
        (policy("x", BOTH), policy("x", egress({}), "q")),
        into("x"),
    ),
    Row(
        "policies of one name in two namespaces",
        (policy("x", ingress(source(OWN))), policy("y", ingress(source(OWN)))),
        either(
            into("x", but=lambda s, p, t: ns(s) == "x"), into("y", but=lambda s, p, t: ns(s) == "y")
        ),
    ),
    Row(
        "one for ingress and one for egress of a pod",
        (
            policy("x", ingress(source(space("y")), **A)),
            policy("x", egress(target(space("z")), **A), "q"),
        ),
        either(
            into("x/a", but=lambda s, p, t: ns(s) == "y"),
            out_of("x/a", but=lambda d, p, t: ns(d) == "z"),
        ),
    ),
)  # fmt: skip

EGRESS = (
    Row(
        "egress to a pod of another namespace",
        (policy("x", egress(target({**pod("b"), **space("y")}), **A)),),
        out_of("x/a", but=lambda d, p, t: d == "y/b"),
    ),
    Row(
        "egress to pods of the own namespace",
        (policy("x", egress(target(pod("b", "c")))),),
        out_of("x", but=lambda d, p, t: d in ("x/b", "x/c")),
    ),
    Row(
        "egress to pods of any namespace, which outside and nodes are not",
        (policy("x", egress(target(ANYWHERE))),),
        out_of("x", but=lambda d, p, t: ns(d) != ""),
    ),
    Row(
        "egress on one port",
        (policy("x", egress(target(ports=[port(80)]))),),
        out_of("x", but=lambda d, p, t: (p, t) == (80, "TCP")),
    ),
    Row(
        "egress and ingress of two ends together",
        (
            policy("x", egress(target(space("y"), ports=[port(80)]), **A)),
            policy("y", ingress(source(space("x")), **pod("b"))),
        ),
        either(
            out_of("x/a", but=lambda d, p, t: (ns(d), p, t) == ("y", 80, "TCP")),
            into("y/b", but=lambda s, p, t: ns(s) == "x"),
        ),
    ),
    Row(
        "what egress allows, ingress may deny",
        (policy("x", egress({})), policy("y", ingress())),
        into("y"),
    ),
    Row(
        "what ingress allows, egress may deny",
        (policy("x", egress()), policy("y", ingress({}))),
        out_of("x"),
    ),
    Row(
        "one policy with both types",
        (
            policy(
                "x", {**BOTH, "ingress": [source(space("y"))], "egress": [target(space("z"))], **A}
            ),
        ),
        either(
            into("x/a", but=lambda s, p, t: ns(s) == "y"),
            out_of("x/a", but=lambda d, p, t: ns(d) == "z"),
        ),
    ),
)  # fmt: skip

BLOCKS = (
    Row(
        "egress to a block",
        (policy("x", egress(target(block("10.1.2.0/24")), **A)),),
        out_of("x/a", but=lambda d, p, t: ns(d) == "y"),
    ),
    Row(
        "egress to a block with except",
        (policy("x", egress(target(block("10.1.0.0/16", "10.1.2.0/24")), **A)),),
        out_of("x/a", but=lambda d, p, t: ns(d) in ("x", "z")),
    ),
    Row(
        "what except leaves out, another policy allows",
        (
            policy("x", egress(target(block("10.1.0.0/16", "10.1.2.0/24")), **A)),
            policy("x", egress(target(block("10.1.2.2/32")), **A), "q"),
        ),
        out_of("x/a", but=lambda d, p, t: ns(d) in ("x", "z") or d == "y/b"),
    ),
    Row(
        "what except leaves out, another peer of the rule allows",
        (
            policy(
                "x",
                egress(
                    target(block("10.1.0.0/16", "10.1.2.0/24"), {**pod("c"), **space("y")}), **A
                ),
            ),
        ),
        out_of("x/a", but=lambda d, p, t: ns(d) in ("x", "z") or d == "y/c"),
    ),
    Row(
        "everything but the pods",
        (policy("x", egress(target(block("0.0.0.0/0", "10.1.0.0/16")))),),
        out_of("x", but=lambda d, p, t: ns(d) == ""),
    ),
    Row(
        "everything",
        (policy("x", {**BOTH, "ingress": [source(block("0.0.0.0/0"))],
                      "egress": [target(block("0.0.0.0/0"))]}),),
        none,
    ),
    Row(
        "ingress from one pod by its address",
        (policy("x", ingress(source(block("10.1.2.2/32")), **A)),),
        into("x/a", but=lambda s, p, t: s == "y/b"),
    ),
    Row(
        "ingress from outside on one port",
        (policy("x", ingress(source(block("192.0.2.0/24"), ports=[port(80)]), **A)),),
        into("x/a", but=lambda s, p, t: (s, p, t) == ("outside", 80, "TCP")),
    ),
    Row(
        "egress to a node by its address",
        (policy("x", egress(target(block("10.0.0.1/32")))),),
        out_of("x", but=lambda d, p, t: d == "node"),
    ),
    Row(
        "two blocks",
        (policy("x", ingress(source(block("10.1.2.1/32"), block("192.0.2.2/32")), **A)),),
        into("x/a", but=lambda s, p, t: s in ("y/a", "outside")),
    ),
    Row(
        "a block of the other family is nobody",
        (policy("x", ingress(source(block("::/0")), **A)),),
        into("x/a"),
    ),
    Row(
        "a hole in a hole is not there, the wider hole counts",
        (policy("x", egress(target(block("10.1.0.0/16", "10.1.2.0/24", "10.1.2.2/32")), **A)),),
        out_of("x/a", but=lambda d, p, t: ns(d) in ("x", "z")),
    ),
)  # fmt: skip

# Each row is an update of the one before it.
UPDATES = (
    Row("before: one namespace on one port", (policy("x", ALLOW_Y_80),),
        into("x/a", but=lambda s, p, t: (ns(s), p, t) == ("y", 80, "TCP"))),
    Row("the policy changes to deny", (policy("x", ingress(**A)),), into("x/a")),
    Row("and back", (policy("x", ALLOW_Y_80),),
        into("x/a", but=lambda s, p, t: (ns(s), p, t) == ("y", 80, "TCP"))),
    Row("it selects another pod", (policy("x", {**ALLOW_Y_80, **pod("b")}),),
        into("x/b", but=lambda s, p, t: (ns(s), p, t) == ("y", 80, "TCP"))),
    Row("a pod takes the label that is selected", (policy("x", {**ALLOW_Y_80, **pod("b")}),),
        into("x/b", "x/c", but=lambda s, p, t: (ns(s), p, t) == ("y", 80, "TCP")),
        pods={"x/c": {"pod": "b"}}),
    Row("a pod loses it", (policy("x", {**ALLOW_Y_80, **pod("b")}),),
        into("x/c", but=lambda s, p, t: (ns(s), p, t) == ("y", 80, "TCP")),
        pods={"x/c": {"pod": "b"}, "x/b": {}}),
    Row("a peer takes the label that is allowed", (policy("x", ingress(source(pod("b")), **A)),),
        into("x/a", but=lambda s, p, t: s in ("x/b", "x/c")),
        pods={"x/c": {"pod": "b", "more": "yes"}}),
    Row("a namespace takes the label that is allowed", (policy("x", ALLOW_Y_80),),
        into("x/a", but=lambda s, p, t: (ns(s) in ("y", "z"), p, t) == (True, 80, "TCP")),
        spaces={"z": {"ns": "y"}}),
    Row("a namespace loses it", (policy("x", ALLOW_Y_80),),
        into("x/a", but=lambda s, p, t: (ns(s), p, t) == ("z", 80, "TCP")),
        spaces={"z": {"ns": "y"}, "y": {}}),
    Row("the labels are as they were", (policy("x", ALLOW_Y_80),),
        into("x/a", but=lambda s, p, t: (ns(s), p, t) == ("y", 80, "TCP"))),
    Row("a second policy comes", (policy("x", ALLOW_Y_80), policy("x", ingress({}), "q")), none),
    Row("and goes", (policy("x", ALLOW_Y_80),),
        into("x/a", but=lambda s, p, t: (ns(s), p, t) == ("y", 80, "TCP"))),
    Row("the policies are deleted", (), none),
)  # fmt: skip

ROWS = (*DEFAULTS, *SELECTORS, *RULES, *NAMED, *STACKED, *EGRESS, *BLOCKS, *UPDATES)
