# SPDX-License-Identifier: Apache-2.0
"""Who reaches whom, as text, as a table in a terminal or a notebook, and as a DataFrame."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING, Any

import attrs

from pycilium.model.port import PROTOCOL_NAMES, PortRange
from pycilium.model.verdict import Verdict

if TYPE_CHECKING:
    from pycilium.policy.peer import Peer
    from pycilium.policy.policy_set import PolicySet

_STYLE = "border:1px solid #8888;padding:2px 6px;text-align:center"


@attrs.frozen
class Cell:
    """One verdict of the matrix."""

    source: str
    destination: str
    port: PortRange
    verdict: Verdict

    def to_dict(self) -> dict[str, Any]:
        """Plain values, one name each."""
        return {
            "source": self.source,
            "destination": self.destination,
            "port": self.port.first,
            "protocol": PROTOCOL_NAMES[self.port.protocol],
            "allowed": self.verdict.allowed,
            "direction": str(self.verdict.direction),
            "rule": str(self.verdict.rule),
        }


@attrs.frozen
class Matrix:
    """Verdicts of every peer to every other; `[source, destination]` are those of one pair."""

    names: tuple[str, ...]
    ports: tuple[PortRange, ...]
    cells: tuple[Cell, ...] = attrs.field(repr=False)
    _by_pair: dict[tuple[str, str], tuple[Cell, ...]] = attrs.field(
        init=False, repr=False, eq=False
    )

    @_by_pair.default
    def _index(self) -> dict[tuple[str, str], tuple[Cell, ...]]:
        found: dict[tuple[str, str], list[Cell]] = {}
        for one in self.cells:
            found.setdefault((one.source, one.destination), []).append(one)
        return {pair: tuple(cells) for pair, cells in found.items()}

    @classmethod
    def of(cls, policies: PolicySet, peers: dict[str, Peer], ports: list[PortRange]) -> Matrix:
        """Ask a set of policies everything."""
        subjects = {name: policies.subject_of(peer) for name, peer in peers.items()}
        ask = policies._evaluator.verdict  # noqa: SLF001 - one subject in two files
        cells = tuple(
            Cell(a, b, port, ask(subjects[a], subjects[b], port.first, port.protocol))
            for a in subjects
            for b in subjects
            if a != b
            for port in ports
        )
        return cls(tuple(peers), tuple(ports), cells)

    def __iter__(self) -> Iterator[Cell]:
        return iter(self.cells)

    def __len__(self) -> int:
        return len(self.cells)

    def __getitem__(self, pair: tuple[str, str]) -> tuple[Cell, ...]:
        return self._by_pair[pair]

    def to_rows(self) -> list[dict[str, Any]]:
        """One dict for each verdict, for any table library."""
        return [cell.to_dict() for cell in self.cells]

    def to_pandas(self) -> Any:
        """A pandas.DataFrame; pandas must be installed."""
        import pandas as pd  # type: ignore[import-untyped, unused-ignore]

        return pd.DataFrame(self.to_rows())

    def __str__(self) -> str:
        rows = [["from \\ to", *self.names]]
        rows += [[name, *(self._text(name, other) for other in self.names)] for name in self.names]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        return "\n".join(
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )

    def __rich__(self) -> Any:
        from rich.table import Table

        table = Table("from \\ to", *self.names)
        for name in self.names:
            table.add_row(name, *(self._styled(name, other) for other in self.names))
        return table

    def _repr_html_(self) -> str:
        head = "".join(f"<th style='{_STYLE}'>{escape(one)}</th>" for one in ("", *self.names))
        body = "".join(self._html_row(name) for name in self.names)
        return f"<table style='border-collapse:collapse'><tr>{head}</tr>{body}</table>"

    def _html_row(self, name: str) -> str:
        cells = "".join(self._html_cell(name, other) for other in self.names)
        return f"<tr><th style='{_STYLE}'>{escape(name)}</th>{cells}</tr>"

    def _html_cell(self, source: str, destination: str) -> str:
        found = self._pair(source, destination)
        colour = "#2e7d3233" if found and all(one.verdict for one in found) else "#c6282833"
        if any(one.verdict for one in found) and not all(one.verdict for one in found):
            colour = "#f9a82533"
        title = "&#10;".join(escape(f"{one.port}: {one.verdict}") for one in found)
        background = f";background:{colour}" if found else ""
        text = escape(self._text(source, destination))
        return f"<td style='{_STYLE}{background}' title='{title}'>{text}</td>"

    def _pair(self, source: str, destination: str) -> tuple[Cell, ...]:
        return self._by_pair.get((source, destination), ())

    def _text(self, source: str, destination: str) -> str:
        """What is allowed: all, none, or the ports."""
        found = self._pair(source, destination)
        if not found:
            return "·"
        allowed = [str(one.port) for one in found if one.verdict]
        if len(allowed) == len(found):
            return "✓"
        return " ".join(allowed) or "✗"

    def _styled(self, source: str, destination: str) -> str:
        text = self._text(source, destination)
        return {"✓": "[green]✓[/]", "✗": "[red]✗[/]", "·": "·"}.get(text, f"[yellow]{text}[/]")
