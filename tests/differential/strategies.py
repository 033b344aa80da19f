# SPDX-License-Identifier: Apache-2.0
"""Policies, services and labels, drawn from few words so that they meet often."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_network

from hypothesis import strategies as st

from pycilium import ServiceLB
from pycilium.model import (
    Action,
    CidrPeer,
    Direction,
    Entity,
    HttpRule,
    L7Rules,
    Labels,
    NamedPort,
    Policy,
    PortRange,
    Rule,
    RuleRef,
    Selector,
    Tier,
)
from pycilium.model.labels import NAMESPACE_KEY, NAMESPACE_LABELS
from pycilium.model.peer import Network, RulePeer
from pycilium.model.port import PortMatch
from pycilium.model.selector import Operator, Requirement

APPS = ("web", "db", "api")
NAMESPACES = {"x": {"team": "a"}, "y": {"team": "b"}}
NAMED = ({}, {"http": ("TCP", 80)}, {"http": ("TCP", 8080), "dns": ("UDP", 53)})
NUMBERS = (1, 2, 3, 4, 5)  # of endpoints: 10.1.0.N and fd01::N
OUTSIDE = ("10.9.9.9", "10.8.1.1", "192.0.2.7", "198.51.100.1", "fd09::9", "fd08::1", "2001:db8::1")
HOST = ("10.1.255.254", "fd01::ffff")
VIPS = ("10.96.0.1", "fd96::1")
PORTS = (0, 1, 22, 53, 79, 80, 81, 443, 1023, 1024, 8000, 8080, 9999)
PREFIXES = tuple(
    map(
        ip_network,
        ("10.1.0.0/24", "10.1.0.2/32", "10.1.0.0/30", "fd01::/16", "fd01::3/128", "10.8.0.0/15",
         "10.8.0.0/16", "10.9.9.0/24", "192.0.2.0/24", "10.1.255.254/32", "0.0.0.0/0", "fd08::/15",
         "fd09::/16", "::/0"),
    )
)  # fmt: skip
L7 = L7Rules(http=(HttpRule(method="GET"),))

labels = st.builds(
    lambda app, namespace, ports: Labels.of_pod(
        {"app": app}, namespace, namespace_labels=NAMESPACES[namespace], named_ports=ports
    ),
    st.sampled_from(APPS),
    st.sampled_from(tuple(NAMESPACES)),
    st.sampled_from(NAMED),
)


def _requirement(key: str, values: tuple[str, ...]) -> st.SearchStrategy[Requirement]:
    chosen = st.lists(st.sampled_from(values), min_size=1, max_size=2, unique=True).map(tuple)
    return st.one_of(
        st.builds(
            Requirement, st.just(key), st.sampled_from((Operator.IN, Operator.NOT_IN)), chosen
        ),
        st.builds(
            Requirement, st.just(key), st.sampled_from((Operator.EXISTS, Operator.DOES_NOT_EXIST))
        ),
    )


selectors = st.one_of(
    st.just(Selector()),
    st.builds(lambda one: Selector((one,)), _requirement("app", APPS)),
    st.builds(lambda one: Selector((one,)), _requirement(NAMESPACE_KEY, tuple(NAMESPACES))),
    st.builds(lambda one: Selector((one,)), _requirement(f"{NAMESPACE_LABELS}team", ("a", "b"))),
    st.builds(
        lambda one, namespace: Selector((one,)).within(namespace),
        _requirement("app", APPS),
        st.sampled_from(tuple(NAMESPACES)),
    ),
)


def cidrs_of(prefixes: Sequence[Network]) -> st.SearchStrategy[CidrPeer]:
    """Prefixes with holes, as far as those lie inside."""
    return st.builds(
        lambda network, holes: CidrPeer(
            network,
            tuple(h for h in holes if h.version == network.version and h.subnet_of(network)),
        ),
        st.sampled_from(prefixes),
        st.lists(st.sampled_from(prefixes), max_size=2),
    )


def ranges_of(protocols: Sequence[int], ports: Sequence[int]) -> st.SearchStrategy[PortRange]:
    """From one port to another; protocol 0 is any, with every port."""
    return st.builds(
        lambda protocol, a, b: PortRange(protocol, *(sorted((a, b)) if protocol else (0, 65535))),
        st.sampled_from(protocols),
        st.sampled_from(ports),
        st.sampled_from(ports),
    )


def policies_of(
    subjects: st.SearchStrategy[Selector],
    peers: st.SearchStrategy[RulePeer],
    matches: st.SearchStrategy[PortMatch],
) -> st.SearchStrategy[list[Policy]]:
    """A few policies of any tier, with rules of every action, some in audit mode."""
    rules = st.builds(
        Rule,
        direction=st.sampled_from(Direction),
        peers=st.none() | st.lists(peers, max_size=3).map(tuple),
        ports=st.none() | st.lists(matches, max_size=3).map(tuple),
        action=st.sampled_from((Action.ALLOW, Action.ALLOW, Action.DENY, Action.PASS)),
        order=st.integers(0, 2),
        l7=st.sampled_from((None, None, None, L7)),
        ref=st.builds(
            RuleRef, st.just("p"), st.just("f.yaml"), st.integers(1, 99), st.integers(0, 9)
        ),
    )
    one = st.builds(
        Policy,
        name=st.just("p"),
        subject=subjects,
        rules=st.lists(rules, max_size=4).map(tuple),
        default_deny_ingress=st.booleans(),
        default_deny_egress=st.booleans(),
        tier=st.sampled_from((Tier.ADMIN, Tier.NORMAL, Tier.NORMAL, Tier.BASELINE)),
        priority=st.sampled_from((0, 0, 1, 2**31 - 1, 2**31, 2**32 - 1)),
        audit=st.sampled_from((False, False, False, True)),
    )
    return st.lists(one, max_size=5)


cidrs = cidrs_of(PREFIXES)
peers = st.one_of(selectors, selectors, cidrs, cidrs, st.sampled_from(Entity))
matches = ranges_of((0, 1, 6, 6, 17, 58, 132), (*PORTS, 8, 128, 65535)) | st.builds(
    NamedPort, st.sampled_from((0, 6, 17)), st.sampled_from(("http", "dns"))
)
policies = policies_of(selectors, peers, matches)


def _service(family: int, port: int, protocol: str, backends: list[str], target: int) -> ServiceLB:
    written = (f"{one}:{target}" if family == 4 else f"[{one}]:{target}" for one in backends)
    vip = VIPS[0] if family == 4 else f"[{VIPS[1]}]"
    return ServiceLB(f"{vip}:{port}/{protocol}", backends=list(written))


def _services_of(family: int) -> st.SearchStrategy[ServiceLB]:
    inside = "10.1.0.{}" if family == 4 else "fd01::{}"
    backends = (*(inside.format(n) for n in NUMBERS), "10.9.9.9" if family == 4 else "fd09::9")
    return st.builds(
        _service,
        st.just(family),
        st.sampled_from((80, 53)),
        st.sampled_from(("tcp", "udp")),
        st.lists(st.sampled_from(backends), max_size=1),
        st.sampled_from((80, 8080)),
    )


services = st.lists(
    _services_of(4) | _services_of(6), max_size=4, unique_by=lambda one: one.frontend
)
