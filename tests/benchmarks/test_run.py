# SPDX-License-Identifier: Apache-2.0
"""Each benchmark once, on almost nothing: that it runs, not what it measures."""

import json

import pytest

from benchmarks import __main__ as command_line

# The rows that stand under a goal, with that goal.
GOALS = {
    "packet": {
        "pod → pod, established": 2.6,
        "pod → other node, established": 2.8,
        "pod → ClusterIP, established": 3.0,
        "pod → pod, new connection": 13,
        "pod → ClusterIP, new connection": 18,
    },
    "lb": {
        "connections: pycilium, 3 services": 0.97,
        "connections: pycilium, 3 services, beside 1 service": 0.98,
        "connect p50: pycilium, 3 services": 1.05,
        "connections: pycilium at the socket, 3 services": 0.97,
        "connections: pycilium at the socket, 3 services, beside 1 service": 0.98,
        "connect p50: pycilium at the socket, 3 services": 1.05,
        "20 services of 3 backends, by columns": 2.5,
        "20 services of 3 backends, Python heap per service, by columns": 1,
    },
    "policy": {
        "40 identities, 20 policies: cold": 1,
        "40 identities, 20 policies: one policy added, P99": 1,
        "40 identities, 20 policies: one pod relabelled, P99": 1,
        "40 identities, 20 policies: one identity added, P99": 1,
        "40 identities, 20 policies: a rule of 10 prefixes added, P99": 1,
        "verdicts on 20 policies": 1,
    },
    "program": {
        "1,000 map entries, pycilium": 0.45,
        "20 services, pycilium": 0.4,
        "one change at 20 services, pycilium": 0.0005,
    },
    "xdp": {
        "IPIP, known flow, 1 VIP": 1.4,
        "IPIP, known flow, 20 VIPs": 1.4,
        "IPv6 in IPv6, known flow": 1.4,
    },
    "bfd": {
        "flaps: BIRD": 0,
        "flaps: process": 0,
        "silence until Down: process, p50": 1.1,
        "flaps: 3 sessions, process": 0,
    },
    "bgp": {},
    "node": {"ADD p50: pycilium": 1},
}


@pytest.mark.root
@pytest.mark.parametrize("name", command_line.NAMES)
def test_benchmark_runs_and_its_goals_stand(name, capsys):
    assert command_line.main([name, "--quick", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["name"] == name
    values = {row["name"]: row["value"] for row in report["rows"]}
    assert len(values) == len(report["rows"])
    assert all(value > 0 or name.startswith("flaps: ") for name, value in values.items())
    for row in report["rows"]:
        if row["reference"]:
            assert row["ratio"] == row["value"] / values[row["reference"]]
    goals = {row["name"]: row["goal"] for row in report["rows"] if row["goal"] is not None}
    assert goals == GOALS[name]


@pytest.mark.parametrize(
    "wrong", [[], ["nothing"], ["packet", "--rounds", "0"], ["packet", "--all"]]
)
def test_a_wrong_command_line_is_refused(wrong, capsys):
    with pytest.raises(SystemExit) as ended:
        command_line.main(wrong)
    assert ended.value.code == 2
    assert "usage: python -m benchmarks" in capsys.readouterr().err


def test_what_cannot_be_measured_is_one_line(monkeypatch, capsys):
    def fail(name, **options):
        raise command_line.PyciliumError(f"{name} cannot run here")

    monkeypatch.setattr(command_line, "run", fail)
    assert command_line.main(["packet"]) == 1
    assert capsys.readouterr().err == "benchmarks: packet cannot run here\n"
