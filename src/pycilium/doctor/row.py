# SPDX-License-Identifier: Apache-2.0
"""One line of the check of a machine."""

from __future__ import annotations

import enum
from collections.abc import Iterator

import attrs

from pycilium.doctor.engine import find_rule
from pycilium.doctor.machine import Machine
from pycilium.failure import Failure, Result


class State(enum.StrEnum):
    """WRONG: something will not work. WARNING: something may not. NOTE: neither good nor bad."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    WRONG = "wrong"


@attrs.frozen
class Row:
    """What a check found. code and fix: of the rule, where there is one."""

    state: State
    text: str
    code: str = ""
    fix: str = ""


def of_rule(
    code: str, failure: Failure, machine: Machine, worst: State = State.WRONG
) -> Iterator[Row]:
    """What a rule says of the machine; confirmed is `worst`, and likely at most a warning."""
    found = find_rule(code).ask(failure, machine)
    if found.result is Result.RULED_OUT:
        yield Row(State.OK, found.evidence)
        return
    state = worst if found.result is Result.CONFIRMED else State.WARNING
    evidence = f": {found.evidence}" if found.evidence else ""
    yield Row(state, f"{found.cause}{evidence}", found.code, found.fix)
