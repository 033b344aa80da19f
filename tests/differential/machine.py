# SPDX-License-Identifier: Apache-2.0
"""Any sequence of endpoints, labels, policies and services; after each, packets of all kinds."""

from __future__ import annotations

from random import Random
from typing import Any, ClassVar

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from differential import strategies as draw
from differential.arena import Arena

SEEDS = st.integers(0, 2**32 - 1)
SHOTS = 600


class Machine(RuleBasedStateMachine):
    """`arena` is one for all runs: a run begins by taking everything away."""

    arena: ClassVar[Arena]

    @initialize(first=draw.labels, second=draw.labels, policies=draw.policies)
    def start(self, first: Any, second: Any, policies: Any) -> None:
        self.arena.reset()
        self.arena.add(1, first)
        self.arena.add(2, second)
        self.arena.apply(policies)

    @precondition(lambda self: len(self.arena.ends) < len(draw.NUMBERS))
    @rule(labels=draw.labels)
    def an_endpoint_comes(self, labels: Any) -> None:
        free = min(set(draw.NUMBERS) - set(self.arena.ends))
        self.arena.add(free, labels)

    @precondition(lambda self: len(self.arena.ends) > 2)
    @rule(pick=SEEDS)
    def an_endpoint_goes(self, pick: int) -> None:
        self.arena.remove(Random(pick).choice(sorted(self.arena.ends)))

    @rule(pick=SEEDS, labels=draw.labels)
    def an_endpoint_is_relabelled(self, pick: int, labels: Any) -> None:
        self.arena.relabel(Random(pick).choice(sorted(self.arena.ends)), labels)

    @rule(policies=draw.policies)
    def policies_change(self, policies: Any) -> None:
        self.arena.apply(policies)

    @rule(policies=draw.policies)
    def policies_change_again(self, policies: Any) -> None:
        self.arena.apply(policies)

    @rule(services=draw.services)
    def services_change(self, services: Any) -> None:
        self.arena.serve(services)

    @rule(pick=SEEDS)
    def packets(self, pick: int) -> None:
        self._hold(self.arena.shoot(SHOTS, Random(pick)))

    @rule(pick=SEEDS)
    def spoilt_packets(self, pick: int) -> None:
        self._hold(self.arena.shoot(SHOTS // 2, Random(pick), spoil=True))

    @rule()
    def further_packets(self) -> None:
        self._hold(self.arena.follow())

    def teardown(self) -> None:
        self._hold(self.arena.shoot(SHOTS, Random(1)))
        self._hold(self.arena.follow())

    def _hold(self, wrong: list[str]) -> None:
        policies = "\n".join(map(repr, self.arena.model.policies))
        assert not wrong, f"{len(wrong)} wrong, first: {wrong[0]}\nunder {policies}"


def run(arena: Arena, packets: int, first_seed: int, *, shrink: bool = False) -> None:
    """Until so many packets have met their verdict; AssertionError says where one did not.

    shrink: look for the smallest state, which takes minutes.
    """
    Machine.arena = arena
    phases = (Phase.generate, Phase.shrink) if shrink else (Phase.generate,)
    chosen = settings(
        max_examples=6, stateful_step_count=25, deadline=None, database=None, derandomize=False,
        suppress_health_check=list(HealthCheck), phases=phases,
        report_multiple_bugs=False,
    )  # fmt: skip
    number = first_seed
    while arena.packets + arena.mutated < packets:
        run_state_machine_as_test(seed(number)(Machine), settings=chosen)
        number += 1
