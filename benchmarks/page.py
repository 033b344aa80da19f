# SPDX-License-Identifier: Apache-2.0
"""The page of the documentation that shows the kept results, as Markdown."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.report import number

HEAD = """\
# Benchmarks

Every figure stands beside the limit or the competitor that the same run measured; ratios hold on
other machines, absolute times do not. A missed goal is shown as missed. `make bench-results`
measures anew, `make bench-report` renders this page from `benchmarks/results`.
"""

Result = Mapping[str, Any]


def render(results: Mapping[str, Result], plots: Mapping[str, Sequence[str]]) -> str:
    """The whole page; `plots` names the pictures of a benchmark, beside the page."""
    parts = [HEAD, *_missed(results)]
    for name, result in results.items():
        parts += _section(name, result, plots.get(name, ()))
    return "\n".join(parts)


def _missed(results: Mapping[str, Result]) -> Iterator[str]:
    yield "## Missed goals\n"
    missed = [
        f"- `{name}`: {row['name']}: {row['ratio']:.3g}, goal {_goal(row)}"
        for name, result in results.items()
        for row in result["rows"]
        if row["met"] is False
    ]
    yield "\n".join(missed or ["None."]) + "\n"


def _section(name: str, result: Result, plots: Sequence[str]) -> Iterator[str]:
    yield f"## {name}\n"
    yield f"{inspect.getdoc(importlib.import_module(f'benchmarks.{name}'))}\n"
    machine = result["machine"]
    yield (
        f"{machine['processors']} x {machine['processor']}, Linux {machine['kernel']}, Python "
        f"{machine['python']}, load {machine['load']} at the end of the run; {result['date']}, "
        f"commit {result['commit']}.\n"
    )
    for plot in plots:
        yield f"![{plot.rpartition('/')[2].removesuffix('.svg')}]({plot})\n"
    yield _table(result["rows"])


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = ["| what | value | ratio | to | goal | met |", "|---|--:|--:|---|---|---|"]
    lines += [f"| {' | '.join(_cells(row))} |" for row in rows]
    return "\n".join(lines) + "\n"


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    met = {None: "", True: "yes", False: "**missed**"}[row["met"]]
    ratio = "" if row["ratio"] is None else f"{row['ratio']:.3g}"
    value = f"{number(row['value'])} {row['unit']}"
    return (row["name"], value, ratio, row["reference"] or "", _goal(row), met)


def _goal(row: Mapping[str, Any]) -> str:
    if row["goal"] is None:
        return ""
    small = (row["ratio"] <= row["goal"]) == row["met"]
    return f"{'≤' if small else '≥'} {row['goal']:g}"
