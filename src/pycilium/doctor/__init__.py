# SPDX-License-Identifier: Apache-2.0
"""Why something failed, and what is wrong with this machine: rules with probes.

Every rule has a stable code (`PYC-A1`), a cause, a fix, and a probe that confirms it, finds it
likely, or rules it out. `diagnose` asks them of a failure, and every `KernelError` has done so by
the time it is raised; `examine` asks them of the machine.
"""

from __future__ import annotations

from pycilium.doctor.checks import CHECKS, Check, examine
from pycilium.doctor.engine import diagnose, find_rule
from pycilium.doctor.machine import Machine
from pycilium.doctor.pages import page
from pycilium.doctor.recorded import RecordedMachine
from pycilium.doctor.row import Row, State
from pycilium.doctor.rule import Rule
from pycilium.doctor.rules import RULES
from pycilium.failure import Diagnosis, Failure, Finding, Result

__all__ = [
    "CHECKS",
    "RULES",
    "Check",
    "Diagnosis",
    "Failure",
    "Finding",
    "Machine",
    "RecordedMachine",
    "Result",
    "Row",
    "Rule",
    "State",
    "diagnose",
    "examine",
    "find_rule",
    "page",
]
