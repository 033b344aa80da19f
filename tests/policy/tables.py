# SPDX-License-Identifier: Apache-2.0
"""The truth tables of docs/concepts/policy.md, asked of the evaluator.

Run as a program it writes them into the page: python tests/policy/tables.py
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from pycilium.model import Entity
from pycilium.policy import Peer, PolicySet

PAGE = Path(__file__).parents[2] / "docs" / "concepts" / "policy.md"
PLACE = re.compile(r"(<!-- table: (\S+) -->\n\n)(.*?)(\n\n<!-- end -->)", re.DOTALL)
DB = Peer("shop", {"app": "db"}, "10.0.0.5")
PEERS = {
    "own namespace": Peer("shop", {"app": "web"}, "10.0.0.4"),
    "other namespace": Peer("blog", {"app": "web"}, "10.0.1.4"),
    "node itself": Peer(entity="host", ip="172.16.0.1"),
    "other node": Peer(entity="remote-node", ip="172.16.0.2"),
    "outside, IPv4": Peer(ip="192.0.2.1"),
    "outside, IPv6": Peer(ip="2001:db8::1"),
}
Rows = Iterator[tuple[str, ...]]


def cilium(spec: str, name: str = "p") -> str:
    return (
        f"kind: CiliumNetworkPolicy\nmetadata: {{name: {name}, namespace: shop}}\n"
        f"spec: {{endpointSelector: {{matchLabels: {{app: db}}}}, {spec}}}\n"
    )


def kubernetes(spec: str) -> str:
    head = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n"
    subject = "podSelector: {matchLabels: {app: db}}"
    return f"{head}metadata: {{name: p, namespace: shop}}\nspec: {{{subject}, {spec}}}\n"


def cluster(tier: str, action: str) -> str:
    rule = f"{{action: {action}, from: [{{namespaces: {{}}}}]}}"
    return (
        f"kind: ClusterNetworkPolicy\nmetadata: {{name: {tier.lower()}}}\n"
        f"spec: {{tier: {tier}, priority: 1, subject: {{namespaces: {{}}}}, ingress: [{rule}]}}\n"
    )


def marks(policies: PolicySet) -> tuple[str, ...]:
    """What of the peers reaches the database on port 80."""
    return tuple("✓" if policies.verdict(one, DB, 80) else "✗" for one in PEERS.values())


def empty(kind: Callable[[str], str], specs: tuple[str, ...]) -> Rows:
    yield ("written", *PEERS)
    for spec in specs:
        yield (f"`{spec}`" if spec else "nothing", *marks(PolicySet.from_manifests(kind(spec))))


def empty_cilium() -> Rows:
    ports = "toPorts: [{ports: [{port: '80'}]}]"
    yield from empty(
        cilium,
        (
            "",
            "ingress: []",
            "ingress: [{}]",
            "ingress: [{fromEndpoints: []}]",
            f"ingress: [{{fromEndpoints: [], {ports}}}]",
            "ingress: [{fromEndpoints: [{}]}]",
            f"ingress: [{{{ports}}}]",
            "ingress: [{fromCIDR: []}]",
            "ingress: [{fromEntities: [none]}]",
            "ingressDeny: []",
            "ingressDeny: [{fromEntities: [world]}]",
        ),
    )


def empty_kubernetes() -> Rows:
    yield from empty(
        kubernetes,
        (
            "",
            "ingress: []",
            "ingress: [{}]",
            "ingress: [{from: []}]",
            "ingress: [{ports: []}]",
            "ingress: [{from: [{podSelector: {}}]}]",
            "ingress: [{from: [{namespaceSelector: {}}]}]",
            "policyTypes: [Egress]",
        ),
    )


def tiers() -> Rows:
    """A connection between two pods, by what the three tiers say of it."""
    normal = {"no policy": "", "selected": cilium("ingress: [{}]"),
              "allowed": cilium("ingress: [{fromEntities: [all]}]"),
              "denied": cilium("ingressDeny: [{fromEntities: [all]}]")}  # fmt: skip
    yield ("Admin", "Normal", "no Baseline", "Baseline accepts", "Baseline denies")
    for admin in ("", "Accept", "Deny", "Pass"):
        for name, text in normal.items():
            found = []
            for baseline in ("", "Accept", "Deny"):
                texts = [cluster("Admin", admin)] if admin else []
                texts += [text] if text else []
                texts += [cluster("Baseline", baseline)] if baseline else []
                policies = PolicySet.from_manifests(texts)
                found.append("✓" if policies.verdict(PEERS["other namespace"], DB, 80) else "✗")
            yield (admin or "nothing", name, *found)


def prefixes() -> Rows:
    yield ("`fromCIDR` and mode", *PEERS)
    for cidr in ("10.0.0.0/8", "172.16.0.0/12", "192.0.2.0/24", "0.0.0.0/0", "::/0"):
        for mode in (True, False):
            text = cilium(f"ingress: [{{fromCIDR: ['{cidr}']}}]")
            policies = PolicySet.from_manifests(text, cidr_matches_pods=mode, allow_host=False)
            yield (f"{cidr}, {'Kubernetes' if mode else 'Cilium'}", *marks(policies))


def entities() -> Rows:
    yield ("entity", *PEERS)
    for entity in Entity:
        text = cilium(f"ingress: [{{fromEntities: ['{entity.value}']}}]")
        yield (f"`{entity.value}`", *marks(PolicySet.from_manifests(text, allow_host=False)))


def default_deny() -> Rows:
    yield ("written", "ingress closes", "egress closes")
    for spec in (
        "ingress: [{}]", "egress: [{}]", "ingressDeny: [{fromEntities: [none]}]",
        "egressDeny: [{toEntities: [none]}]", "ingress: [], egress: []",
        "ingress: [{}], enableDefaultDeny: {ingress: false}",
        "enableDefaultDeny: {ingress: true, egress: true}",
    ):  # fmt: skip
        policies = PolicySet.from_manifests(cilium(spec))
        peer = PEERS["other namespace"]
        closed = not policies.verdict(peer, DB, 80), not policies.verdict(DB, peer, 80)
        yield (f"`{spec}`", *("closes" if one else "stays open" for one in closed))


def l7() -> Rows:
    """Rules of one peer add up; what one peer may do without a proxy, another may not."""

    def rule(peer: str, http: str) -> str:
        rules = f", rules: {{http: [{http}]}}" if http else ""
        return f"{{{peer}, toPorts: [{{ports: [{{port: '80', protocol: TCP}}]{rules}}}]}}"

    here, there = "fromEndpoints: [{}]", "fromEntities: [world]"
    get, post = "{method: GET}", "{method: POST}"
    yield ("rules on port 80", "own namespace", "outside, IPv4")
    for name, rules, deny in (
        ("`GET` for the namespace", [rule(here, get)], ""),
        ("`GET` and `POST` in two rules", [rule(here, get), rule(here, post)], ""),
        ("`GET`, and everything in another", [rule(here, get), rule(here, "")], ""),
        ("`GET`, and everything for the world", [rule(here, get), rule(there, "")], ""),
        ("`GET`, and a deny of the namespace", [rule(here, get)], f"ingressDeny: [{{{here}}}]"),
    ):
        spec = ", ".join(one for one in (f"ingress: [{', '.join(rules)}]", deny) if one)
        policies = PolicySet.from_manifests(cilium(spec))
        found = []
        for peer in ("own namespace", "outside, IPv4"):
            verdict = policies.verdict(PEERS[peer], DB, 80)
            text = str(verdict.redirect) if verdict.redirect else "everything"
            found.append(text if verdict else "✗")
        yield (name, *found)


TABLES: dict[str, Callable[[], Rows]] = {
    "tiers": tiers,
    "empty-cilium": empty_cilium,
    "empty-kubernetes": empty_kubernetes,
    "default-deny": default_deny,
    "prefixes": prefixes,
    "entities": entities,
    "l7": l7,
}


def markdown(name: str) -> str:
    head, *rows = TABLES[name]()
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def rewritten(page: str) -> str:
    """The page with every table as the evaluator has it."""
    return PLACE.sub(lambda found: f"{found[1]}{markdown(found[2])}{found[4]}", page)


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text()))
