# SPDX-License-Identifier: Apache-2.0
"""ClusterNetworkPolicy: tiers, priorities, order and actions, over and under NetworkPolicy."""

from __future__ import annotations

from typing import Any

from conformance.model import Manifest, Row, either, into, none, ns, out_of
from conformance.network_policy import ALLOW_Y_80, BOTH, OWN, egress, ingress, policy, source


def cluster(
    tier: str,
    priority: int,
    subject: str = "x",
    ingress: tuple[dict[str, Any], ...] = (),
    egress: tuple[dict[str, Any], ...] = (),
) -> Manifest:
    """subject: a namespace, or a pod, or everybody."""
    chosen: dict[str, Any] = {"namespaces": {}}
    if subject != "all":
        chosen = pods(subject) if "/" in subject else namespace(subject)
    return {
        "apiVersion": "policy.networking.k8s.io/v1alpha2",
        "kind": "ClusterNetworkPolicy",
        "metadata": {"name": f"{tier.lower()}-{priority}"},
        "spec": {
            "tier": tier,
            "priority": priority,
            "subject": chosen,
            "ingress": list(ingress),
            "egress": list(egress),
        },
    }


def namespace(name: str) -> dict[str, Any]:
    return {"namespaces": {"matchLabels": {"ns": name}}}


def pods(name: str) -> dict[str, Any]:
    labels = {"namespaceSelector": {"matchLabels": {"ns": name[0]}}}
    return {"pods": {**labels, "podSelector": {"matchLabels": {"pod": name[2:]}}}}


def came(action: str, *peers: dict[str, Any], protocols: Any = None) -> dict[str, Any]:
    """A rule of ingress; from every namespace if no peers are given."""
    more = {"protocols": protocols} if protocols else {}
    return {"action": action, "from": list(peers or [{"namespaces": {}}]), **more}


def goes(action: str, *peers: dict[str, Any], protocols: Any = None) -> dict[str, Any]:
    """A rule of egress; to every namespace if no peers are given."""
    more = {"protocols": protocols} if protocols else {}
    return {"action": action, "to": list(peers or [{"namespaces": {}}]), **more}


def networks(*cidrs: str) -> dict[str, Any]:
    return {"networks": list(cidrs)}


TCP_80 = [{"tcp": {"destinationPort": {"number": 80}}}]
UDP_RANGE = [{"udp": {"destinationPort": {"range": {"start": 80, "end": 81}}}}]
SCTP = [{"sctp": {}}]
NAMED = [{"destinationNamedPort": "serve-81-tcp"}]
NODES: dict[str, Any] = {"nodes": {}}
DENY = (came("Deny"),)
PODS_ONLY = either(into("x", but=lambda s, p, t: ns(s) == ""))

