# SPDX-License-Identifier: Apache-2.0
"""Output: rich in a terminal, plain text when piped or when rich is not installed."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence

Row = Sequence[str]


class Screen:
    """Headings, sentences and tables on standard output."""

    def __init__(self, *, colour: bool | None = None) -> None:
        self._rich = _use_rich() if colour is None else colour

    def heading(self, text: str) -> None:
        """A section's title."""
        if self._rich:
            from rich.console import Console
            from rich.rule import Rule

            Console().print(Rule(text, align="left", style="cyan"))
        else:
            print(f"\n== {text}")

    def line(self, text: str) -> None:
        """One line or more as they are."""
        print(text, flush=True)

    def table(self, header: Row, rows: Sequence[Row]) -> None:
        """Columns as wide as their widest cell."""
        if self._rich:
            self._rich_table(header, rows)
            return
        widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
        for row in (header, *rows):
            print(
                "  ".join(
                    cell.ljust(width) for cell, width in zip(row, widths, strict=True)
                ).rstrip()
            )

    def _rich_table(self, header: Row, rows: Sequence[Row]) -> None:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*header, header_style="bold", border_style="dim")
        for row in rows:
            table.add_row(*(Text(cell, style=_style(cell)) for cell in row))
        Console().print(table)


def _style(cell: str) -> str:
    if cell.startswith(("yes", "ALLOW", "✓")):
        return "green"
    return "red" if cell.startswith(("no", "DENIED", "DROP", "✗")) else ""


def _use_rich() -> bool:
    wanted = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return wanted and importlib.util.find_spec("rich") is not None
