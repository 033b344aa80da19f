# SPDX-License-Identifier: Apache-2.0
"""From a failure to its diagnosis: the rules that match are asked, the surest comes first."""

from __future__ import annotations

from pycilium.doctor.machine import Machine
from pycilium.doctor.rule import PREFIX, Rule
from pycilium.doctor.rules import RULES
from pycilium.errors import SpecError
from pycilium.failure import Diagnosis, Failure, Result

_ORDER = list(Result)


def diagnose(failure: Failure, machine: Machine | None = None) -> Diagnosis:
    """Ask every rule that speaks of a failure.

    machine: what the probes ask (None: the running one, from the calling thread's namespace).
    """
    where = machine or Machine()
    findings = [rule.ask(failure, where) for rule in RULES if rule.matches(failure)]
    return Diagnosis(tuple(sorted(findings, key=lambda one: _ORDER.index(one.result))))


def find_rule(code: str) -> Rule:
    """By its code, with or without the prefix. Raises SpecError for an unknown one."""
    wanted = code.upper()
    wanted = wanted if wanted.startswith(PREFIX) else PREFIX + wanted
    for rule in RULES:
        if rule.code == wanted:
            return rule
    raise SpecError("code", code, f"one of {', '.join(rule.code for rule in RULES)}")
