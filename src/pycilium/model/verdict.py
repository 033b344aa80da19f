# SPDX-License-Identifier: Apache-2.0
"""Verdicts: allowed or not, in which direction, by which rule."""

from __future__ import annotations

import attrs

from pycilium.model.policy import Direction, Rule, RuleRef


@attrs.frozen
class Nearest:
    """The rule that came closest to allowing, and what keeps it from it."""

    rule: Rule
    missing: str

    def __str__(self) -> str:
        return f"{self.rule.ref} would {self.rule}, but {self.missing}"


@attrs.frozen
class Verdict:
    """The answer for one connection; direction is the one that decided."""

    allowed: bool
    direction: Direction
    rule: RuleRef
    nearest: Nearest | None = None

    def __bool__(self) -> bool:
        return self.allowed

    def __str__(self) -> str:
        word = "ALLOWED" if self.allowed else "DENIED"
        text = f"{word} at {self.direction} by {self.rule}"
        return f"{text}; nearest: {self.nearest}" if self.nearest else text
