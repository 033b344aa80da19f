# SPDX-License-Identifier: Apache-2.0
"""The result of a benchmark: rows with goals, as one JSON object or as a table."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs


@attrs.frozen
class Goal:
    """What a ratio should be: at most `limit`, or at least `limit`."""

    limit: float
    at_least: bool = False

    def met(self, ratio: float) -> bool:
        return ratio >= self.limit if self.at_least else ratio <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}"


def at_most(limit: float) -> Goal:
    """A goal for what should be small: costs, times."""
    return Goal(limit)


def at_least(limit: float) -> Goal:
    """A goal for what should be large: rates."""
    return Goal(limit, at_least=True)


@attrs.frozen
class Row:
    """One figure; `reference` names the row of the same report that `ratio` divides by."""

    name: str
    value: float
    unit: str
    reference: str | None = None
    ratio: float | None = None
    goal: Goal | None = None

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None where there is no goal."""
        if self.goal is None or self.ratio is None:
            return None
        return self.goal.met(self.ratio)

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "reference": self.reference,
            "ratio": self.ratio,
            "goal": self.goal.limit if self.goal else None,
            "met": self.met,
        }


class Report:
    """The rows of one benchmark, in the order in which they were added."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rows: list[Row] = []

    def add(
        self,
        name: str,
        value: float,
        unit: str,
        *,
        reference: str | None = None,
        goal: Goal | None = None,
    ) -> Row:
        """Add a figure; its ratio is to the value of the row named `reference`."""
        ratio = None if reference is None else value / self[reference].value
        row = Row(name, value, unit, reference, ratio, goal)
        self.rows.append(row)
        return row

    def __getitem__(self, name: str) -> Row:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "machine": machine(),
            "rows": [row.to_dict() for row in self.rows],
        }

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), ensure_ascii=False)

    def __str__(self) -> str:
        cells: list[tuple[str, ...]] = [("what", "value", "unit", "ratio", "to", "goal", "met")]
        cells += [_cells(row) for row in self.rows]
        return f"{self.name} — {_describe(machine())}\n{_align(cells)}"


def machine() -> dict[str, Any]:
    """What the figures were measured on; no name or address of the machine."""
    return {
        "kernel": platform.release(),
        "processor": _processor(),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _describe(described: dict[str, Any]) -> str:
    return (
        f"{described['processors']} x {described['processor']}, Linux {described['kernel']}, "
        f"Python {described['python']}, load {described['load']}"
    )


def _cells(row: Row) -> tuple[str, ...]:
    met = {None: "", True: "yes", False: "no"}[row.met]
    ratio = "" if row.ratio is None else f"{row.ratio:.3g}"
    goal = "" if row.goal is None else str(row.goal)
    return (row.name, number(row.value), row.unit, ratio, row.reference or "", goal, met)


def number(value: float) -> str:
    """Four digits, or all of a large number's."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _align(cells: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    numeric = (1, 3)
    lines = [
        "  ".join(
            cell.rjust(width) if index in numeric else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])
