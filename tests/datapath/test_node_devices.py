# SPDX-License-Identifier: Apache-2.0
"""The node's devices: what open() takes, what explain() and status() tell, what outlives kill."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import TCP

from programs.device_lab import ANY, CLIENT, FAR, NODE, POD, VIP, DeviceLab
from programs.lab import SHOT
from pycilium import Datapath, ServiceLB
from pycilium.errors import SpecError
from pycilium.net import NetNS, addresses, links, sysctl

pytestmark = pytest.mark.root
REDIRECT = 7


@pytest.fixture
def lab(node: NetNS) -> Iterator[DeviceLab]:
    lab = DeviceLab(node, masquerade=True, masquerade_exclude=["10.0.0.0/8"])
    yield lab
    lab.close()


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"devices": ["nothere"]}, "devices"),
        ({"devices": [5]}, "devices"),
        ({"masquerade": True}, "masquerade"),
        ({"devices": ["lo"], "masquerade": "yes"}, "masquerade"),
        ({"devices": ["lo"], "masquerade_exclude": ["10.0.0.1/8"]}, "masquerade_exclude"),
        ({"devices": ["lo"], "nat_ports": (0, 10)}, "nat_ports"),
        ({"devices": ["lo"], "nat_ports": (1024, 65000)}, "nat_ports"),
        ({"devices": ["lo"], "nat_ports": 1024}, "nat_ports"),
        ({"maglev_size": 1000}, "maglev size"),
    ],
)
def test_bad_options(node: NetNS, options: dict[str, Any], field: str) -> None:
    with pytest.raises(SpecError, match=field):
        node.run(lambda: Datapath.open(**options))


def test_kinds_for_clients_outside_need_devices(node: NetNS) -> None:
    service = ServiceLB("0.0.0.0:30080", backends=["10.1.0.10:80"], kind="NodePort")
    with node.run(Datapath.open) as dp, pytest.raises(SpecError, match=r"devices=\[") as caught:
        dp.services.apply([service])
    assert "kind" in caught.value.field


def test_explain_from_outside(lab: DeviceLab) -> None:
    told = str(lab.dp.explain(CLIENT[4], f"{NODE[4]}:30081/tcp"))
    assert "allowed" in told
    assert f"backend      {FAR[4]}:8080" in told
    assert f"nat          {NODE[4]}:" in told
    assert "route        by eth0" in told
    wall = lab.dp.explain(CLIENT[4], f"{VIP[4]}:81/tcp")
    assert not wall.allowed
    assert "this port is none of it" in str(wall)
    lost = str(lab.dp.explain(CLIENT[6], f"[{NODE[6]}]:30083/tcp"))
    assert "no route there" in lost
    assert "PCL_DROP_NO_ROUTE" in lost
    sysctl.write("net/ipv4/conf/eth0/forwarding", 0, ns=lab.node)
    assert "forwarding is off" in str(lab.dp.explain(CLIENT[4], f"{NODE[4]}:30081/tcp"))
    assert "PCL_TO_STACK" in str(lab.dp.explain(CLIENT[4], f"{NODE[4]}:22/tcp"))
    with pytest.raises(SpecError, match="source"):
        lab.dp.explain(CLIENT[4], f"[{NODE[6]}]:22/tcp")
    assert lab.connections(4) == 0


def test_status_names_devices_and_shared_ports(lab: DeviceLab) -> None:
    assert lab.dp.status().devices == f"eth0 ({NODE[4]}, {NODE[6]})"
    sysctl.write("net/ipv4/ip_local_port_range", "20000 40000", ns=lab.node)
    assert "ports 20000 to 29999 are also given" in lab.dp.status().devices


def test_an_address_that_comes_later(lab: DeviceLab) -> None:
    """It is the node's from the next apply on."""
    frame = lab.frame(CLIENT[4], "172.20.1.77") / TCP(sport=1, dport=30081, flags="S")
    before = lab.enter(frame)
    addresses.add("172.20.1.77/24", lab.device.index, ns=lab.node)
    lab.dp.policies.apply([])
    assert before.action != REDIRECT
    assert lab.enter(frame).action == REDIRECT
    addresses.remove("172.20.1.77/24", lab.device.index, ns=lab.node)
    lab.dp.policies.apply([])
    other = lab.frame(CLIENT[4], "172.20.1.77") / TCP(sport=2, dport=30081, flags="S")
    assert lab.enter(other).action != REDIRECT


