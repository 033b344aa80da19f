# SPDX-License-Identifier: Apache-2.0
"""The compiler's entries, looked up as the kernel does, against the evaluator's verdicts."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from hypothesis import given, settings
from hypothesis import strategies as st

from differential import strategies as draw
from pycilium.model import (
    Action,
    CidrPeer,
    Direction,
    Entity,
    Labels,
    NamedPort,
    Policy,
    PortRange,
    Rule,
    RuleRef,
    Tier,
)
from pycilium.model.identity import reserved_labels
from pycilium.model.policy import DEFAULT_DENY
from pycilium.model.selector import Operator, Requirement, Selector
from pycilium.policy import PolicyEntry, Subject, evaluate, named_prefixes, prefix_labels, resolve

APPS = ("web", "db", "api")
PREFIXES = tuple(
    map(ip_network, ("10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "192.0.2.0/24", "fd00::/16"))
)
ADDRESSES = tuple(
    map(ip_address, ("10.9.9.9", "10.1.9.9", "10.1.2.3", "192.0.2.1", "198.51.100.1", "fd00::1"))
)
PORTS = (0, 1, 22, 79, 80, 81, 443, 8000, 8079, 8080, 65535)
PROTOCOLS = (1, 6, 17, 132)


NAMED = {"web": {"http": ("TCP", 80)}, "db": {"http": ("TCP", 8080)}, "api": {}}


def app(name: str) -> Labels:
    return Labels.of_pod({"app": name}, "default", named_ports=NAMED[name])


selectors = st.one_of(
    st.just(Selector()),
    st.builds(
        lambda operator, values: Selector((Requirement("app", operator, values),)),
        st.sampled_from((Operator.IN, Operator.NOT_IN)),
        st.lists(st.sampled_from(APPS), min_size=1, max_size=2).map(tuple),
    ),
    st.just(Selector((Requirement("app", Operator.EXISTS),))),
    st.just(Selector((Requirement("app", Operator.DOES_NOT_EXIST),))),
)
peers = st.one_of(selectors, draw.cidrs_of(PREFIXES), st.sampled_from(Entity))
matches = draw.ranges_of((0, *PROTOCOLS), PORTS) | st.builds(
    NamedPort, st.sampled_from((0, 6, 17)), st.just("http")
)
policies = draw.policies_of(selectors, peers, matches)


class World:
    """Identities as the datapath would have them, and what an address is taken for."""

    def __init__(self, known: list[Policy]) -> None:
        self.prefixes = prefix_labels(named_prefixes(known))
        order = sorted(self.prefixes, key=str)
        self.numbers = {prefix: (1 << 24) + i for i, prefix in enumerate(order)}
        self.identities = {n: reserved_labels(name) for n, name in ((1, "host"), (2, "world"))}
        self.identities |= {256 + i: app(name) for i, name in enumerate(APPS)}
        self.identities |= {self.numbers[p]: labels for p, labels in self.prefixes.items()}

    def identity(self, peer: Subject) -> int:
        if peer.reserved == "host":
            return 1
        if peer.reserved is None:
            return 256 + APPS.index(peer.labels.values_of("app")[0])
        around = [p for p in self.prefixes if peer.address in p]
        return self.numbers[max(around, key=lambda p: p.prefixlen)] if around else 2


def look_up(
    entries: tuple[PolicyEntry, ...], direction: int, identity: int, protocol: int, port: int
) -> PolicyEntry | None:
    """Longest prefix under the exact identity, then under anybody."""
    for number in (identity, 0):
        found = [
            e
            for e in entries
            if (e.direction, e.identity) == (direction, number) and _covers(e, protocol, port)
        ]
        if found:
            return max(found, key=lambda e: e.prefix_length)
    return None


def _covers(entry: PolicyEntry, protocol: int, port: int) -> bool:
    bits = entry.prefix_length - 40
    if bits >= 8 and entry.protocol != protocol:
        return False
    return bits <= 8 or port >> (24 - bits) == entry.port >> (24 - bits)


peer_subjects = st.one_of(
    st.sampled_from(APPS).map(lambda name: Subject(app(name))),
    st.sampled_from(ADDRESSES).map(lambda a: Subject(address=a, reserved="world", enforced=False)),
    st.just(Subject(reserved="host", enforced=False)),
)


@settings(max_examples=400, deadline=None)
@given(policies, st.sampled_from(APPS), peer_subjects, st.booleans())
def test_compiler_and_evaluator_agree(
    known: list[Policy], name: str, peer: Subject, allow_host: bool
) -> None:
    world = World(known)
    entries = resolve(known, app(name), world.identities, allow_host=allow_host)
    me, identity = Subject(app(name)), world.identity(peer)
    quiet = Subject(peer.labels, peer.address, peer.reserved, enforced=False)
    for direction in Direction:
        ends = (me, quiet) if direction is Direction.EGRESS else (quiet, me)
        for protocol in PROTOCOLS:
            for port in PORTS:
                verdict = evaluate(known, *ends, port, protocol, allow_host=allow_host)
                entry = look_up(entries, int(direction), identity, protocol, port)
                assert (entry is not None and entry.verdict in (1, 3, 4)) == verdict.allowed
                # The other end's egress may redirect too; here only one end is enforced.
                assert (entry is not None and entry.verdict == 3) == bool(verdict.redirect)
                passes = entry is None or entry.verdict in (0, 2, 3)
                told = verdict if verdict.audited is None or passes else verdict.audited
                assert (entry.rule if entry else DEFAULT_DENY) == told.rule
                assert passes or (entry.verdict == 4) == (verdict.audited is not None)


@settings(max_examples=200, deadline=None)
@given(policies, st.sampled_from(APPS))
def test_no_entry_is_written_twice(known: list[Policy], name: str) -> None:
    entries = resolve(known, app(name), World(known).identities)
    keys = [(e.direction, e.identity, e.protocol, e.port, e.prefix_length) for e in entries]
    assert len(keys) == len(set(keys))


def test_an_exception_is_a_hole() -> None:
    peer = CidrPeer(PREFIXES[0], (PREFIXES[1],))
    rule = Rule(Direction.INGRESS, (peer,), None, ref=RuleRef("p", "f.yaml", 1))
    known = [Policy("p", Selector(), (rule,), default_deny_ingress=True)]
    world = World(known)
    entries = resolve(known, app("db"), world.identities, allow_host=False)
    inside, hole = world.numbers[PREFIXES[0]], world.numbers[PREFIXES[1]]
    assert look_up(entries, 0, inside, 6, 80) is not None
    assert look_up(entries, 0, hole, 6, 80) is None


def test_a_range_costs_the_fewest_prefixes() -> None:
    known = [Policy.allow(to="app=db", from_="app=web", ports="1-65534/tcp")]
    entries = resolve(known, app("db"), {256: app("web")}, allow_host=False)
    assert sum(e.identity == 256 for e in entries) == 30
    known = [Policy.allow(to="app=db", from_="app=web", ports="0-65535/tcp")]
    entries = resolve(known, app("db"), {256: app("web")}, allow_host=False)
    assert sum(e.identity == 256 for e in entries) == 1


def test_what_is_passed_and_then_denied_is_no_hole_in_what_is_allowed() -> None:
    """Found by random packets: a miss cannot say "denied" below an entry for everything."""
    passed = Rule(Direction.INGRESS, None, (PortRange(6, 22, 443),), Action.PASS)
    allowed = Rule(Direction.INGRESS, (Selector(),), None, order=1)
    known = [
        Policy("admin", Selector(), (passed, allowed), tier=Tier.ADMIN),
        Policy("closed", Selector(), (), default_deny_ingress=True),
    ]
    entries = resolve(known, app("db"), {256: app("web")}, allow_host=False)
    for port, verdict in ((21, 1), (22, 0), (443, 0), (444, 1)):
        entry = look_up(entries, 0, 256, 6, port)
        assert (entry.verdict if entry else 0) == verdict
