# SPDX-License-Identifier: Apache-2.0
"""What a row of a truth table is made of.

Three namespaces x, y, z with three pods a, b, c each, called "x/a" and so on, a node "node" and an
address "outside" of the cluster, on ports 80 and 81 of TCP, UDP and SCTP. A row names policies and
says which connections they deny; all others are allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

NAMESPACES = ("x", "y", "z")
PODS = tuple(f"{namespace}/{pod}" for namespace in NAMESPACES for pod in "abc")
NODE, OUTSIDE = "node", "outside"
ENDS = (*PODS, NODE, OUTSIDE)
PORTS = (80, 81)
PROTOCOLS = ("TCP", "UDP", "SCTP")
ADDRESSES = {
    **{name: f"10.1.{1 + i // 3}.{1 + i % 3}" for i, name in enumerate(PODS)},
    NODE: "10.0.0.1",
    OUTSIDE: "192.0.2.2",
}
NAMED = {
    "serve-80-tcp": ("TCP", 80),
    "serve-81-tcp": ("TCP", 81),
    "serve-80-udp": ("UDP", 80),
    "serve-80-sctp": ("SCTP", 80),
}
Manifest = dict[str, Any]
Denied = Callable[[str, str, int, str], bool]
Allowed = Callable[[str, int, str], bool]


@attrs.frozen
class Row:
    """Policies, and what they deny of (source, destination, port, protocol).

    pods, spaces: labels of pods and namespaces where they are not the usual ones; ports: named
    ports of pods likewise.
    """

    name: str
    policies: tuple[Manifest, ...]
    denied: Denied
    pods: Mapping[str, Mapping[str, str]] = attrs.field(factory=dict)
    spaces: Mapping[str, Mapping[str, str]] = attrs.field(factory=dict)
    ports: Mapping[str, Mapping[str, tuple[str, int]]] = attrs.field(factory=dict)

    def labels(self, name: str) -> dict[str, str]:
        """Of a pod."""
        return dict(self.pods.get(name, {"pod": name[2:]}))

    def namespace_labels(self, namespace: str) -> dict[str, str]:
        """Of a namespace."""
        return dict(self.spaces.get(namespace, {"ns": namespace}))

    def named_ports(self, name: str) -> Mapping[str, tuple[str, int]]:
        """Of a pod."""
        return self.ports.get(name, NAMED)

    def questions(self) -> Iterator[tuple[str, str, int, str, bool]]:
        """Every connection of two of the ends, and whether it is to be allowed.

        The node reaches its pods, as Kubernetes wants it; between node and outside there is no
        policy.
        """
        for source in ENDS:
            for destination in ENDS:
                if source == destination or {source, destination} <= {NODE, OUTSIDE}:
                    continue
                for port in PORTS:
                    for protocol in PROTOCOLS:
                        denied = self.denied(source, destination, port, protocol)
                        yield source, destination, port, protocol, source == NODE or not denied


def ns(name: str) -> str:
    """The namespace of a pod; what is no pod has none."""
    return name[0] if "/" in name else ""


def nothing(_: str, __: int, ___: str) -> bool:
    """Allows nothing."""
    return False


def into(*who: str, but: Allowed = nothing) -> Denied:
    """Denied is what enters pods or namespaces, but not what is allowed of (source, port, …)."""
    return lambda s, d, p, t: _is_one(d, who) and not but(s, p, t)


def out_of(*who: str, but: Allowed = nothing) -> Denied:
    """Denied is what leaves pods or namespaces, but not what is allowed of (destination, …)."""
    return lambda s, d, p, t: _is_one(s, who) and not but(d, p, t)


def either(*parts: Denied) -> Denied:
    """Denied by one of several."""
    return lambda s, d, p, t: any(one(s, d, p, t) for one in parts)


def none(_: str, __: str, ___: int, ____: str) -> bool:
    """Nothing is denied."""
    return False


def _is_one(name: str, who: tuple[str, ...]) -> bool:
    return name in who or ns(name) in who
