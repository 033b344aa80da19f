# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from benchmarks.report import Report, at_least, at_most


@pytest.fixture
def report():
    report = Report("packet")
    report.add("R", 66.0, "ns")
    return report


def test_ratio_is_to_the_named_row(report):
    assert report.add("pod", 132.0, "ns", reference="R").ratio == 2.0


def test_a_reference_that_was_not_measured_is_refused(report):
    with pytest.raises(KeyError):
        report.add("pod", 132.0, "ns", reference="H")


@pytest.mark.parametrize(
    ("goal", "value", "met"),
    [
        (at_most(2.0), 132.0, True),
        (at_most(1.9), 132.0, False),
        (at_least(2.0), 132.0, True),
        (at_least(2.1), 132.0, False),
        (None, 132.0, None),
    ],
)
def test_met(report, goal, value, met):
    assert report.add("pod", value, "ns", reference="R", goal=goal).met is met


def test_json_has_the_fields_that_consumers_rely_on(report):
    report.add("pod", 132.0, "ns", reference="R", goal=at_most(2.6))
    read = json.loads(report.to_json())
    assert list(read) == ["name", "machine", "rows"]
    assert read["rows"] == [
        {
            "name": "R",
            "value": 66.0,
            "unit": "ns",
            "reference": None,
            "ratio": None,
            "goal": None,
            "met": None,
        },
        {
            "name": "pod",
            "value": 132.0,
            "unit": "ns",
            "reference": "R",
            "ratio": 2.0,
            "goal": 2.6,
            "met": True,
        },
    ]


def test_table_shows_every_row_and_goal_in_aligned_columns(report):
    report.add("pod → pod", 171.6, "ns", reference="R", goal=at_most(2.6))
    _, head, rule, *rows = str(report).splitlines()
    assert head.split() == ["what", "value", "unit", "ratio", "to", "goal", "met"]
    assert set(rule) == {"-"}
    assert rows[1].split() == ["pod", "→", "pod", "171.6", "ns", "2.6", "R", "≤", "2.6", "yes"]
    assert head.index("unit") == rows[0].index("ns") == rows[1].index("ns")
