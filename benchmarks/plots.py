# SPDX-License-Identifier: Apache-2.0
"""Pictures of the kept results, as SVG. Needs matplotlib: the group `bench`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette; markers tell the lines apart without colour.
STYLES = {
    "pycilium": ("#0072B2", "o"),
    "pycilium at the socket": ("#009E73", "s"),
    "nftables": ("#E69F00", "^"),
    "iptables-legacy": ("#D55E00", "v"),
    "iptables-nft": ("#CC79A7", "D"),
}
MET, MISSED, PLAIN = "#0072B2", "#D55E00", "#999999"
SIZE = (8, 4.5)
_ROW = re.compile(r"(?P<label>[^:]+): (?P<mode>[^,]+), (?P<size>[\d,]+) services?$")

Result = Mapping[str, Any]
Lines = dict[str, list[tuple[int, float]]]


def draw(results: Mapping[str, Result], directory: Path) -> dict[str, list[str]]:
    """Write every picture; returns their file names by benchmark."""
    drawn: dict[str, list[str]] = {}
    for name, (file, picture) in PICTURES:
        if name in results:
            figure = picture(results[name])
            _write(figure, directory / file)
            drawn.setdefault(name, []).append(file)
    return drawn


def _write(figure: Figure, file: Path) -> None:
    """The same bytes for the same figures."""
    with mpl.rc_context({"svg.hashsalt": file.name}):
        figure.savefig(file, metadata={"Date": None})


def connections(result: Result) -> Figure:
    """Connections per second against the number of services."""
    title = "Connections per second through the last of N services"
    return _by_size(result, "connections", title, "plain routed veth without rules = 1", log=False)


def connect(result: Result) -> Figure:
    """Time of a connect() against the number of services."""
    title = "Median time of a connect() to the last of N services"
    return _by_size(result, "connect p50", title, "plain routed veth without rules = 1", log=True)


def requests(result: Result) -> Figure:
    """UDP requests against the number of services."""
    title = "Median time of a UDP request and its answer, last of N services"
    label = "plain routed veth without rules = 1"
    return _by_size(result, "UDP request p50", title, label, log=False)


def packets(result: Result) -> Figure:
    """Cost of a packet, with its goal."""
    rows = [row for row in result["rows"] if row["ratio"] is not None]
    figure = Figure(figsize=(8, 0.32 * len(rows) + 1.2), layout="constrained")
    axes = figure.subplots()
    names = [row["name"] for row in rows]
    ratios = [row["ratio"] for row in rows]
    colours = [{True: MET, False: MISSED, None: PLAIN}[row["met"]] for row in rows]
    axes.barh(names, ratios, color=colours, height=0.6)
    for place, row in enumerate(rows):
        goal = row["goal"]
        axes.text(max(row["ratio"], goal or 0), place, f"  {row['ratio']:.1f}", va="center")
        if goal is not None:
            axes.plot([goal, goal], [place - 0.4, place + 0.4], color="black", linewidth=2)
    axes.invert_yaxis()
    axes.margins(x=0.08, y=0.01)
    axes.set_xlabel("multiples of R: one LRU lookup and a redirect")
    title = "Cost of a packet\nblack: the goal; blue: met, orange: missed, grey: none"
    _finish(axes, title)
    return figure


def _by_size(result: Result, label: str, title: str, unit: str, *, log: bool) -> Figure:
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    ends = []
    for mode, points in _lines(result, label).items():
        colour, marker = STYLES[mode]
        sizes, values = zip(*points, strict=True)
        axes.plot(sizes, values, color=colour, marker=marker)
        ends.append((sizes[-1], values[-1], f"{mode} {values[-1]:.2f}", colour))
    last = max(end[0] for end in ends)
    axes.plot([1, last], [1, 1], color="black", linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.set_xlabel("services")
    axes.set_ylabel(unit)
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
    else:
        axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlim(right=last * 200)
    axes.set_xticks(sorted({size for line in _lines(result, label).values() for size, _ in line}))
    axes.minorticks_off() if not log else axes.xaxis.minorticks_off()
    _label(axes, ends)
    _finish(axes, title)
    return figure


def _lines(result: Result, label: str) -> Lines:
    """Ratios by mode and number of services."""
    lines: Lines = {}
    for row in result["rows"]:
        found = _ROW.match(row["name"])
        if found and found["label"] == label and found["mode"] in STYLES:
            size = int(found["size"].replace(",", ""))
            lines.setdefault(found["mode"], []).append((size, row["ratio"]))
    return {mode: sorted(points) for mode, points in lines.items()}


def _label(axes: Axes, ends: list[tuple[int, float, str, str]]) -> None:
    """Name each line at its end, the names far enough apart to be read."""
    lowest = float("-inf")
    to_points = axes.transData.transform
    for x, y, text, colour in sorted(ends, key=lambda end: end[1]):
        height = max(to_points((x, y))[1], lowest + 14)
        lowest = height
        offset = (8, (height - to_points((x, y))[1]) * 72 / 100)
        axes.annotate(
            text, (x, y), offset, textcoords="offset points", color=colour, va="center", fontsize=9
        )


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)


Picture = Callable[[Result], Figure]
PICTURES: tuple[tuple[str, tuple[str, Picture]], ...] = (
    ("lb", ("lb-connections.svg", connections)),
    ("lb", ("lb-connect.svg", connect)),
    ("lb", ("lb-udp.svg", requests)),
    ("packet", ("packet.svg", packets)),
)