ROWS = (
    Row("an admin denies pods, outside is none", (cluster("Admin", 1, ingress=DENY),), PODS_ONLY),
    Row(
        "an admin denies one namespace to one pod",
        (cluster("Admin", 1, "x/a", ingress=(came("Deny", namespace("y")),)),),
        into("x/a", but=lambda s, p, t: ns(s) != "y"),
    ),
    Row(
        "a subject that is everybody",
        (cluster("Admin", 1, "all", ingress=(came("Deny", pods("x/a")),)),),
        into("x", "y", "z", but=lambda s, p, t: s != "x/a"),
    ),
    Row(
        "an admin denies over an allow of the namespace",
        (cluster("Admin", 1, ingress=DENY), policy("x", ingress({}))),
        PODS_ONLY,
    ),
    Row(
        "an admin accepts over a default deny",
        (cluster("Admin", 1, ingress=(came("Accept", namespace("y")),)), policy("x", ingress())),
        into("x", but=lambda s, p, t: ns(s) == "y"),
    ),
    Row(
        "an admin's accept does not close what it does not name",
        (cluster("Admin", 1, ingress=(came("Accept", namespace("y")),)),),
        none,
    ),
    Row(
        "an admin passes to the namespace's policy",
        (
            cluster("Admin", 1, ingress=(came("Pass", namespace("y")),)),
            cluster("Admin", 2, ingress=DENY),
            policy("x", ALLOW_Y_80),
        ),
        either(
            into(
                "x/a",
                but=lambda s, p, t: ns(s) == "y" and (p, t) == (80, "TCP"),
            ),
            into("x/b", "x/c", but=lambda s, p, t: ns(s) in ("y", "")),
        ),
    ),
    Row(
        "an admin passes where nothing else is said",
        (cluster("Admin", 1, ingress=(came("Pass"),)), cluster("Admin", 2, ingress=DENY)),
        none,
    ),
    Row(
        "the lower priority number comes first",
        (cluster("Admin", 7, ingress=(came("Accept"),)), cluster("Admin", 3, ingress=DENY)),
        PODS_ONLY,
    ),
    Row(
        "and the other way round",
        (cluster("Admin", 3, ingress=(came("Accept"),)), cluster("Admin", 7, ingress=DENY)),
        none,
    ),
    Row(
        "rules in their order, the accept first",
        (cluster("Admin", 1, ingress=(came("Accept", namespace("y")), came("Deny"))),),
        into("x", but=lambda s, p, t: ns(s) in ("y", "")),
    ),
    Row(
        "rules in their order, the deny first",
        (cluster("Admin", 1, ingress=(came("Deny"), came("Accept", namespace("y")))),),
        PODS_ONLY,
    ),
    Row(
        "a rule on a port before one on all",
        (cluster("Admin", 1, ingress=(came("Accept", protocols=TCP_80), came("Deny"))),),
        into("x", but=lambda s, p, t: ns(s) == "" or (p, t) == (80, "TCP")),
    ),
    Row(
        "a range of UDP",
        (cluster("Admin", 1, ingress=(came("Deny", protocols=UDP_RANGE),)),),
        into("x", but=lambda s, p, t: ns(s) == "" or t != "UDP"),
    ),
    Row(
        "a protocol with all its ports",
        (cluster("Admin", 1, ingress=(came("Deny", protocols=SCTP),)),),
        into("x", but=lambda s, p, t: ns(s) == "" or t != "SCTP"),
    ),
    Row(
        "a named port",
        (cluster("Admin", 1, ingress=(came("Deny", protocols=NAMED),)),),
        into("x", but=lambda s, p, t: ns(s) == "" or (p, t) != (81, "TCP")),
    ),
    Row(
        "two protocols of one rule",
        (cluster("Admin", 1, ingress=(came("Deny", protocols=[*TCP_80, *SCTP]),)),),
        into("x", but=lambda s, p, t: ns(s) == "" or not ((p, t) == (80, "TCP") or t == "SCTP")),
    ),
    Row(
        "two peers of one rule",
        (cluster("Admin", 1, ingress=(came("Deny", pods("y/a"), namespace("z")),)),),
        into("x", but=lambda s, p, t: s != "y/a" and ns(s) != "z"),
    ),
    Row(
        "egress of an admin to pods",
        (cluster("Admin", 1, egress=(goes("Deny", namespace("y")),)),),
        out_of("x", but=lambda d, p, t: ns(d) != "y"),
    ),
    Row(
        "egress of an admin to networks, pods and nodes in them too",
        (cluster("Admin", 1, egress=(goes("Deny", networks("192.0.2.0/24", "10.1.2.0/24")),)),),
        out_of("x", but=lambda d, p, t: d != "outside" and ns(d) != "y"),
    ),
    Row(
        "egress of an admin to everywhere, one network before",
        (
            cluster(
                "Admin", 1,
                egress=(
                    goes("Accept", networks("192.0.2.0/24")), goes("Deny", networks("0.0.0.0/0")),
                ),
            ),
        ),
        out_of("x", but=lambda d, p, t: d == "outside"),
    ),
    Row(
        "egress of an admin to nodes",
        (cluster("Admin", 1, egress=(goes("Deny", NODES),)),),
        out_of("x", but=lambda d, p, t: d != "node"),
    ),
    Row(
        "egress to nodes accepted over a default deny",
        (cluster("Admin", 1, egress=(goes("Accept", NODES),)), policy("x", egress())),
        out_of("x", but=lambda d, p, t: d == "node"),
    ),
    Row(
        "what one end's admin accepts, the other's denies",
        (
            cluster("Admin", 1, egress=(goes("Accept"),)),
            cluster("Admin", 2, "y", ingress=(came("Deny", namespace("x")),)),
        ),
        into("y", but=lambda s, p, t: ns(s) != "x"),
    ),
    Row("a baseline denies", (cluster("Baseline", 0, ingress=DENY),), PODS_ONLY),
    Row(
        "a baseline is overruled by a policy that allows",
        (cluster("Baseline", 0, ingress=DENY), policy("x", ingress({}))),
        none,
    ),
    Row(
        "a baseline is not asked where a policy selects",
        (cluster("Baseline", 0, ingress=(came("Accept"),)), policy("x", ALLOW_Y_80)),
        into("x/a", but=lambda s, p, t: (ns(s), p, t) == ("y", 80, "TCP")),
    ),
    Row(
        "a baseline still counts in the direction that is not selected",
        (cluster("Baseline", 0, egress=(goes("Deny"),)), policy("x", ingress({}))),
        out_of("x", but=lambda d, p, t: ns(d) == ""),
    ),
    Row(
        "baselines by priority",
        (
            cluster("Baseline", 2, ingress=DENY),
            cluster("Baseline", 1, ingress=(came("Accept", namespace("y")),)),
        ),
        into("x", but=lambda s, p, t: ns(s) in ("y", "")),
    ),
    Row(
        "a baseline's network",
        (cluster("Baseline", 0, egress=(goes("Deny", networks("192.0.2.2/32")),)),),
        out_of("x", but=lambda d, p, t: d != "outside"),
    ),
    Row(
        "an admin's accept over a baseline's deny",
        (
            cluster("Admin", 1, ingress=(came("Accept", namespace("z")),)),
            cluster("Baseline", 0, ingress=DENY),
        ),
        into("x", but=lambda s, p, t: ns(s) in ("z", "")),
    ),
    Row(
        "an admin passes to a baseline",
        (
            cluster("Admin", 1, ingress=(came("Pass", namespace("z")), came("Accept"))),
            cluster("Baseline", 0, ingress=DENY),
        ),
        into("x", but=lambda s, p, t: ns(s) != "z"),
    ),
    Row(
        "all three",
        (
            cluster("Admin", 1, ingress=(came("Deny", pods("y/c")), came("Pass", namespace("y")))),
            policy("x", {**BOTH, "ingress": [source(OWN)], "egress": [{}]}),
            cluster("Baseline", 0, "all", ingress=(came("Deny", namespace("z")),)),
        ),
        either(
            into("x", but=lambda s, p, t: ns(s) == "x"),
            into("y", "z", but=lambda s, p, t: ns(s) != "z"),
        ),
    ),
    Row("and nothing again", (), none),
)  # fmt: skip
