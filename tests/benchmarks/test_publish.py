# SPDX-License-Identifier: Apache-2.0
"""The page and its pictures, from results that were recorded once."""

import json
import re
from xml.etree import ElementTree

import pytest

from benchmarks import publish, results
from benchmarks.errors import BenchmarkError
from benchmarks.report import Report, at_least, at_most


@pytest.fixture
def kept(tmp_path):
    """An lb and a packet result, each with a goal that is met and one that is missed."""
    directory = tmp_path / "results"
    lb = Report("lb")
    for label, unit in (("connections", "1/s"), ("connect p50", "us"), ("UDP request p50", "us")):
        lb.add(f"{label}: plain routed veth", 100.0, unit)
        for size, value in (("1 service", 98.0), ("1,000 services", 96.0)):
            for mode, goal in (("pycilium", at_least(0.97)), ("iptables-nft", None)):
                reference = f"{label}: plain routed veth"
                wanted = goal if label == "connections" else None
                lb.add(f"{label}: {mode}, {size}", value, unit, reference=reference, goal=wanted)
    packet = Report("packet")
    packet.add("R", 66.0, "ns")
    packet.add("pod → pod, established", 132.0, "ns", reference="R", goal=at_most(2.6))
    packet.add("pod → other node, established", 264.0, "ns", reference="R", goal=at_most(2.8))
    for report in (lb, packet):
        results.save(report, directory)
    return directory


@pytest.fixture
def page(kept, tmp_path):
    return publish.publish(kept, tmp_path / "docs")


def test_a_kept_result_says_when_and_of_which_commit(kept):
    read = json.loads((kept / "packet.json").read_text())
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", read["date"])
    assert re.fullmatch(r"[0-9a-f]{7,}|unknown", read["commit"])
    assert read["rows"][0]["name"] == "R"


def test_figures_stand_beside_their_goals(page):
    text = page.read_text()
    assert "| pod → pod, established | 132 ns | 2 | R | ≤ 2.6 | yes |" in text
    assert "| pod → other node, established | 264 ns | 4 | R | ≤ 2.8 | **missed** |" in text
    wanted = "| connections: pycilium, 1 service | 98 1/s | 0.98 | connections: plain routed veth "
    assert f"{wanted}| ≥ 0.97 | yes |" in text


def test_misses_are_listed_first(page):
    missed = page.read_text().split("## Missed goals\n")[1].split("\n## ")[0]
    assert missed.split("\n- ") == [
        "",
        "`lb`: connections: pycilium, 1,000 services: 0.96, goal ≥ 0.97",
        "`packet`: pod → other node, established: 4, goal ≤ 2.8\n",
    ]


def test_every_picture_of_the_page_is_there_and_nothing_else(page):
    named = set(re.findall(r"\]\((benchmarks/[^)]+)\)", page.read_text()))
    assert named == {f"benchmarks/{file.name}" for file in (page.parent / "benchmarks").iterdir()}
    assert len(named) == 4
    for file in named:
        assert ElementTree.parse(page.parent / file).getroot().tag.endswith("svg")


def test_the_same_results_make_the_same_bytes(kept, page, tmp_path):
    again = publish.publish(kept, tmp_path / "again")
    for file in page.parent.rglob("*.*"):
        assert (again.parent / file.relative_to(page.parent)).read_bytes() == file.read_bytes()


def test_without_results_there_is_no_page(tmp_path):
    with pytest.raises(BenchmarkError, match="holds no results"):
        publish.publish(tmp_path, tmp_path / "docs")
