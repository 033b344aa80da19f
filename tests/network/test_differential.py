# SPDX-License-Identifier: Apache-2.0
"""The kernel's verdicts against the evaluator's, on random states and packets.

PYCILIUM_SEED=123 begins elsewhere; `python -m tests.differential --minutes N` goes on.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings

from differential import strategies as draw
from differential.arena import Arena
from differential.machine import run
from pycilium.model.policy import DEFAULT_DENY

pytestmark = pytest.mark.root
PACKETS = 200_000


@pytest.mark.timeout(900)
def test_kernel_and_evaluator_agree() -> None:
    first_seed = int(os.environ.get("PYCILIUM_SEED", "20240607"))
    print(f"seed {first_seed}")
    with Arena.open() as arena:
        run(arena, PACKETS, first_seed)
        assert arena.packets + arena.mutated >= PACKETS
        assert 0.1 < arena.passed / arena.packets < 0.9, "one-sided"


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(policies=draw.policies)
def _rules_are_named(arena: Arena, policies: list[draw.Policy]) -> None:
    arena.apply(policies)
    for port in ("80/tcp", "8080/tcp"):
        explanation = arena.dp.explain("end1", arena.ends[2], port)
        assert not explanation.disagreement
        if explanation.rule not in (None, DEFAULT_DENY):
            refs = {rule.ref for policy in policies for rule in policy.rules}
            assert explanation.rule in refs or explanation.allowed


def test_rules_are_named_by_the_kernel() -> None:
    """The rule in the explanation is the evaluator's, for random rule sets."""
    with Arena.open() as arena:
        arena.add(1, draw.Labels.of_pod({"app": "web"}, "x"))
        arena.add(2, draw.Labels.of_pod({"app": "db"}, "y"))
        _rules_are_named(arena)
