# SPDX-License-Identifier: Apache-2.0
"""What a change of policies opens and closes, for people and for pull requests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import attrs

from pycilium.model.verdict import Verdict
from pycilium.policy.matrix import Cell, Matrix

if TYPE_CHECKING:
    from pycilium.model.port import PortRange
    from pycilium.policy.peer import Peer
    from pycilium.policy.policy_set import PolicySet


@attrs.frozen
class Changed:
    """One connection that is judged otherwise."""

    before: Cell
    after: Cell

    @property
    def verdict(self) -> Verdict:
        """The new one."""
        return self.after.verdict

    def __str__(self) -> str:
        word = "opened" if self.verdict else "closed"
        pair = f"{self.after.source} → {self.after.destination}:{self.after.port}"
        return f"{word}  {pair}  by {self.verdict.rule}, before by {self.before.verdict.rule}"


@attrs.frozen
class Difference:
    """Connections that a change opens and closes; false where there is none."""

    opened: tuple[Changed, ...]
    closed: tuple[Changed, ...]
    asked: int

    @classmethod
    def of(
        cls, before: PolicySet, after: PolicySet, peers: dict[str, Peer], ports: list[PortRange]
    ) -> Difference:
        """Compare two sets on every pair of peers and every port."""
        pairs = zip(Matrix.of(before, peers, ports), Matrix.of(after, peers, ports), strict=True)
        changed = [Changed(a, b) for a, b in pairs if a.verdict.allowed != b.verdict.allowed]
        return cls(
            tuple(one for one in changed if one.verdict),
            tuple(one for one in changed if not one.verdict),
            len(peers) * (len(peers) - 1) * len(ports),
        )

    def __bool__(self) -> bool:
        return bool(self.opened or self.closed)

    @property
    def summary(self) -> str:
        """One line."""
        if not self:
            return f"nothing changes in {self.asked} connections"
        return (
            f"{len(self.opened)} newly allowed, {len(self.closed)} newly denied "
            f"of {self.asked} connections"
        )

    def __str__(self) -> str:
        return "\n".join([self.summary, *map(str, (*self.opened, *self.closed))])

    def to_markdown(self) -> str:
        """For a pull request."""
        lines = [f"**{self.summary}**"]
        if self:
            lines += [
                "",
                "| | from | to | port | decided by | before by |",
                "|---|---|---|---|---|---|",
            ]
        for one in (*self.opened, *self.closed):
            word = "🟢 opened" if one.verdict else "🔴 closed"
            cell = one.after
            rules = f"{_cell(one.verdict.rule)} | {_cell(one.before.verdict.rule)}"
            ends = f"{_cell(cell.source)} | {_cell(cell.destination)}"
            lines.append(f"| {word} | {ends} | {cell.port} | {rules} |")
        return "\n".join(lines)

    def to_json(self) -> str:
        """Opened and closed connections, with both verdicts."""
        content = {
            "asked": self.asked,
            "opened": [_plain(one) for one in self.opened],
            "closed": [_plain(one) for one in self.closed],
        }
        return json.dumps(content, indent=2)


def _cell(value: object) -> str:
    """Text that does not end its cell."""
    return str(value).replace("|", "\\|").replace("\n", " ")


def _plain(one: Changed) -> dict[str, Any]:
    return {**one.after.to_dict(), "rule_before": str(one.before.verdict.rule)}
