# SPDX-License-Identifier: Apache-2.0
"""The answer of explain(): what the kernel did with a packet, step by step, and by which rule."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from pycilium.model import Nearest, RuleRef


@attrs.frozen
class Step:
    """One stage of the decision: its name, what happened in words, and the facts."""

    stage: str
    text: str
    facts: dict[str, Any] = attrs.field(factory=dict, eq=False)

    def __str__(self) -> str:
        return f"{self.stage}: {self.text}"


@attrs.frozen(kw_only=True)
class Explanation:
    """The kernel's own answer; `rule` decided, `nearest` would have allowed a denied packet.

    verdict: name in enum pcl_reason. audited: allowed only because the policy of `rule`, which
    would deny it, is in audit mode. disagreement: not empty where the evaluator, which works
    on the rules and not on the kernel's entries, comes to another answer: that is a bug.
    """

    question: str
    allowed: bool
    verdict: str
    place: str
    rule: RuleRef | None
    steps: tuple[Step, ...]
    nearest: Nearest | None = None
    audited: bool = False
    disagreement: str = ""

    def __bool__(self) -> bool:
        return self.allowed

    @property
    def headline(self) -> str:
        """One line."""
        if self.audited:
            return f"{self.question}: allowed in audit mode, else denied by {self.rule}"
        if self.allowed:
            return f"{self.question}: allowed{f' by {self.rule}' if self.rule else ''}"
        if self.rule:
            return f"{self.question}: denied by {self.rule}"
        return f"{self.question}: dropped, {self.verdict} at {self.place}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "question": self.question,
            "allowed": self.allowed,
            "verdict": self.verdict,
            "place": self.place,
            "rule": None if self.rule is None else str(self.rule),
            "steps": [{"stage": s.stage, "text": s.text, **s.facts} for s in self.steps],
            "nearest": None if self.nearest is None else str(self.nearest),
            "audited": self.audited,
            "disagreement": self.disagreement,
        }

    def __str__(self) -> str:
        lines = [f"{one.stage:<12} {one.text}" for one in self.steps] + self._notes()
        branches = ["├─"] * (len(lines) - 1) + ["└─"] if lines else []
        tree = (f"{branch} {line}" for branch, line in zip(branches, lines, strict=True))
        return "\n".join((self.headline, *tree))

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(one.stage)}</td><td>{escape(one.text)}</td></tr>"
            for one in self.steps
        )
        notes = "".join(f"<p>{escape(note)}</p>" for note in self._notes())
        return f"<p><b>{escape(self.headline)}</b></p><table>{rows}</table>{notes}"

    def _notes(self) -> list[str]:
        notes = []
        if self.nearest is not None:
            notes.append(f"{'nearest':<12} {self.nearest}")
        if self.disagreement:
            notes.append(f"{'DISAGREEMENT':<12} {self.disagreement}")
        return notes
