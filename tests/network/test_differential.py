# SPDX-License-Identifier: Apache-2.0
"""The kernel's verdict on random packets under random rules, against the evaluator's.

The seed is printed and can be given: PYCILIUM_SEED=123 pytest tests/network/test_differential.py
"""

from __future__ import annotations

import os
import random
from ipaddress import ip_address, ip_network
from typing import Any

import attrs
import pytest

from pycilium import Datapath, Policy
from pycilium.datapath.packet import Question
from pycilium.datapath.wire import mac_bytes
from pycilium.libbpf import Object
from pycilium.model import Action, CidrPeer, Direction, Entity, PortRange, Rule, RuleRef, Tier
from pycilium.model.policy import DEFAULT_DENY
from pycilium.model.selector import Operator, Requirement, Selector
from pycilium.net import NetNS
from pycilium.policy import Subject, evaluate

pytestmark = pytest.mark.root
PACKETS = 200_000
RULE_SETS = 500
APPS = ("web", "db", "api")
OUTSIDE = ("10.9.9.9", "10.8.1.1", "192.0.2.7", "198.51.100.1", "fd09::9", "fd08::1", "2001:db8::1")
PREFIXES = (
    "10.1.0.0/24", "10.1.0.2/32", "fd01::/16", "fd01::3/128", "10.8.0.0/15", "10.8.0.0/16",
    "10.9.9.0/24", "192.0.2.0/24", "0.0.0.0/0", "fd08::/15", "fd09::/16", "::/0",
)  # fmt: skip
PORTS = (0, 1, 22, 79, 80, 81, 443, 1023, 1024, 8000, 8080, 65535)
DROPS = 2


class Generator:
    """Rules and packets from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def policies(self) -> list[Policy]:
        return [self._policy(i) for i in range(self.random.randint(0, 4))]

    def _policy(self, number: int) -> Policy:
        rules = [self._rule(number, i) for i in range(self.random.randint(0, 4))]
        flags = [self.random.random() < 0.6 for _ in range(2)]
        tier = self.random.choice((Tier.ADMIN, Tier.NORMAL, Tier.NORMAL, Tier.BASELINE))
        priority = self.random.choice((0, 1, 2**31, 2**32 - 1))
        return Policy(
            f"p{number}", self._selector(), tuple(rules), None, *flags, tier=tier,
            priority=priority,
        )  # fmt: skip

    def _rule(self, policy: int, index: int) -> Rule:
        pick = self.random
        peers = (
            None if pick.random() < 0.2 else tuple(self._peer() for _ in range(pick.randint(0, 3)))
        )
        ports = (
            None if pick.random() < 0.4 else tuple(self._range() for _ in range(pick.randint(0, 3)))
        )
        ref = RuleRef(f"p{policy}", "f.yaml", 1 + index, index)
        action = pick.choice((Action.ALLOW, Action.ALLOW, Action.DENY, Action.PASS))
        order = pick.choice((0, 0, 1))
        return Rule(pick.choice(list(Direction)), peers, ports, action, ref, order)

    def _peer(self) -> Any:
        kind = self.random.random()
        if kind < 0.45:
            return self._selector()
        if kind < 0.65:
            return self.random.choice(list(Entity))
        network = ip_network(self.random.choice(PREFIXES))
        inside = [
            h for h in map(ip_network, PREFIXES) if h.version == network.version and h != network
        ]
        holes = [h for h in inside if h.subnet_of(network)]
        return CidrPeer(network, tuple(self.random.sample(holes, min(1, len(holes)))))

    def _selector(self) -> Selector:
        operator = self.random.choice(list(Operator))
        if operator in (Operator.IN, Operator.NOT_IN):
            values = tuple(self.random.sample(APPS, self.random.randint(1, 2)))
            return Selector((Requirement("app", operator, values),))
        return Selector((Requirement("app", operator),) if self.random.random() < 0.5 else ())

    def _range(self) -> PortRange:
        protocol = self.random.choice((0, 6, 6, 17))
        if not protocol:
            return PortRange(0)
        return PortRange(protocol, *sorted(self.random.choices(PORTS, k=2)))


@attrs.frozen
class Sent:
    """One packet's description, for the report of a failure."""

    program: str
    source: str
    destination: str
    protocol: int
    port: int


