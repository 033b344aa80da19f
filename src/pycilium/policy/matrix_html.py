# SPDX-License-Identifier: Apache-2.0
"""A matrix as HTML: a table for notebooks, a page of its own for people without one."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pycilium.policy.matrix import Matrix

_BORDER = "border:1px solid #8888;padding:2px 6px"
_COLOURS = {"all": "#2e7d3233", "some": "#f9a82555", "none": "#c6282833", "": "transparent"}
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Who reaches whom</title>
<style>
:root {{ color-scheme: light dark; font: 14px system-ui, sans-serif }}
body {{ margin: 1.5em }}
h1 {{ font-size: 1.3em; margin: 0 }}
thead th {{ position: sticky; top: 0; background: Canvas }}
tbody th {{ position: sticky; left: 0; background: Canvas }}
</style>
<h1>Who reaches whom</h1>
{table}
</html>
"""


def page(matrix: Matrix) -> str:
    """A document with every peer."""
    return _PAGE.format(table=table(matrix, matrix.names))


def table(matrix: Matrix, names: Sequence[str]) -> str:
    """The rows and columns of some peers; what a cell's verdicts are, its title says."""
    head = "".join(f"<th scope='col' style='{_BORDER}'>{escape(one)}</th>" for one in names)
    body = "".join(_row(matrix, name, names) for name in names)
    left_out = len(matrix.names) - len(names)
    note = f"{len(names)} of {len(matrix.names)} peers are shown. " if left_out else ""
    return (
        f"<p>{note}{escape(matrix.legend)}</p>"
        "<table style='border-collapse:collapse;text-align:center'>"
        f"<thead><tr><th style='{_BORDER};text-align:left'>from \\ to</th>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )


def _row(matrix: Matrix, name: str, names: Sequence[str]) -> str:
    cells = "".join(_cell(matrix, name, other) for other in names)
    head = f"<th scope='row' style='{_BORDER};text-align:left'>{escape(name)}</th>"
    return f"<tr>{head}{cells}</tr>"


def _cell(matrix: Matrix, source: str, destination: str) -> str:
    colour = _COLOURS[matrix.extent(source, destination)]
    lines = (one.summary for one in matrix.pair(source, destination))
    title = "&#10;".join(escape(line, quote=True) for line in lines)
    text = escape(matrix.text(source, destination))
    return f"<td style='{_BORDER};background:{colour}' title='{title}'>{text}</td>"
