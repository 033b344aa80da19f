# SPDX-License-Identifier: Apache-2.0
"""Who reaches whom, as text, as a table in a terminal or a notebook, and as a DataFrame."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import attrs

from pycilium.model.port import PROTOCOL_NAMES, PortRange
from pycilium.model.verdict import Verdict

if TYPE_CHECKING:
    from pycilium.policy.peer import Peer
    from pycilium.policy.policy_set import PolicySet

_SHOWN = 50


@attrs.frozen
class Cell:
    """One verdict of the matrix."""

    source: str
    destination: str
    port: PortRange
    verdict: Verdict

    @property
    def summary(self) -> str:
        """One line, without the nearest rule."""
        word = "allowed" if self.verdict else "denied"
        return f"{self.port}: {word} at {self.verdict.direction} by {self.verdict.rule}"

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


@attrs.frozen(repr=False)
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

    @property
    def legend(self) -> str:
        """What the marks mean, and how much is allowed."""
        ports = ", ".join(map(str, self.ports))
        allowed = sum(one.verdict.allowed for one in self.cells)
        counts = f"{allowed} of {len(self.cells)} connections are allowed"
        return f"{counts}. ✓ all of {ports}; else what is; ✗ none; · itself"

    def pair(self, source: str, destination: str) -> tuple[Cell, ...]:
        """The verdicts of two peers; none for a peer and itself."""
        return self._by_pair.get((source, destination), ())

    def extent(self, source: str, destination: str) -> str:
        """How much of one pair is allowed: all, some, none, or "" for itself."""
        found = self.pair(source, destination)
        allowed = sum(one.verdict.allowed for one in found)
        if not found:
            return ""
        return {len(found): "all", 0: "none"}.get(allowed, "some")

    def text(self, source: str, destination: str) -> str:
        """The same in a mark, or the ports that are allowed."""
        marks = {"all": "✓", "none": "✗", "": "·"}
        found = (str(one.port) for one in self.pair(source, destination) if one.verdict)
        return marks.get(self.extent(source, destination)) or " ".join(found)

    def __repr__(self) -> str:
        allowed = sum(one.verdict.allowed for one in self.cells)
        return f"<Matrix {len(self.names)} peers, {allowed} of {len(self.cells)} allowed>"

    def __str__(self) -> str:
        rows = [["from \\ to", *self.names]]
        rows += [[name, *(self.text(name, other) for other in self.names)] for name in self.names]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = (
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )
        return "\n".join([*lines, "", self.legend])

    def __rich__(self) -> Any:
        from rich.markup import escape
        from rich.table import Table

        names = [escape(name) for name in self.names]
        table = Table("from \\ to", *names, caption=self.legend)
        for shown, name in zip(names, self.names, strict=True):
            table.add_row(shown, *(self._styled(name, other) for other in self.names))
        return table

    def to_html(self) -> str:
        """A page with every peer, for a browser."""
        from pycilium.policy.matrix_html import page

        return page(self)

    def _repr_html_(self) -> str:
        """The first peers, as many as a notebook can show."""
        from pycilium.policy.matrix_html import table

        return table(self, self.names[:_SHOWN])

    def _styled(self, source: str, destination: str) -> str:
        colours = {"all": "green", "none": "red", "some": "yellow"}
        text, extent = self.text(source, destination), self.extent(source, destination)
        return f"[{colours[extent]}]{text}[/]" if extent else text