class Arena:
    """Three endpoints of both families; packets go through the loaded programs themselves."""

    def __init__(self, dp: Datapath) -> None:
        self.dp = dp
        self.ends = {
            name: dp.endpoints.create(
                [f"10.1.0.{i}", f"fd01::{i}"], labels={"app": name}, name=name
            )
            for i, name in enumerate(APPS, 1)
        }

    def verdict(self, loaded: Object, sent: Sent, source_port: int) -> bool:
        version = self._family(sent, source_port)
        source, target = self.ends.get(sent.source), self.ends.get(sent.destination)
        device: Any = source or target
        macs = (mac_bytes(device.mac), mac_bytes(device.device.host_mac))
        question = Question(
            source=_address(source, sent.source, version),
            destination=_address(target, sent.destination, version),
            protocol=sent.protocol,
            source_port=source_port,
            destination_port=sent.port,
            source_mac=macs[0] if source else macs[1],
            destination_mac=macs[1] if source else macs[0],
        )
        program = loaded.programs[sent.program]
        return program.test_run(question.frame(), ctx={"ifindex": device.ifindex}).retval != DROPS

    def _family(self, sent: Sent, source_port: int) -> int:
        """That of the end outside, or both in turn between endpoints."""
        for end in (sent.source, sent.destination):
            if end not in self.ends:
                return ip_address(end).version
        return 4 if source_port % 2 else 6


def _address(endpoint: Any, name: str, version: int) -> Any:
    if endpoint is None:
        return ip_address(name)
    return next(a for a in endpoint.addresses if a.version == version)


def subject(arena: Arena, name: str, other: str, family: int) -> Subject:
    if name in arena.ends:
        version = ip_address(other).version if other not in arena.ends else family
        return Subject(arena.ends[name].labels, _address(arena.ends[name], name, version))
    return Subject(address=ip_address(name), reserved="world", enforced=False)


def test_kernel_and_evaluator_agree(node: NetNS) -> None:
    seed = int(os.environ.get("PYCILIUM_SEED", "20240607"))
    print(f"seed {seed}")
    generator = Generator(seed)
    with node.run(lambda: Datapath.open(events="none")) as dp:
        arena = Arena(dp)
        wrong: list[str] = []
        allowed = total = 0
        for _ in range(RULE_SETS):
            policies = generator.policies()
            dp.policies.apply(policies)
            results = node.run(_shoot, arena, generator, PACKETS // RULE_SETS, total)
            for sent, passed, family in results:
                expected = evaluate(
                    policies, subject(arena, sent.source, sent.destination, family),
                    subject(arena, sent.destination, sent.source, family),
                    sent.port, sent.protocol, cidr_matches_pods=True,
                )  # fmt: skip
                allowed += passed
                if passed != expected.allowed:
                    wrong.append(f"{sent}: kernel {passed}, rules {expected}; {policies}")
            total += len(results)
    assert not wrong, f"seed {seed}: {len(wrong)} disagree, first: {wrong[0]}"
    assert total == PACKETS
    assert PACKETS * 0.15 < allowed < PACKETS * 0.85, f"one-sided: {allowed} of {total} allowed"


def _shoot(
    arena: Arena, generator: Generator, count: int, start: int
) -> list[tuple[Sent, bool, int]]:
    """A new source port each time, so that every packet is a connection of its own."""
    pick, results = generator.random, []
    for i in range(count):
        source = pick.choice((*APPS, *OUTSIDE)) if pick.random() < 0.5 else pick.choice(APPS)
        others = [a for a in APPS if a != source]
        destination = pick.choice(others)
        if source in APPS and pick.random() < 0.4:
            destination = pick.choice(OUTSIDE)
        program = "from_endpoint" if source in APPS else "to_endpoint"
        sent = Sent(program, source, destination, pick.choice((6, 17, 132)), pick.choice(PORTS))
        source_port = 10_000 + (start + i) % 50_000
        passed = arena.verdict(arena.dp.object, sent, source_port)
        results.append((sent, passed, arena._family(sent, source_port)))
    return results


def test_rules_are_named_by_the_kernel(node: NetNS) -> None:
    """The rule in the explanation is the evaluator's, for random rule sets."""
    generator = Generator(7)
    with node.run(lambda: Datapath.open(events="none")) as dp:
        arena = Arena(dp)
        for _ in range(10):
            policies = generator.policies()
            dp.policies.apply(policies)
            for port in (80, 8080):
                explanation = dp.explain("web", arena.ends["db"], f"{port}/tcp")
                ends = subject(arena, "web", "db", 4), subject(arena, "db", "web", 4)
                verdict = evaluate(policies, *ends, port, 6, cidr_matches_pods=True)
                assert explanation.allowed == verdict.allowed
                if not verdict.allowed and verdict.rule != DEFAULT_DENY:
                    assert explanation.rule == verdict.rule
