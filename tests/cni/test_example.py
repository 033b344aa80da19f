# SPDX-License-Identifier: Apache-2.0
"""examples/cni.py is a complete plugin: what a runtime does with it, from ADD to nothing left."""

from __future__ import annotations

import sys
from pathlib import Path

import attrs
import pytest

from cni.lab import POLICY, ROOT, Container, Lab, addresses, reaches
from pycilium import Datapath
from pycilium.ipam import HostScope, Pool
from pycilium.net import links

DENY = """  ingressDeny:
  - fromEndpoints: [{matchLabels: {app: other}}]
"""
EXAMPLE = ROOT / "examples" / "cni.py"


def test_it_is_short() -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 40


@pytest.mark.root
def test_two_containers(lab: Lab, pods: list[Container], tmp_path: Path) -> None:
    policies = tmp_path / "policies.yaml"
    policies.write_text(POLICY + DENY)
    where = {
        "EXAMPLE_STATE": str(tmp_path / "example"),
        "EXAMPLE_BPFFS": str(lab.bpffs),
        "EXAMPLE_POLICIES": str(policies),
    }
    lab = attrs.evolve(lab, command=(sys.executable, "-W", "error", str(EXAMPLE)))
    config = {"cniVersion": "1.1.0", "name": "pods", "type": "example"}
    web, db, other = pods
    call = {"config": config, **where}
    lab.ok("ADD", web, CNI_ARGS="LABELS=app=web", **call)
    address = addresses(lab.ok("ADD", db, CNI_ARGS="LABELS=app=db", **call))[0]
    lab.ok("ADD", other, CNI_ARGS="LABELS=app=other", **call)
    assert address == "10.88.0.2"
    assert reaches(web, db, address, 5432)
    assert not reaches(web, db, address, 22)
    assert not reaches(other, db, address, 5432)
    with lab.node.run(lambda: Datapath.adopt("example", bpffs=lab.bpffs)) as datapath:
        allowed = lab.node.run(datapath.explain, "pods/web/eth0", f"{address}:5432/tcp")
        denied = lab.node.run(datapath.explain, "pods/other/eth0", f"{address}:5432/tcp")
    assert allowed.allowed
    assert "allowed by db (policies.yaml:8)" in str(allowed)
    assert not denied.allowed
    assert "denied by db (policies.yaml:11)" in str(denied)
    for one in pods:
        lab.ok("DEL", one, **call)
    assert [one.name for one in links.list_all(ns=lab.node)] == ["lo"]
    with HostScope.open(Pool(ipv4="10.88.0.0/16"), path=tmp_path / "example/addresses") as scope:
        assert len(scope) == 0
    datapath = lab.node.run(lambda: Datapath.adopt("example", bpffs=lab.bpffs))
    assert len(datapath.endpoints) == 0
    lab.node.run(datapath.destroy)
