# SPDX-License-Identifier: Apache-2.0
"""Verdicts: allowed or not, in which direction, by which rule."""

from __future__ import annotations

from collections.abc import Callable

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
    audited: the denial that policies in audit mode would have made of an allowed connection.
    """

    allowed: bool
    direction: Direction
    rule: RuleRef
    _nearest: Nearest | Callable[[], Nearest | None] | None = attrs.field(
        default=None, alias="nearest", eq=False, repr=False
    )
    policies: tuple[str, ...] = ()
    redirect: L7Rules | None = None
    log: str = ""
    audited: Verdict | None = None

    @property
    def nearest(self) -> Nearest | None:
        """The allow that came closest; looked for when it is asked for."""
        return self._nearest() if callable(self._nearest) else self._nearest

    def __bool__(self) -> bool:
        return self.allowed

    def __str__(self) -> str:
        word = "ALLOWED" if self.allowed else "DENIED"
        text = f"{word} at {self.direction} by {self.rule}"
        if self.redirect:
            text += f", for {self.redirect}"
        if self.audited is not None:
            text += f"; in audit mode: {self.audited}"
        if self.policies:
            text += f"; selected by {', '.join(self.policies)}"
        nearest = self.nearest
        return f"{text}; nearest: {nearest}" if nearest else text
