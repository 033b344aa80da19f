# SPDX-License-Identifier: Apache-2.0
"""Every rule, from the specific to the general: the order decides between equally sure ones."""

from __future__ import annotations

from pycilium.doctor.rule import Rule
from pycilium.doctor.rules import attach, environment, file_systems, maps, running, verifier

RULES: tuple[Rule, ...] = (
    *verifier.RULES,
    *maps.RULES,
    *attach.RULES,
    *file_systems.RULES,
    *environment.RULES,
    *running.RULES,
)