def test_maglev_gives_every_node_the_same_answer(lab: DeviceLab) -> None:
    """The tables of two datapaths whose services have other numbers are equal slot by slot."""
    backends = [f"10.2.0.{n}:8080" for n in range(1, 8)]
    service = ServiceLB(f"{VIP[4]}:80", backends=backends, kind="LoadBalancer", algorithm="maglev")
    found = []
    for extra in ([], [ServiceLB(f"{VIP[4]}:81", backends=backends, kind="LoadBalancer")]):
        lab.dp.services.apply([])
        lab.dp.services.apply([*extra, service])
        chosen = []
        for sport in range(50):
            frame = lab.frame(CLIENT[4], VIP[4]) / TCP(sport=2000 + sport, dport=80, flags="S")
            chosen.append(lab.enter(frame).packet.payload.dst)
        found.append(chosen)
    assert found[0] == found[1]
    assert len(set(found[0])) > 3


def test_local_traffic_policy_counts_for_clients_outside_only(node: NetNS) -> None:
    lab = DeviceLab(node, node_name="n1")
    try:
        from pycilium import Backend

        far = Backend.parse(f"{FAR[4]}:8080")
        front = f"{ANY[4]}:30090"
        local = {"kind": "NodePort", "external_traffic_policy": "Local"}
        lab.dp.services.apply([ServiceLB(front, backends=[far], **local)])
        outside = lab.enter(lab.frame(CLIENT[4], NODE[4]) / TCP(sport=9, dport=30090, flags="S"))
        assert outside.action == SHOT
        assert outside.reason == lab.reasons.PCL_DROP_NO_BACKEND
        inside = lab.send(lab.pod_frame(NODE[4]) / TCP(sport=9, dport=30090, flags="S"))
        assert inside.packet.payload.dst == FAR[4]
        import attrs

        near = attrs.evolve(Backend.parse(f"{POD[4]}:8080"), node="n1")
        lab.dp.services.apply([ServiceLB(front, backends=[far, near], **local)])
        seen = set()
        for sport in range(100, 120):
            frame = lab.frame(CLIENT[4], NODE[4]) / TCP(sport=sport, dport=30090, flags="S")
            seen.add(lab.enter(frame).packet.payload.dst)
        assert seen == {POD[4]}
    finally:
        lab.close()


def test_a_pinned_datapath_goes_on_without_its_process(node: NetNS, bpffs: Path) -> None:
    lab = DeviceLab(node, masquerade=True, pin="edge", bpffs=bpffs)
    frame = lab.frame(CLIENT[4], NODE[4]) / TCP(sport=40000, dport=30081, flags="S")
    port = lab.enter(frame).packet[TCP].sport
    services = list(lab.dp.services)
    lab.dp.close()
    adopted = node.run(lambda: Datapath.adopt("edge", bpffs=bpffs))
    try:
        assert [one.name for one in adopted.devices] == ["eth0"]
        assert list(adopted.services) == services
        assert adopted.services.apply(services).entries == ()
        lab.dp = adopted
        again = lab.enter(lab.frame(CLIENT[4], NODE[4]) / TCP(sport=40000, dport=30081, flags="A"))
        assert again.packet[TCP].sport == port
        adopted.reload()
        again = lab.enter(lab.frame(CLIENT[4], NODE[4]) / TCP(sport=40000, dport=30081, flags="A"))
        assert again.packet[TCP].sport == port
        attached = links.get("eth0", ns=node)
        assert attached.index == lab.device.index
    finally:
        adopted.destroy()
