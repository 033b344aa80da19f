# SPDX-License-Identifier: Apache-2.0
"""Every pattern, replayed from what was written down of a failure and of its machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pycilium.doctor import RULES, Failure, RecordedMachine, Result, diagnose, find_rule

CASES = [
    case
    for path in sorted((Path(__file__).parent / "recorded").glob("*.yaml"))
    for case in yaml.safe_load(path.read_text())
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['code']} {c['result']}")
def test_the_rule_answers(case: dict[str, Any]) -> None:
    machine = RecordedMachine.from_dict(case.get("machine", {}))
    failure = Failure(**case["failure"])
    assert find_rule(case["code"]).matches(failure)
    found = diagnose(failure, machine)
    (mine,) = [one for one in found.findings if one.code == case["code"]]
    assert mine.result == case["result"], found
    others = [one for one in found.findings if one.result is Result.CONFIRMED and one is not mine]
    assert {one.code for one in others} == set(case.get("also", ())), found


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['code']} {c['result']}")
def test_an_unknown_machine_confirms_only_what_was_said(case: dict[str, Any]) -> None:
    """Nothing that depends on the machine is confirmed by one of which nothing is known."""
    failure = Failure(operation=case["failure"]["operation"], errno=case["failure"].get("errno", 0))
    silent = RecordedMachine(tcx=True)
    for one in diagnose(failure, silent).findings:
        if one.code == "PYC-A8":  # without a device in the namespace, it is gone
            continue
        assert one.code == "PYC-E15" or one.result is not Result.CONFIRMED, one


def test_every_rule_has_a_case() -> None:
    assert {case["code"] for case in CASES} == {rule.code for rule in RULES}
    assert len(RULES) == 60


def test_codes_are_stable() -> None:
    groups = {"E": 16, "V": 15, "L": 1, "M": 8, "A": 12, "R": 8}
    wanted = {f"PYC-{group}{n}" for group, count in groups.items() for n in range(1, count + 1)}
    assert {rule.code for rule in RULES} == wanted


def test_an_unknown_failure_stays_unknown() -> None:
    found = diagnose(Failure(operation="frobnicate", errno=5), RecordedMachine())
    assert not found
    assert str(found) == "no rule speaks of this"
