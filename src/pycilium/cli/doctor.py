# SPDX-License-Identifier: Apache-2.0
"""`pycilium doctor`: what is wrong with this machine."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import click

from pycilium.cli.output import structured
from pycilium.doctor import CHECKS, Check, Row, State, examine

_SIGNS = {State.OK: "✓", State.NOTE: "·", State.WARNING: "!", State.WRONG: "✗"}


@click.command()
@click.option("--only", multiple=True, metavar="CHECK", type=click.Choice(CHECKS),
              help=f"One check; may repeat. {', '.join(CHECKS)}.")  # fmt: skip
@click.option("--output", "-o", type=click.Choice(("table", "json", "yaml")), default="table")
def doctor(only: tuple[str, ...], output: str) -> None:
    """Check this machine for BPF networking, and change nothing.

    Exit code 1 if something is wrong (✗); what may be (!) has 0.
    """
    found = examine(only)
    if output == "table":
        click.echo(_table(found))
    else:
        rows = [to_dict(check, row) for check in found for row in check.rows]
        click.echo(structured(rows, output))
    sys.exit(1 if any(check.wrong for check in found) else 0)


def to_dict(check: Check, row: Row) -> dict[str, str]:
    """One row as plain data."""
    return {
        "check": check.name,
        "state": row.state.value,
        "text": row.text,
        "code": row.code,
        "fix": row.fix,
    }


def _table(checks: Iterable[Check]) -> str:
    lines = []
    for check in checks:
        for row in check.rows:
            code = f" [{row.code}]" if row.code else ""
            lines.append(f"{_SIGNS[row.state]} {check.name:<14} {row.text}{code}")
            if row.fix:
                lines.append(f"  {'':<14} {row.fix}")
    return "\n".join(lines)
