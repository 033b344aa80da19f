# SPDX-License-Identifier: Apache-2.0
"""Services for clients outside, and endpoints that leave under the node's address."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, ICMPerror, IPerror, TCPerror
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    IPerror6,
    IPv6,
    IPv6ExtHdrFragment,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from programs.device_lab import CLIENT, FAR, NODE, POD, ROUTER, ROUTER_MAC, VIP, DeviceLab
from programs.lab import SHOT, UNSPEC, Outcome, checksums_hold
from pycilium import Policy, ServiceLB
from pycilium.net import NetNS, sysctl

pytestmark = pytest.mark.root
REDIRECT = 7
FAMILIES = (4, 6)
LAYERS = {"tcp": TCP, "udp": UDP}


@pytest.fixture
def lab(node: NetNS) -> Iterator[DeviceLab]:
    lab = DeviceLab(node, masquerade=True, masquerade_exclude=["10.0.0.0/8", "fd10::/16"])
    yield lab
    lab.close()


def l4(protocol: str, sport: int, dport: int, **fields: Any) -> Packet:
    if protocol == "tcp":
        fields.setdefault("flags", "S")
    return LAYERS[protocol](sport=sport, dport=dport, **fields) / Raw(b"numbered")


def call(
    lab: DeviceLab,
    family: int,
    port: int,
    protocol: str = "tcp",
    *,
    sport: int = 40000,
    **more: Any,
) -> Outcome:
    frame = lab.frame(CLIENT[family], more.pop("to", NODE[family]))
    return lab.enter(frame / l4(protocol, sport, port, **more))


def ends(outcome: Outcome) -> tuple[str, int, str, int]:
    packet = outcome.packet
    ip = packet[IPv6] if IPv6 in packet else packet[IP]
    upper = packet[TCP] if TCP in packet else packet[UDP]
    return str(ip_address(ip.src)), upper.sport, str(ip_address(ip.dst)), upper.dport


@pytest.mark.parametrize("protocol", LAYERS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_local_backend_sees_the_client(lab: DeviceLab, family: int, protocol: str) -> None:
    there = call(lab, family, 30080, protocol)
    assert there.action == REDIRECT
    assert ends(there) == (CLIENT[family], 40000, POD[family], 8080)
    assert checksums_hold(there.data)
    assert there.packet.dst == lab.pod.mac
    back = lab.send(lab.pod_frame(CLIENT[family]) / l4(protocol, 8080, 40000, **answer(protocol)))
    assert back.action == REDIRECT
    assert ends(back) == (NODE[family], 30080, CLIENT[family], 40000)
    assert back.packet.dst == ROUTER_MAC
    assert checksums_hold(back.data)


def answer(protocol: str) -> dict[str, str]:
    return {"flags": "SA"} if protocol == "tcp" else {}


@pytest.mark.parametrize("protocol", LAYERS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_backend_elsewhere_sees_the_node(lab: DeviceLab, family: int, protocol: str) -> None:
    there = call(lab, family, 30081, protocol)
    assert there.action == REDIRECT
    source, port, destination, service = ends(there)
    assert (source, destination, service) == (NODE[family], FAR[family], 8080)
    assert 1024 <= port <= 29999
    assert there.packet.dst == ROUTER_MAC
    assert checksums_hold(there.data)
    frame = lab.frame(FAR[family], NODE[family])
    back = lab.enter(frame / l4(protocol, 8080, port, **answer(protocol)))
    assert ends(back) == (NODE[family], 30081, CLIENT[family], 40000)
    assert back.action == REDIRECT
    assert checksums_hold(back.data)
    again = call(lab, family, 30081, protocol, **({"flags": "A"} if protocol == "tcp" else {}))
    assert ends(again)[1] == port


@pytest.mark.parametrize("family", FAMILIES)
def test_the_node_itself_is_a_backend(lab: DeviceLab, family: int) -> None:
    there = call(lab, family, 30082)
    assert there.action == UNSPEC
    assert ends(there) == (CLIENT[family], 40000, NODE[family], 8080)
    back = lab.frame(NODE[family], CLIENT[family]) / TCP(sport=8080, dport=40000, flags="SA")
    left = lab.leave(back)
    assert ends(left) == (NODE[family], 30082, CLIENT[family], 40000)
    assert left.action == UNSPEC
    assert checksums_hold(left.data)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_hop_is_counted(lab: DeviceLab, family: int) -> None:
    frame = lab.frame(CLIENT[family], NODE[family])
    ip = frame[IP] if family == 4 else frame[IPv6]
    setattr(ip, "ttl" if family == 4 else "hlim", 1)
    outcome = lab.enter(frame / l4("tcp", 40000, 30081))
    assert outcome.reason == lab.reasons.PCL_DROP_TTL


def test_what_is_no_service_is_not_touched(lab: DeviceLab) -> None:
    for packet in (
        lab.frame(CLIENT[4], NODE[4]) / l4("tcp", 40000, 22),
        lab.frame(CLIENT[4], POD[4]) / l4("tcp", 40000, 8080),
        lab.frame(CLIENT[4], NODE[4]) / ICMP(),
        lab.frame(CLIENT[4], VIP[4]) / ICMP(),
        lab.frame(CLIENT[4], NODE[4]) / ICMP(type=3, code=4) / IP(src=NODE[4], dst=FAR[4]) / TCP(),
    ):
        outcome = lab.enter(packet)
        assert (outcome.action, outcome.reason, outcome.data) == (UNSPEC, -1, bytes(packet))


def test_other_ports_of_a_services_address_are_refused(lab: DeviceLab) -> None:
    for family in FAMILIES:
        outcome = call(lab, family, 81, to=VIP[family])
        assert outcome.action == SHOT
        assert outcome.reason == lab.reasons.PCL_DROP_PORT
        assert call(lab, family, 80, to=VIP[family]).action == REDIRECT
    lab.dp.services.apply([])
    assert call(lab, 4, 81, to=VIP[4], sport=1).action == UNSPEC


def test_without_a_route_to_the_backend(lab: DeviceLab) -> None:
    outcome = call(lab, 4, 30083)
    assert outcome.reason == lab.reasons.PCL_DROP_NO_ROUTE
    assert lab.connections(4) == 0


def test_larger_than_the_way_out(lab: DeviceLab) -> None:
    from pycilium.net import links

    links.set_mtu(lab.device.index, 1300, ns=lab.node)
    assert call(lab, 4, 30081).action == REDIRECT
    frame = lab.frame(CLIENT[4], NODE[4]) / TCP(sport=40000, dport=30081, flags="A")
    outcome = lab.enter(frame / Raw(bytes(1400)))
    assert outcome.reason == lab.reasons.PCL_DROP_TOO_BIG


def test_a_spoofed_endpoint_is_no_client(lab: DeviceLab) -> None:
    frame = lab.frame(POD[4], NODE[4]) / l4("tcp", 40000, 30081)
    assert lab.enter(frame).reason == lab.reasons.PCL_DROP_SOURCE_IP


def test_policy_of_a_local_backend_holds(lab: DeviceLab) -> None:
    inside = Policy.allow(to="app=web", from_="192.0.2.0/24", ports="8080/tcp")
    lab.dp.policies.apply([inside])
    assert call(lab, 4, 30080).reason == lab.reasons.PCL_DROP_POLICY
    opened = Policy.allow(to="app=web", from_=f"{CLIENT[4]}/32", ports="8080/tcp")
    lab.dp.policies.apply([opened])
    assert call(lab, 4, 30080).action == REDIRECT
    lab.dp.policies.apply([inside])
    assert call(lab, 4, 30080, flags="A").reason == lab.reasons.PCL_DROP_POLICY


def test_source_ranges_hold_for_clients_outside(lab: DeviceLab) -> None:
    backends = [f"{POD[4]}:8080", f"{FAR[4]}:8080"]
    ranges = ServiceLB(
        f"{VIP[4]}:80", backends=backends, kind="LoadBalancer", source_ranges=["192.0.2.0/24"]
    )
    lab.dp.services.apply([ranges])
    assert call(lab, 4, 80, to=VIP[4]).reason == lab.reasons.PCL_DROP_SOURCE_RANGE


@pytest.mark.parametrize("port", [30081, 30080])
def test_a_backend_that_has_left_is_not_heard(lab: DeviceLab, port: int) -> None:
    first = ends(call(lab, 4, port))
    lab.dp.services.apply([])
    if port == 30081:
        back = lab.enter(lab.frame(FAR[4], NODE[4]) / TCP(sport=8080, dport=first[1], flags="A"))
    else:
        back = lab.send(lab.pod_frame(CLIENT[4]) / TCP(sport=8080, dport=40000, flags="A"))
    assert back.reason == lab.reasons.PCL_DROP_BACKEND_GONE


# Path MTU and other errors.


@pytest.mark.parametrize("family", FAMILIES)
def test_a_router_behind_tells_the_client(lab: DeviceLab, family: int) -> None:
    there = call(lab, family, 30081)
    quoted = there.packet[IP] if family == 4 else there.packet[IPv6]
    told = lab.enter(too_big(lab, family, ROUTER[family], bytes(quoted)))
    assert told.action == REDIRECT
    ip = told.packet[IP] if family == 4 else told.packet[IPv6]
    assert str(ip_address(ip.dst)) == CLIENT[family]
    inner, upper = quote(told, family)
    assert str(ip_address(inner.src)) == CLIENT[family]
    assert str(ip_address(inner.dst)) == NODE[family]
    assert (upper.sport, upper.dport) == (40000, 30081)
    assert icmp_checksum_holds(told, family)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_router_before_tells_the_backend(lab: DeviceLab, family: int) -> None:
    port = ends(call(lab, family, 30081))[1]
    back = lab.enter(lab.frame(FAR[family], NODE[family]) / l4("tcp", 8080, port, flags="SA"))
    quoted = back.packet[IP] if family == 4 else back.packet[IPv6]
    told = lab.enter(too_big(lab, family, ROUTER[family], bytes(quoted)))
    ip = told.packet[IP] if family == 4 else told.packet[IPv6]
    assert str(ip_address(ip.dst)) == FAR[family]
    inner, upper = quote(told, family)
    assert str(ip_address(inner.src)) == FAR[family]
    assert str(ip_address(inner.dst)) == NODE[family]
    assert (upper.sport, upper.dport) == (8080, port)
    assert icmp_checksum_holds(told, family)


def too_big(lab: DeviceLab, family: int, router: str, quoted: bytes) -> Packet:
    frame = lab.frame(router, NODE[family])
    if family == 4:
        return frame / ICMP(type=3, code=4, nexthopmtu=1200) / Raw(quoted)
    return frame / ICMPv6PacketTooBig(mtu=1280) / Raw(quoted)


def quote(outcome: Outcome, family: int) -> tuple[Any, Any]:
    packet = outcome.packet
    if family == 4:
        return packet[IPerror], packet[TCPerror]
    return packet[IPerror6], packet[TCPerror]


def icmp_checksum_holds(outcome: Outcome, family: int) -> bool:
    fresh = outcome.packet
    if family == 4:
        del fresh[ICMP].chksum
        del fresh[IP].chksum
        del fresh[IPerror].chksum
    else:
        del fresh[ICMPv6PacketTooBig].cksum
    return bytes(fresh) == outcome.data


@pytest.mark.parametrize("family", FAMILIES)
def test_fragments_follow_the_first(lab: DeviceLab, family: int) -> None:
    data = bytes(range(256)) * 8
    datagram = lab.frame(CLIENT[family], NODE[family]) / UDP(sport=40000, dport=30081) / Raw(data)
    if family == 4:
        datagram[IP].id = 77
        ether = Ether(src=ROUTER_MAC, dst=lab.device.mac)
        parts = [ether / one for one in datagram[IP].fragment(fragsize=1000)]
    else:
        raw = bytes(UDP(sport=40000, dport=30081, len=len(data) + 8) / Raw(data))
        first, second = raw[:1000], raw[1000:]
        base = lab.frame(CLIENT[6], NODE[6])
        parts = [
            base / IPv6ExtHdrFragment(nh=17, m=1, offset=0, id=9) / Raw(first),
            base / IPv6ExtHdrFragment(nh=17, m=0, offset=125, id=9) / Raw(second),
        ]
    sent = [lab.enter(one) for one in parts]
    assert {one.action for one in sent} == {REDIRECT}
    for one in sent:
        ip = one.packet[IP] if family == 4 else one.packet[IPv6]
        assert str(ip_address(ip.src)) == NODE[family]
        assert str(ip_address(ip.dst)) == FAR[family]


# Masquerading.


@pytest.mark.parametrize("protocol", LAYERS)
@pytest.mark.parametrize("family", FAMILIES)
def test_endpoints_leave_under_the_nodes_address(
    lab: DeviceLab, family: int, protocol: str
) -> None:
    out = lab.send(lab.pod_frame(CLIENT[family]) / l4(protocol, 5555, 443))
    source, port, destination, service = ends(out)
    assert (source, destination, service) == (NODE[family], CLIENT[family], 443)
    assert out.action == REDIRECT
    assert checksums_hold(out.data)
    frame = lab.frame(CLIENT[family], NODE[family])
    back = lab.enter(frame / l4(protocol, 443, port, **answer(protocol)))
    assert ends(back) == (CLIENT[family], 443, POD[family], 5555)
    assert (back.action, back.packet.dst) == (REDIRECT, lab.pod.mac)
    assert checksums_hold(back.data)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_ping_is_masqueraded_by_its_identifier(lab: DeviceLab, family: int) -> None:
    request, reply = (
        (ICMP(id=7, seq=1), lambda number: ICMP(type=0, id=number, seq=1))
        if family == 4
        else (ICMPv6EchoRequest(id=7, seq=1), lambda number: ICMPv6EchoReply(id=number, seq=1))
    )
    out = lab.send(lab.pod_frame(CLIENT[family]) / request / Raw(b"x"))
    echo = out.packet[ICMP] if family == 4 else out.packet[ICMPv6EchoRequest]
    ip = out.packet[IP] if family == 4 else out.packet[IPv6]
    assert str(ip_address(ip.src)) == NODE[family]
    assert checksums_hold(out.data)
    back = lab.enter(lab.frame(CLIENT[family], NODE[family]) / reply(echo.id) / Raw(b"x"))
    ip = back.packet[IP] if family == 4 else back.packet[IPv6]
    answered = back.packet[ICMP] if family == 4 else back.packet[ICMPv6EchoReply]
    assert (str(ip_address(ip.dst)), answered.id) == (POD[family], 7)
    assert checksums_hold(back.data)


def test_a_ping_that_is_too_big_is_told(lab: DeviceLab) -> None:
    out = lab.send(lab.pod_frame(CLIENT[4]) / ICMP(id=7, seq=1) / Raw(b"x" * 32))
    told = lab.enter(too_big(lab, 4, ROUTER[4], bytes(out.packet[IP])))
    assert told.packet[IP].dst == POD[4]
    assert told.packet[IPerror].src == POD[4]
    assert told.packet[ICMPerror].id == 7
    assert icmp_checksum_holds(told, 4)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_excluded_keeps_its_address(lab: DeviceLab, family: int) -> None:
    for destination in (FAR[family], NODE[family]):
        packet = lab.pod_frame(destination) / l4("tcp", 5555, 443)
        outcome = lab.send(packet)
        assert (outcome.action, outcome.data) == (UNSPEC, bytes(packet))


def test_an_answer_that_nobody_asked_for_is_the_stacks(lab: DeviceLab) -> None:
    port = ends(lab.send(lab.pod_frame(CLIENT[4]) / l4("tcp", 5555, 443)))[1]
    for wrong in (
        lab.frame(CLIENT[4], NODE[4]) / TCP(sport=444, dport=port, flags="SA"),
        lab.frame(FAR[4], NODE[4]) / TCP(sport=443, dport=port, flags="SA"),
    ):
        assert lab.enter(wrong).action == UNSPEC


def test_the_node_needs_forwarding(lab: DeviceLab) -> None:
    sysctl.write("net/ipv4/conf/eth0/forwarding", 0, ns=lab.node)
    assert call(lab, 4, 30081).reason == lab.reasons.PCL_DROP_NO_ROUTE


# Ports.


@pytest.fixture
def narrow(node: NetNS) -> Iterator[DeviceLab]:
    """200 ports."""
    lab = DeviceLab(node, masquerade=True, nat_ports=(2000, 2199))
    yield lab
    lab.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_port_serves_one_flow_until_all_are_taken(narrow: DeviceLab, family: int) -> None:
    seen = set()
    for sport in range(200):
        seen.add(ends(call(narrow, family, 30081, sport=40000 + sport))[1])
    assert seen == set(range(2000, 2200))
    refused = call(narrow, family, 30081, sport=50000)
    assert refused.action == SHOT
    assert refused.reason == narrow.reasons.PCL_DROP_NAT_FULL
    other = narrow.enter(
        narrow.frame(CLIENT[family], VIP[family]) / l4("udp", 40000, 80)
    )  # the same ports towards another end
    assert other.action == REDIRECT


def test_ports_come_back_when_their_connections_end(narrow: DeviceLab) -> None:
    ports = [ends(call(narrow, 4, 30081, sport=40000 + n))[1] for n in range(200)]
    assert call(narrow, 4, 30081, sport=50000).reason == narrow.reasons.PCL_DROP_NAT_FULL
    table = narrow.dp.object.maps["pcl_ct4"]
    ended = {2000 + n for n in range(0, 200, 7)}
    assert ended <= set(ports)
    for key, value in list(table.pairs()):
        numbers = {int.from_bytes(one.to_bytes(2, "little"), "big")
                   for one in (key.low_port_be, key.high_port_be)}  # fmt: skip
        if numbers & ended:
            table.update(
                [(key, {**fields(value), "last_seen": (value.last_seen - 100_000) % 2**32})]
            )
    taken = []
    for n in range(4 * len(ended)):
        outcome = call(narrow, 4, 30081, sport=51000 + n)
        if outcome.action == REDIRECT:
            taken.append(ends(outcome)[1])
    assert sorted(taken) == sorted(ended)


def fields(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value._fields}


def test_a_client_that_comes_again_is_not_mixed_up(lab: DeviceLab) -> None:
    first = ends(call(lab, 4, 30081))[1]
    fin = call(lab, 4, 30081, flags="FA")
    assert ends(fin)[1] == first
    second = ends(call(lab, 4, 30081))[1]
    assert second != first
    late = lab.enter(lab.frame(FAR[4], NODE[4]) / TCP(sport=8080, dport=second, flags="SA"))
    assert ends(late)[2:] == (CLIENT[4], 40000)


def test_each_direction_keeps_the_other_alive(lab: DeviceLab) -> None:
    """A stream one way does not let the entry of the other way grow old."""
    port = ends(call(lab, 4, 30081, "udp"))[1]
    table = lab.dp.object.maps["pcl_ct4"]
    for key, value in list(table.pairs()):
        aged = {**fields(value), "last_seen": (value.last_seen - 10_000) % 2**32,
                "twin_seen": (value.twin_seen - 10_000) % 2**32}  # fmt: skip
        table.update([(key, aged)])
    assert ends(call(lab, 4, 30081, "udp"))[1] == port
    seen = [value.last_seen for _, value in table.pairs()]
    assert len(seen) == 2
    assert seen[0] == seen[1]


@pytest.mark.parametrize("port", [30080, 30081])
def test_a_connection_that_was_answered_at_once_may_be_idle(lab: DeviceLab, port: int) -> None:
    """Handshake within a second, then silence for longer than a handshake may take."""
    first = ends(call(lab, 4, port))
    if port == 30081:
        lab.enter(lab.frame(FAR[4], NODE[4]) / l4("tcp", 8080, first[1], flags="SA"))
    else:
        lab.send(lab.pod_frame(CLIENT[4]) / l4("tcp", 8080, 40000, flags="SA"))
    call(lab, 4, port, flags="A")
    answered = int(lab.dp._core.spec.enums["pcl_ct_flags"].PCL_CT_REPLIED)
    table = lab.dp.object.maps["pcl_ct4"]
    assert [value.flags & answered for _, value in table.pairs()] == [answered, answered]
