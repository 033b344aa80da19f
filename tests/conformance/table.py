# SPDX-License-Identifier: Apache-2.0
"""What Kubernetes' end-to-end tests of NetworkPolicy ask, as a truth table.

Three namespaces x, y, z with three pods a, b, c each, on ports 80 and 81. A row names its
policies and says which (source, destination, port) are denied; all others are allowed, and TCP,
UDP and SCTP are told apart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

NAMESPACES = ("x", "y", "z")
PODS = ("a", "b", "c")
PORTS = (80, 81)
PROTOCOLS = ("TCP", "UDP", "SCTP")
NAMED = {"serve-80-tcp": ("TCP", 80), "serve-81-tcp": ("TCP", 81), "serve-80-udp": ("UDP", 80),
         "serve-80-sctp": ("SCTP", 80)}  # fmt: skip
Denied = Callable[[str, str, int, str], bool]


@attrs.frozen
class Row:
    """Policies, and what they deny of (source, destination, port, protocol) as "x/a" names."""

    name: str
    policies: tuple[dict[str, Any], ...]
    denied: Denied


def policy(namespace: str, spec: dict[str, Any], name: str = "p") -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"podSelector": {}, **spec},
    }


def pod(name: str) -> dict[str, Any]:
    return {"podSelector": {"matchLabels": {"pod": name}}}


def space(name: str) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {"ns": name}}}


def ingress(*rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"policyTypes": ["Ingress"], "ingress": list(rules), **more}


def egress(*rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"policyTypes": ["Egress"], "egress": list(rules), **more}


def ns(who: str) -> str:
    return who.split("/", maxsplit=1)[0]


A_OF_X = {"podSelector": {"matchLabels": {"pod": "a"}}}
IN_YZ = {"matchExpressions": [{"key": "ns", "operator": "In", "values": ["y", "z"]}]}
NOT_X = {"matchExpressions": [{"key": "ns", "operator": "NotIn", "values": ["x"]}]}
NOT_C = {"matchExpressions": [{"key": "pod", "operator": "NotIn", "values": ["c"]}]}
TCP_80 = {"ports": [{"port": 80, "protocol": "TCP"}]}

ROWS = (
    Row("no policy", (), lambda s, d, p, proto: False),
    Row("default deny ingress", (policy("x", ingress()),), lambda s, d, p, proto: ns(d) == "x"),
    Row("default deny egress", (policy("x", egress()),), lambda s, d, p, proto: ns(s) == "x"),
    Row(
        "default deny all",
        (policy("x", {"policyTypes": ["Ingress", "Egress"]}),),
        lambda s, d, p, proto: "x" in (ns(s), ns(d)),
    ),
    Row("allow all ingress", (policy("x", ingress({})),), lambda s, d, p, proto: False),
    Row("allow all egress", (policy("x", egress({})),), lambda s, d, p, proto: False),
    Row(
        "one pod only",
        (policy("x", {**ingress(), **A_OF_X}),),
        lambda s, d, p, proto: d == "x/a",
    ),
    Row(
        "from pods of the own namespace",
        (policy("x", {**ingress({"from": [pod("b")]}), **A_OF_X}),),
        lambda s, d, p, proto: d == "x/a" and s != "x/b",
    ),
    Row(
        "from a namespace",
        (policy("x", {**ingress({"from": [space("y")]}), **A_OF_X}),),
        lambda s, d, p, proto: d == "x/a" and ns(s) != "y",
    ),
    Row(
        "from namespaces by expression",
        (policy("x", {**ingress({"from": [{"namespaceSelector": IN_YZ}]}), **A_OF_X}),),
        lambda s, d, p, proto: d == "x/a" and ns(s) == "x",
    ),
    Row(
        "from namespaces that are not one",
        (policy("x", {**ingress({"from": [{"namespaceSelector": NOT_X}]}), **A_OF_X}),),
        lambda s, d, p, proto: d == "x/a" and ns(s) == "x",
    ),
    Row(
        "pod and namespace together",
        (policy("x", {**ingress({"from": [{**pod("b"), **space("y")}]}), **A_OF_X}),),
        lambda s, d, p, proto: d == "x/a" and s != "y/b",
    ),
    Row(
        "pod or namespace",
        (policy("x", {**ingress({"from": [pod("b"), space("y")]}), **A_OF_X}),),
        lambda s, d, p, proto: d == "x/a" and s != "x/b" and ns(s) != "y",
    ),
    Row(
        "pods by expression in any namespace",
        (
            policy(
                "x",
                {**ingress({"from": [{"podSelector": NOT_C, "namespaceSelector": {}}]}), **A_OF_X},
            ),
        ),
        lambda s, d, p, proto: d == "x/a" and s.endswith("/c"),
    ),
    Row(
        "a port",
        (policy("x", {**ingress(TCP_80), **A_OF_X}),),
        lambda s, d, p, proto: d == "x/a" and (p, proto) != (80, "TCP"),
    ),
    Row(
        "a port and a namespace",
        (policy("x", {**ingress({"from": [space("y")], **TCP_80}), **A_OF_X}),),
        lambda s, d, p, proto: d == "x/a" and (ns(s), p, proto) != ("y", 80, "TCP"),
    ),
    Row(
        "two stacked policies",
        (
            policy("x", {**ingress({"from": [space("y")], **TCP_80}), **A_OF_X}),
            policy(
                "x",
                {**ingress({"from": [space("y")], "ports": [{"port": 81}]}), **A_OF_X},
                "q",
            ),
        ),
        lambda s, d, p, proto: d == "x/a" and (ns(s), proto) != ("y", "TCP"),
    ),
    Row(
        "allow all beats a narrow one",
        (
            policy("x", {**ingress(TCP_80), **A_OF_X}),
            policy("x", {**ingress({}), **A_OF_X}, "q"),
        ),
        lambda s, d, p, proto: False,
    ),
    Row(
        "a named port",
        (policy("x", {**ingress({"ports": [{"port": "serve-81-tcp"}]}), **A_OF_X}),),
        lambda s, d, p, proto: d == "x/a" and (p, proto) != (81, "TCP"),
    ),
    Row(
        "a named port in egress",
        (policy("x", egress({"ports": [{"port": "serve-80-tcp"}]})),),
        lambda s, d, p, proto: ns(s) == "x" and (p, proto) != (80, "TCP"),
    ),
    Row(
        "a named port of another protocol",
        (
            policy(
                "x",
                {**ingress({"ports": [{"port": "serve-80-udp", "protocol": "UDP"}]}), **A_OF_X},
            ),
        ),
        lambda s, d, p, proto: d == "x/a" and (p, proto) != (80, "UDP"),
    ),
    Row(
        "a named port that nobody has",
        (policy("x", {**ingress({"ports": [{"port": "nothing"}]}), **A_OF_X}),),
        lambda s, d, p, proto: d == "x/a",
    ),
    Row(
        "endPort",
        (policy("x", {**ingress({"ports": [{"port": 80, "endPort": 81}]}), **A_OF_X}),),
        lambda s, d, p, proto: d == "x/a" and proto != "TCP",
    ),
    Row(
        "SCTP alone",
        (policy("x", {**ingress({"ports": [{"port": 80, "protocol": "SCTP"}]}), **A_OF_X}),),
        lambda s, d, p, proto: d == "x/a" and (p, proto) != (80, "SCTP"),
    ),
    Row(
        "UDP alone",
        (policy("x", {**ingress({"ports": [{"protocol": "UDP"}]}), **A_OF_X}),),
        lambda s, d, p, proto: d == "x/a" and proto != "UDP",
    ),
    Row(
        "egress to a pod of another namespace",
        (policy("x", {**egress({"to": [{**pod("b"), **space("y")}]}), **A_OF_X}),),
        lambda s, d, p, proto: s == "x/a" and d != "y/b",
    ),
    Row(
        "egress and ingress together",
        (
            policy("x", {**egress({"to": [space("y")], **TCP_80}), **A_OF_X}),
            policy("y", {**ingress({"from": [space("x")]}), **pod("b")}),
        ),
        lambda s, d, p, proto: (
            (s == "x/a" and (ns(d), p, proto) != ("y", 80, "TCP")) or (d == "y/b" and ns(s) != "x")
        ),
    ),
    Row(
        "one policy with both types",
        (
            policy(
                "x",
                {
                    "policyTypes": ["Ingress", "Egress"],
                    "ingress": [{"from": [space("y")]}],
                    "egress": [{"to": [space("z")]}],
                    **A_OF_X,
                },
            ),
        ),
        lambda s, d, p, proto: (d == "x/a" and ns(s) != "y") or (s == "x/a" and ns(d) != "z"),
    ),
    Row(
        "ipBlock with except",
        (
            policy(
                "x",
                {
                    **egress(
                        {"to": [{"ipBlock": {"cidr": "10.1.0.0/16", "except": ["10.1.2.0/24"]}}]}
                    ),
                    **A_OF_X,
                },
            ),
        ),
        lambda s, d, p, proto: s == "x/a" and ns(d) == "y",
    ),
    Row(
        "ipBlock of one pod",
        (
            policy(
                "x", {**ingress({"from": [{"ipBlock": {"cidr": "10.1.2.2/32"}}]}), **A_OF_X}
            ),
        ),
        lambda s, d, p, proto: d == "x/a" and s != "y/b",
    ),
)  # fmt: skip


def address(namespace: str, name: str) -> str:
    return f"10.1.{NAMESPACES.index(namespace) + 1}.{PODS.index(name) + 1}"
