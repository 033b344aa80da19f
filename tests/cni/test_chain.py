# SPDX-License-Identifier: Apache-2.0
"""Beside the standard plugins: behind one that makes the interface, before ones that add to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import pytest

from cni.lab import Container, Lab, addresses, reaches
from pycilium.net import sysctl

pytestmark = pytest.mark.root
PLUGINS = Path("/usr/lib/cni")


def standard(lab: Lab, name: str) -> Lab:
    """The same node, and a plugin of Debian's containernetworking-plugins."""
    assert (PLUGINS / name).exists(), "apt-get install containernetworking-plugins"
    return attrs.evolve(lab, command=(str(PLUGINS / name),))


def test_behind_ptp_the_policy_is_ours(lab: Lab, pods: list[Container], tmp_path: Path) -> None:
    """ptp makes the veth pair and host-local its address; pycilium takes charge of the device."""
    ptp = standard(lab, "ptp")
    base = {"cniVersion": "1.0.0", "name": "pods", "type": "ptp"}
    ipam = {"type": "host-local", "subnet": "10.7.0.0/24", "dataDir": str(tmp_path / "host-local")}
    config = {**base, "ipam": ipam}
    sysctl.write("net.ipv4.ip_forward", 1, ns=lab.node)
    results: dict[str, Any] = {}
    for one in pods:
        before = ptp.ok("ADD", one, config=config, CNI_PATH=str(PLUGINS))
        chained = lab.config(cniVersion="1.0.0", prevResult=before, pools=[])
        labels = f"LABELS=app={one.name}"
        results[one.name] = lab.ok("ADD", one, config=chained, CNI_ARGS=labels)
        assert results[one.name]["ips"] == before["ips"]
    web, db, other = pods
    address = addresses(results["db"])[0]
    assert reaches(web, db, address, 5432)
    assert not reaches(web, db, address, 22)
    assert not reaches(other, db, address, 5432)
    lab.ok("CHECK", db, config=lab.config(cniVersion="1.0.0", prevResult=results["db"], pools=[]))
    for one in pods:
        lab.ok("DEL", one, config=lab.config(prevResult=results[one.name], pools=[]))
        gone = {**config, "prevResult": results[one.name]}
        ptp.ok("DEL", one, config=gone, CNI_PATH=str(PLUGINS))
    assert lab.is_clean()
    lab.node.run(lab.adopt().destroy)


def test_portmap_and_bandwidth_take_our_result(lab: Lab, pods: list[Container]) -> None:
    web = pods[0]
    result = lab.ok("ADD", web, config=lab.config(cniVersion="1.0.0"))
    maps = [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]
    for name, runtime in (
        ("portmap", {"portMappings": maps}),
        ("bandwidth", {"bandwidth": {"ingressRate": 10**8, "ingressBurst": 10**7}}),
    ):
        plugin = standard(lab, name)
        config = {"cniVersion": "1.0.0", "name": "pods", "type": name, "runtimeConfig": runtime}
        config |= {"backend": "iptables", "snat": False, "prevResult": result}
        done = plugin.call("ADD", web, config=config)
        assert done.returncode == 0, done.stdout + done.stderr
        result = json.loads(done.stdout)
        assert addresses(result) == ["10.1.0.1", "fd00:1::1"]
        done = plugin.call("DEL", web, config=config)
        assert done.returncode == 0, done.stdout + done.stderr
    lab.ok("DEL", web, config=lab.config(cniVersion="1.0.0", prevResult=result))
    assert lab.is_clean()
    lab.node.run(lab.adopt().destroy)
