# SPDX-License-Identifier: Apache-2.0
"""The plugin as a runtime calls it: environment, standard input, real namespaces."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cni.lab import Container, Lab, addresses, container, reaches
from pycilium.durable import Lock
from pycilium.net import links

pytestmark = pytest.mark.root


def test_two_containers_talk_as_the_policy_says(lab: Lab, pods: list[Container]) -> None:
    web, db, other = pods
    lab.add(web, app="web")
    result = lab.add(db, app="db")
    lab.add(other)
    ipv4, ipv6 = addresses(result)
    assert (ipv4, ipv6) == ("10.1.0.2", "fd00:1::2")
    assert result["interfaces"][1] == {
        "name": "eth0", "mac": result["interfaces"][1]["mac"], "sandbox": db.path
    }  # fmt: skip
    assert result["routes"] == [
        {"dst": "0.0.0.0/0", "gw": "169.254.1.1"}, {"dst": "::/0", "gw": "fe80::1"}
    ]  # fmt: skip
    for address in (ipv4, ipv6):
        assert reaches(web, db, address, 5432)
        assert not reaches(web, db, address, 22)
        assert not reaches(other, db, address, 5432)
    with lab.adopt() as datapath:
        told = str(lab.node.run(datapath.explain, "pods/other/eth0", f"{ipv4}:5432/tcp"))
        allowed = str(lab.node.run(datapath.explain, "pods/web/eth0", f"{ipv4}:5432/tcp"))
    assert "no rule" in told or "default" in told, told
    assert "db.yaml:" in allowed, allowed
    for one in pods:
        assert lab.ok("DEL", one) is None
    assert lab.is_clean()
    destroy(lab)


def destroy(lab: Lab) -> None:
    lab.node.run(lab.adopt().destroy)


@pytest.fixture
def web(lab: Lab, pods: list[Container]) -> Any:
    yield pods[0]
    destroy(lab)


def test_a_second_add_gives_the_same_answer(lab: Lab, web: Container) -> None:
    first = lab.add(web, app="web")
    assert lab.add(web, app="web") == first
    with lab.adopt() as datapath:
        assert len(datapath.endpoints) == 1
    lab.ok("DEL", web)


def test_a_container_that_came_back_under_its_name_is_added_anew(lab: Lab, web: Container) -> None:
    first = lab.add(web)
    with container("again") as fresh:
        again = Container(web.name, fresh.netns, fresh.path)
        second = lab.add(again)
        assert second["interfaces"][1]["sandbox"] == fresh.path
        assert links.exists("eth0", ns=fresh.netns)
        assert not links.exists("eth0", ns=web.netns)
        assert first["interfaces"][1]["mac"] != second["interfaces"][1]["mac"]
        lab.ok("DEL", again)
    assert lab.is_clean()


def test_del_always_succeeds(lab: Lab, web: Container) -> None:
    lab.ok("DEL", web)  # never added
    with container("gone") as gone:
        lab.add(gone)
    lab.ok("DEL", gone)  # its namespace is gone
    lab.ok("DEL", gone)  # twice
    lab.add(web)
    lab.ok("DEL", web, CNI_NETNS="")
    assert lab.is_clean()


def test_check_sees_what_changed(lab: Lab, web: Container) -> None:
    config = lab.config(prevResult=lab.add(web))
    assert lab.ok("CHECK", web, config=config) is None
    index = links.get("eth0", ns=web.netns).index
    links.set_down(index, ns=web.netns)
    assert lab.error("CHECK", web, config=config)["msg"] == "eth0 is down"
    links.delete(index, ns=web.netns)
    assert lab.error("CHECK", web, config=config)["code"] in (3, 103)
    assert lab.error("CHECK", web)["msg"] == "CHECK without prevResult"
    lab.ok("DEL", web)
    assert lab.error("CHECK", web, config=config)["code"] == 3


def test_gc_keeps_what_is_listed(lab: Lab, pods: list[Container]) -> None:
    for one in pods:
        lab.add(one)
    other = lab.config(name="another")
    lab.ok("ADD", pods[0], config=other, CNI_IFNAME="eth1")
    valid = [{"containerID": "db", "ifname": "eth0"}]
    lab.ok("GC", config=lab.config(**{"cni.dev/valid-attachments": valid}))
    with lab.adopt() as datapath:
        assert {one.name for one in datapath.endpoints} == {"pods/db/eth0", "another/web/eth1"}
    for name in ("pods", "another"):
        empty = {"name": name, "cni.dev/valid-attachments": []}
        lab.ok("GC", config=lab.config(**empty))
    assert lab.is_clean()
    assert lab.error("GC")["msg"] == "GC without cni.dev/valid-attachments"
    destroy(lab)


def test_status_says_when_no_address_is_left(lab: Lab, web: Container) -> None:
    config = lab.config(pools=[{"ipv4": "10.1.0.0/31", "quarantine": 0, "reserved": ["10.1.0.1"]}])
    assert lab.ok("STATUS", config=config) is None
    lab.ok("ADD", web, config=config)
    assert lab.error("STATUS", config=config)["code"] == 50
    with container("late") as late:
        error = lab.error("ADD", late, config=config)
        assert error["code"] == 101
        assert error["msg"] == (
            "pool default has no IPv4 address left: needs 1, of 2 are 1 allocated, "
            "0 in quarantine and 1 reserved"
        )
        assert not links.exists("eth0", ns=late.netns)
    lab.ok("DEL", web, config=config)


def test_static_addresses_and_mac(lab: Lab, web: Container) -> None:
    runtime = {"ips": ["10.1.0.77/24"], "mac": "02:00:00:00:00:77"}
    result = lab.ok("ADD", web, config=lab.config(runtimeConfig=runtime))
    assert addresses(result) == ["10.1.0.77"]
    assert result["interfaces"][1]["mac"] == "02:00:00:00:00:77"
    with container("two") as two:
        error = lab.error("ADD", two, CNI_ARGS="IP=10.1.0.77")
        assert (error["code"], error["msg"]) == (102, "address 10.1.0.77 is held by pods/web/eth0")
    lab.ok("DEL", web)


def test_a_failed_add_leaves_nothing(lab: Lab, web: Container) -> None:
    links.create_veth("eth0", "peer", ns=web.netns)  # the name is taken
    assert lab.error("ADD", web)["code"] == 100
    assert lab.is_clean()
    error = lab.error("ADD", web, CNI_NETNS="/run/netns/none")
    assert error["code"] in (4, 7)
    (lab.policies / "bad.yaml").write_text("kind: [")
    error = lab.error("ADD", web)
    assert error["code"] == 7
    assert "bad.yaml" in error["msg"]
    assert lab.is_clean()
    lab.ok("DEL", web)


def test_del_and_gc_wait_on_disk_while_somebody_has_the_node(
    lab: Lab, pods: list[Container]
) -> None:
    web, db, _ = pods
    for one in (web, db):
        lab.add(one)
    short = lab.config(wait=0.1)
    with Lock.acquire(lab.state / "ipam.lock"):
        lab.ok("DEL", web, config=short)
        lab.ok("DEL", web, config=short)
        valid = [{"containerID": "db", "ifname": "eth0"}]
        lab.ok("GC", config={**short, "cni.dev/valid-attachments": valid})
        error = lab.error("ADD", web, config=short)
        assert error["code"] == 11
        assert f"held by process {os.getpid()}" in error["details"]
        assert len(list((lab.state / "queue").iterdir())) == 3
    lab.ok("STATUS")
    assert list((lab.state / "queue").iterdir()) == []
    with lab.adopt() as datapath:
        assert [one.name for one in datapath.endpoints] == ["pods/db/eth0"]
    lab.ok("DEL", db)
    destroy(lab)


@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"])
def test_results_of_every_version(lab: Lab, web: Container, version: str) -> None:
    result = lab.ok("ADD", web, config=lab.config(cniVersion=version))
    assert result["cniVersion"] == version
    families = [one.get("version") for one in result["ips"]]
    assert families == (["4", "6"] if version < "1" else [None, None])
    config = lab.config(cniVersion=version, prevResult=result)
    if version >= "0.4.0":
        lab.ok("CHECK", web, config=config)
    else:
        assert lab.error("CHECK", web, config=config)["code"] == 1
    lab.ok("DEL", web, config=config)


def test_version_needs_no_network(lab: Lab) -> None:
    answer = lab.ok("VERSION", config={"cniVersion": "1.0.0"}, CNI_NETNS="dummy")
    assert answer["cniVersion"] == "1.0.0"
    assert answer["supportedVersions"][-1] == "1.1.0"
    assert not lab.state.exists()


def test_accounts_agree_after_a_death_between_the_two(lab: Lab, pods: list[Container]) -> None:
    """Addresses without an endpoint go back; an endpoint without addresses gets them again."""
    from pycilium.ipam import HostScope, Pool

    web, db, _ = pods
    lab.add(web)
    pools = [Pool.from_dict(one) for one in lab.config()["pools"]]
    with HostScope.open(pools, path=lab.state / "ipam") as scope:
        scope.release("pods/web/eth0")
        scope.allocate("pods/ghost/eth0")
    lab.add(db)
    with HostScope.open(pools, path=lab.state / "ipam") as scope:
        assert {one.owner for one in scope} == {"pods/web/eth0", "pods/db/eth0"}
    for one in (web, db):
        lab.ok("DEL", one)
    destroy(lab)


def test_a_damaged_store_is_rebuilt_from_the_kernel(lab: Lab, web: Container) -> None:
    before = addresses(lab.add(web))
    (lab.state / "ipam").write_bytes(b"\0" * 100)
    assert addresses(lab.add(web)) == before
    with container("two") as two:
        assert not set(addresses(lab.add(two))) & set(before)
        lab.ok("DEL", two)
    assert Path(lab.state / "ipam.damaged-1").exists()
    lab.ok("DEL", web)
    assert lab.is_clean()


def test_json_is_all_that_stands_on_standard_output(lab: Lab, web: Container) -> None:
    done = lab.call("ADD", web, config={"cniVersion": "9.9.9"})
    assert json.loads(done.stdout)["code"] == 1
    destroyed = lab.add(web)
    assert destroyed["cniVersion"] == "1.1.0"
    lab.ok("DEL", web)
