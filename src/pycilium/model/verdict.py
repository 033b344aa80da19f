# SPDX-License-Identifier: Apache-2.0
"""Verdicts: allowed or not, in which direction, by which rule."""

from __future__ import annotations

import attrs

from pycilium.model.l7 import L7Rules
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
    """The answer for one connection; direction is the one that decided.

    policies: those that deny by default what no rule allows, where that is the reason.
    redirect: what a proxy lets through of an allowed connection. log: the rule's word for it.
    """

    allowed: bool
    direction: Direction
    rule: RuleRef
    nearest: Nearest | None = None
    policies: tuple[str, ...] = ()
    redirect: L7Rules | None = None
    log: str = ""

    def __bool__(self) -> bool:
        return self.allowed

    def __str__(self) -> str:
        word = "ALLOWED" if self.allowed else "DENIED"
        text = f"{word} at {self.direction} by {self.rule}"
        if self.redirect:
            text += f", for {self.redirect}"
        if self.policies:
            text += f"; selected by {', '.join(self.policies)}"
        return f"{text}; nearest: {self.nearest}" if self.nearest else text
