# SPDX-License-Identifier: Apache-2.0
"""The balancer's program, packet by packet: action, reason, packet out, checksums."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator

import attrs
import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NS,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.layers.sctp import SCTP
from scapy.packet import Packet, Raw

from programs import xdp_lab as lab_module
from programs.xdp_lab import (
    ANY_VIP,
    CLIENT,
    CLIENT6,
    CLIENT_MAC,
    EMPTY_VIP,
    L2_UNRESOLVED_VIP,
    L2_VIP,
    L2_VIP6,
    LOST_VIP,
    SERVICES,
    SETTINGS,
    SOURCE_VIP,
    UDP_VIP,
    UNRESOLVED_VIP,
    VIP,
    VIP6,
    Lab,
    checksums_hold,
    mac_of,
    opened,
    service,
)
from pycilium.datapath.xdp_settings import VipSettings
from pycilium.datapath.xdp_tester import Action, Fixture, MismatchError
from pycilium.net import NetNS

pytestmark = pytest.mark.root
ALONE = {SERVICES[0].frontend: SETTINGS[SERVICES[0].frontend]}


@pytest.fixture
def lab(node: NetNS) -> Iterator[Lab]:
    with opened(node) as made:
        yield made


def quote4(port: int = 80, vip: str = VIP) -> Packet:
    """What a router on the way back quotes: VIP to client."""
    return IP(src=vip, dst=CLIENT) / TCP(sport=port, dport=4444)


def quote6(port: int = 80, vip: str = VIP6) -> Packet:
    return IPv6(src=vip, dst=CLIENT6) / TCP(sport=port, dport=4444)


@attrs.frozen
class Case:
    name: str
    packet: Callable[[Lab], Packet]
    action: Action
    reason: str


def case(name: str, action: str, reason: str, packet: Callable[[Lab], Packet]) -> Case:
    return Case(name, packet, Action[action], f"PCL_XDP_{reason}")


BIG = Raw(bytes(1470))
CASES = [
    case("tcp", "TX", "FORWARDED", lambda s: s.frame() / TCP(dport=80)),
    case("tcp ack", "TX", "FORWARDED", lambda s: s.frame() / TCP(dport=80, flags="A")),
    case("udp", "TX", "FORWARDED", lambda s: s.frame() / UDP(dport=53)),
    case("sctp", "TX", "FORWARDED", lambda s: s.frame() / SCTP(dport=90)),
    case("tcp6", "TX", "FORWARDED", lambda s: s.frame(to=VIP6) / TCP(dport=80)),
    case("udp6", "TX", "FORWARDED", lambda s: s.frame(to=VIP6) / UDP(dport=53)),
    case("any port", "TX", "FORWARDED", lambda s: s.frame(to=ANY_VIP) / TCP(dport=7)),
    case("any port, udp", "DROP", "DROP_PORT", lambda s: s.frame(to=ANY_VIP) / UDP(dport=7)),
    case("ring only", "TX", "FORWARDED", lambda s: s.frame(to=UDP_VIP) / UDP(dport=53)),
    case("l2", "TX", "FORWARDED", lambda s: s.frame(to=L2_VIP) / TCP(dport=80)),
    case("l2, v6", "TX", "FORWARDED", lambda s: s.frame(to=L2_VIP6) / TCP(dport=80)),
    case("arp", "PASS", "PASS_NOT_IP", lambda s: Ether(dst=s.mac) / ARP()),
    case("vlan", "PASS", "PASS_NOT_IP", lambda s: Ether(dst=s.mac) / Dot1Q(vlan=5) / IP(dst=VIP)),
    case("not a vip", "PASS", "PASS_NOT_VIP", lambda s: s.frame(to="192.0.2.99") / TCP(dport=80)),
    case("not a vip, v6", "PASS", "PASS_NOT_VIP", lambda s: s.frame(to="2001:db8::9") / UDP()),
    case("other's fragment", "PASS", "PASS_NOT_VIP",
         lambda s: s.frame(to="192.0.2.99", frag=3) / Raw(b"x" * 64)),
    case("other's gre", "PASS", "PASS_NOT_VIP", lambda s: s.frame(to="192.0.2.99", proto=47)),
    case("other's ping", "PASS", "PASS_NOT_VIP", lambda s: s.frame(to="192.0.2.99") / ICMP()),
    case("port", "DROP", "DROP_PORT", lambda s: s.frame() / TCP(dport=81)),
    case("port6", "DROP", "DROP_PORT", lambda s: s.frame(to=VIP6) / TCP(dport=81)),
    case("no backend", "DROP", "DROP_NO_BACKEND", lambda s: s.frame(to=EMPTY_VIP) / TCP(dport=80)),
    case("gre", "DROP", "DROP_L4_PROTOCOL", lambda s: s.frame(proto=47) / Raw(b"x" * 20)),
    case("gre6", "DROP", "DROP_L4_PROTOCOL", lambda s: s.frame(to=VIP6, nh=47) / Raw(b"x" * 20)),
    case("options", "DROP", "DROP_IP_OPTIONS",
         lambda s: s.frame(options=IPOption(b"\x83\x03\x10")) / TCP(dport=80)),
    case("first fragment", "DROP", "DROP_FRAGMENT", lambda s: s.frame(flags="MF") / UDP(dport=53)),
    case("fragment", "DROP", "DROP_FRAGMENT", lambda s: s.frame(frag=9, proto=17) / Raw(b"x" * 9)),
    case("fragment6", "DROP", "DROP_FRAGMENT",
         lambda s: s.frame(to=VIP6) / IPv6ExtHdrFragment(m=1) / UDP(dport=53)),
    case("hop by hop", "DROP", "DROP_IPV6_EXTENSION",
         lambda s: s.frame(to=VIP6) / IPv6ExtHdrHopByHop() / UDP(dport=53)),
    case("destination options", "DROP", "DROP_IPV6_EXTENSION",
         lambda s: s.frame(to=VIP6) / IPv6ExtHdrDestOpt() / UDP(dport=53)),
    case("ttl 1", "DROP", "DROP_TTL", lambda s: s.frame(ttl=1) / TCP(dport=80)),
    case("hop limit 1", "DROP", "DROP_TTL", lambda s: s.frame(to=VIP6, hlim=1) / TCP(dport=80)),
    case("ihl 4", "DROP", "DROP_INVALID", lambda s: s.frame(ihl=4) / TCP(dport=80)),
    case("version 5", "DROP", "DROP_INVALID", lambda s: s.frame(version=5) / TCP(dport=80)),
    case("version 4 as 6", "DROP", "DROP_INVALID", lambda s: s.frame(to=VIP6, version=4) / TCP()),
    case("longer than it is", "DROP", "DROP_INVALID", lambda s: s.frame(len=900) / TCP(dport=80)),
    case("shorter than tcp", "DROP", "DROP_INVALID", lambda s: s.frame(len=39) / TCP(dport=80)),
    case("payload too long", "DROP", "DROP_INVALID", lambda s: s.frame(to=VIP6, plen=99) / TCP()),
    case("ping", "TX", "ECHO_REPLY", lambda s: s.frame() / ICMP(id=7, seq=9) / Raw(b"hello")),
    case("ping6", "TX", "ECHO_REPLY", lambda s: s.frame(to=VIP6) / ICMPv6EchoRequest(data=b"hey")),
    case("echo reply", "DROP", "DROP_ICMP_UNRELATED", lambda s: s.frame() / ICMP(type=0)),
    case("echo reply6", "DROP", "DROP_ICMP_UNRELATED",
         lambda s: s.frame(to=VIP6) / ICMPv6EchoReply()),
    case("solicitation", "PASS", "PASS_NOT_VIP",
         lambda s: s.frame(to=VIP6) / ICMPv6ND_NS(tgt=VIP6)),
    case("unreachable", "TX", "FORWARDED", lambda s: s.frame() / ICMP(type=3, code=4) / quote4()),
    case("time exceeded", "TX", "FORWARDED", lambda s: s.frame() / ICMP(type=11) / quote4()),
    case("too big6", "TX", "FORWARDED",
         lambda s: s.frame(to=VIP6) / ICMPv6PacketTooBig(mtu=1280) / quote6()),
    case("unreachable6", "TX", "FORWARDED",
         lambda s: s.frame(to=VIP6) / ICMPv6DestUnreach() / quote6()),
    case("about a stranger", "DROP", "DROP_ICMP_UNRELATED",
         lambda s: s.frame() / ICMP(type=3) / quote4(vip="192.0.2.99")),
    case("about a stranger6", "DROP", "DROP_ICMP_UNRELATED",
         lambda s: s.frame(to=VIP6) / ICMPv6DestUnreach() / quote6(vip="2001:db8::99")),
    case("about another port", "DROP", "DROP_PORT",
         lambda s: s.frame() / ICMP(type=3) / quote4(port=81)),
    case("quotes nothing", "DROP", "DROP_INVALID", lambda s: s.frame() / ICMP(type=3)),
    case("quotes nothing6", "DROP", "DROP_INVALID",
         lambda s: s.frame(to=VIP6) / ICMPv6DestUnreach()),
    case("too big, df", "TX", "SENT_TOO_BIG",
         lambda s: s.frame(flags="DF") / UDP(dport=53, sport=9) / BIG),
    case("too big, v6", "TX", "SENT_TOO_BIG", lambda s: s.frame(to=VIP6) / UDP(dport=53) / BIG),
    case("too big, may be cut", "PASS", "PASS_FRAGMENT", lambda s: s.frame() / UDP(dport=53) / BIG),
    case("unresolved", "PASS", "PASS_RESOLVE",
         lambda s: s.frame(to=UNRESOLVED_VIP) / TCP(dport=80)),
    case("unresolved, l2", "DROP", "DROP_RESOLVE",
         lambda s: s.frame(to=L2_UNRESOLVED_VIP) / TCP(dport=80)),
    case("no route", "DROP", "DROP_NO_ROUTE", lambda s: s.frame(to=LOST_VIP) / TCP(dport=80)),
    case("l2, too big", "DROP", "DROP_TOO_BIG",
         lambda s: s.frame(to=L2_VIP) / TCP(dport=80) / Raw(bytes(1490))),
]  # fmt: skip


def test_every_packet_has_its_reason(lab: Lab) -> None:
    """One balancer for the table: each case's flow is its own."""
    failed = []
    for number, one in enumerate(CASES):
        packet = one.packet(lab)
        for layer in (TCP, UDP):
            if layer in packet and packet[layer].sport in (20, 53):
                packet[layer].sport = 10_000 + number
        packet = Ether(bytes(packet))
        (result,) = lab.balancer.test(
            [Fixture(packet, action=one.action, reason=one.reason, name=one.name)]
        )
        if result.mismatches:
            failed.append(str(result))
        if result.action == Action.TX and not checksums_hold(result.output):
            failed.append(f"{one.name}: checksums")
    assert not failed
    seen = {one.reason for one in CASES}
    names = {r.name for r in lab.balancer._core.spec.enums["pcl_xdp_reason"]}
    assert names - seen == {
        "PCL_XDP_PASS_PORT",  # test_unknown_ports_may_be_the_hosts
        "PCL_XDP_DROP_WRITE",  # no room before the packet: not to be had from here
        "PCL_XDP_DROP_TARGET_GONE",  # test_a_void_row_is_not_used
        "PCL_XDP_REASON_MAX",
    }


def test_the_tunnel_is_rfc_2003s(lab: Lab) -> None:
    inner = lab.frame(ttl=9, tos=0xB9, id=77, flags="DF") / TCP(sport=5, dport=80) / b"payload"
    out = Ether(lab.send(inner).output)
    outer = out[IP]
    assert (outer.proto, outer.ttl, outer.tos, outer.id) == (4, 64, 0xB9, 77)
    assert str(outer.flags) == "DF"
    assert outer.src.startswith("172.16.")
    assert outer.dst in lab_module.FOUR
    assert out.dst == mac_of(int(outer.dst.rpartition(".")[2]))
    assert out.src == lab.mac
    assert outer.len == outer.payload.len + 20
    wanted = IP(bytes(inner[IP]))
    wanted.ttl = 8
    del wanted.chksum
    assert bytes(outer.payload) == bytes(wanted)


def test_the_tunnel_is_rfc_2473s(lab: Lab) -> None:
    inner = lab.frame(to=VIP6, hlim=9, tc=0xB9, fl=77) / TCP(sport=5, dport=80) / b"payload"
    out = Ether(lab.send(inner).output)
    outer = out[IPv6]
    assert (outer.nh, outer.hlim, outer.tc, outer.fl) == (41, 64, 0xB9, 77)
    assert outer.src.startswith("100::")
    assert outer.dst in lab_module.SIX
    assert outer.plen == outer.payload.plen + 40
    wanted = IPv6(bytes(inner[IPv6]))
    wanted.hlim = 8
    assert bytes(outer.payload) == bytes(wanted)


def test_outer_sources_spread(lab: Lab) -> None:
    for vip, layer in ((VIP, IP), (VIP6, IPv6)):
        sources = {
            Ether(lab.send(lab.frame(to=vip) / TCP(sport=port, dport=80)).output)[layer].src
            for port in range(2000, 2100)
        }
        assert len(sources) > 90


def test_l2_changes_only_the_macs(lab: Lab) -> None:
    packet = lab.frame(to=L2_VIP, ttl=1) / TCP(sport=5, dport=80)
    out = Ether(lab.send(packet).output)
    assert out.dst in {mac_of(2), mac_of(3)}
    assert bytes(out[IP]) == bytes(packet[IP])


def test_the_error_that_a_client_gets(lab: Lab) -> None:
    sent = lab.frame(flags="DF") / UDP(sport=9, dport=53) / BIG
    out = Ether(lab.send(sent).output)
    assert (out.dst, out.src) == (CLIENT_MAC, lab.mac)
    assert (out[IP].src, out[IP].dst, out[IP].len) == (VIP, CLIENT, 56)
    assert (out[ICMP].type, out[ICMP].code, out[ICMP].nexthopmtu) == (3, 4, 1480)
    assert bytes(out[ICMP].payload) == bytes(sent[IP])[:28]
    sent = lab.frame(to=VIP6) / UDP(sport=9, dport=53) / BIG
    out = Ether(lab.send(sent).output)
    assert (out[IPv6].src, out[IPv6].dst) == (VIP6, CLIENT6)
    assert out[ICMPv6PacketTooBig].mtu == 1460
    assert bytes(out[ICMPv6PacketTooBig].payload) == bytes(sent[IPv6])[:48]


def test_an_error_goes_where_its_flow_went(lab: Lab) -> None:
    lab.balancer.set_weight(SERVICES[0], "10.0.0.3:80", 0)
    flow = lab.frame() / TCP(sport=4444, dport=80)
    assert lab.backend(flow) == "10.0.0.2"
    lab.balancer.set_weight(SERVICES[0], "10.0.0.3:80", 1)
    lab.balancer.set_weight(SERVICES[0], "10.0.0.2:80", 0)
    assert lab.backend(lab.frame() / ICMP(type=3, code=4) / quote4()) == "10.0.0.2"
    flow6 = lab.frame(to=VIP6) / TCP(sport=4444, dport=80)
    assert lab.backend(flow6) == lab.backend(
        lab.frame(source="fd00::77", to=VIP6) / ICMPv6PacketTooBig(mtu=1280) / quote6()
    )


def test_weight_zero_drains(lab: Lab) -> None:
    flows = [lab.frame() / TCP(sport=port, dport=80, flags="A") for port in range(3000, 3100)]
    before = [lab.backend(flow) for flow in flows]
    assert Counter(before).keys() == set(lab_module.FOUR)
    lab.balancer.set_weight(SERVICES[0], "10.0.0.3:80", 0)
    assert [lab.backend(flow) for flow in flows] == before
    new = [lab.backend(lab.frame() / TCP(sport=port, dport=80)) for port in range(4000, 4050)]
    assert set(new) == {"10.0.0.2"}
    lab.balancer.set_weight(SERVICES[0], "10.0.0.2:80", 0)
    refused = lab.send(lab.frame() / TCP(sport=9, dport=80))
    assert refused.reason == "PCL_XDP_DROP_NO_BACKEND"
    assert [lab.backend(flow) for flow in flows] == before


def test_a_port_that_is_used_again_is_a_new_flow(lab: Lab) -> None:
    port = next(
        p for p in range(3000, 3100)
        if lab.backend(lab.frame() / TCP(sport=p, dport=80)) == "10.0.0.3"
    )  # fmt: skip
    lab.balancer.set_weight(SERVICES[0], "10.0.0.3:80", 0)
    assert lab.backend(lab.frame() / TCP(sport=port, dport=80, flags="A")) == "10.0.0.3"
    assert lab.backend(lab.frame() / TCP(sport=port, dport=80, flags="S")) == "10.0.0.2"
    assert lab.backend(lab.frame() / TCP(sport=port, dport=80, flags="A")) == "10.0.0.2"


def test_a_backend_that_is_gone_gets_nothing(lab: Lab) -> None:
    flows = [lab.frame() / TCP(sport=port, dport=80, flags="A") for port in range(3000, 3100)]
    before = [lab.backend(flow) for flow in flows]
    changed = [service(VIP, "10.0.0.2"), *SERVICES[1:]]
    lab.balancer.services.apply(changed, settings=SETTINGS)
    assert {lab.backend(flow) for flow in flows} == {"10.0.0.2"}
    lab.balancer.services.apply(SERVICES, settings=SETTINGS)
    again = [lab.backend(flow) for flow in flows]
    assert again == ["10.0.0.2"] * len(flows), "flows that moved stay where they are"
    assert set(before) == set(lab_module.FOUR)


def test_a_row_that_is_used_again_takes_no_old_flow(node: NetNS) -> None:
    """As many changes as there are rows, so that every row is another backend's."""
    with opened(node) as lab:
        flow = lab.frame() / TCP(sport=3000, dport=80, flags="A")
        first = lab.backend(flow)
        for i in range(64):
            other = f"10.0.0.{4 + i % 6}"
            lab.balancer.services.apply([service(VIP, other)], settings=ALONE)
            assert lab.backend(flow) == other
        assert first not in {f"10.0.0.{i}" for i in range(4, 10)}


def test_a_void_row_is_not_used(lab: Lab) -> None:
    """What a packet under way may see between two writes."""
    vip = lab.balancer.services.find(SERVICES[0])
    rows = lab.balancer._core.maps["pcl_xdp_backends"]
    for member in vip.members.values():
        row = rows[member.index]._asdict()
        rows[member.index] = {**row, "addr": row["addr"].bytes, "generation": 99}
    result = lab.send(lab.frame() / TCP(dport=80))
    assert (result.action, result.reason) == (Action.DROP, "PCL_XDP_DROP_TARGET_GONE")


def test_hash_by_source(lab: Lab) -> None:
    one = {lab.backend(lab.frame(to=SOURCE_VIP) / TCP(sport=p, dport=80)) for p in range(50)}
    assert len(one) == 1
    clients = {
        lab.backend(lab.frame(source=f"198.51.100.{i}", to=SOURCE_VIP) / TCP(dport=80))
        for i in range(50)
    }
    assert len(clients) == 8


def test_a_vip_without_flows_remembers_none(lab: Lab) -> None:
    lab.send(lab.frame(to=UDP_VIP) / UDP(sport=5, dport=53))
    assert lab.balancer.status().maps["pcl_xdp_flows4"].used == 0
    lab.send(lab.frame() / UDP(sport=5, dport=53))
    assert lab.balancer.status().maps["pcl_xdp_flows4"].used == 1


def test_unknown_ports_may_be_the_hosts(node: NetNS) -> None:
    with opened(node, unknown_ports="pass") as lab:
        result = lab.send(lab.frame() / TCP(dport=81))
        assert (result.action, result.reason) == (Action.PASS, "PCL_XDP_PASS_PORT")


def test_a_flood_of_new_flows_is_not_remembered(node: NetNS) -> None:
    with opened(node, new_flows=1) as lab:
        packet = bytes(lab.frame() / TCP(sport=5, dport=80))
        for _ in range(50):
            for port in range(40):
                lab.send(packet[:34] + port.to_bytes(2, "big") + packet[36:])
            if lab.balancer.status().maps["pcl_xdp_flows4"].used:
                break
        assert 0 < lab.balancer.status().maps["pcl_xdp_flows4"].used < 40


def test_a_gateway_needs_no_route(node: NetNS) -> None:
    with opened(node, gateway="02:00:00:00:00:fe", gateway_mtu=1400) as lab:
        out = Ether(lab.send(lab.frame(to=LOST_VIP) / TCP(dport=80)).output)
        assert (out.dst, out.src, out[IP].dst) == ("02:00:00:00:00:fe", lab.mac, "203.0.113.5")
        big = lab.frame(flags="DF") / UDP(dport=53) / Raw(bytes(1360))
        assert Ether(lab.send(big).output)[ICMP].nexthopmtu == 1380


def test_a_route_leads_to_its_next_hop(lab: Lab) -> None:
    remote = service("192.0.2.50", "10.9.1.1")
    settings = {**SETTINGS, remote.frontend: VipSettings(ring=lab_module.RING)}
    lab.balancer.services.apply([*SERVICES, remote], settings=settings)
    out = Ether(lab.send(lab.frame(to="192.0.2.50") / TCP(dport=80)).output)
    assert (out.dst, out[IP].dst) == (mac_of(11), "10.9.1.1")


@pytest.mark.parametrize("vip", [VIP, VIP6, UNRESOLVED_VIP])
def test_truncated_packets_end_with_a_reason(lab: Lab, vip: str) -> None:
    """Every length from an Ethernet header up: known reason, no abort, no tunnel of a torso."""
    layers = (TCP(dport=80, flags="A"), UDP(dport=53))
    errors = [ICMPv6DestUnreach() / quote6()] if ":" in vip else [ICMP(type=3) / quote4()]
    for layer in (*layers, *errors):
        whole = bytes(lab.frame(to=vip) / layer)
        for length in range(14, len(whole)):
            result = lab.send(whole[:length])
            assert result.action == Action.DROP
            assert result.reason == "PCL_XDP_DROP_INVALID", (length, result)


def test_hostile_packets_end_with_a_reason(lab: Lab) -> None:
    """Random bytes behind headers that lead deep into the program."""
    known = {r.name for r in lab.balancer._core.spec.enums["pcl_xdp_reason"]}
    allowed = {Action.DROP, Action.PASS, Action.TX}
    for _ in range(300):
        frame = bytearray(
            bytes(lab.frame(to=VIP6 if os.urandom(1)[0] & 1 else VIP) / TCP(dport=80))
        )
        for _ in range(4):
            frame[14 + os.urandom(1)[0] % (len(frame) - 14)] = os.urandom(1)[0]
        result = lab.send(bytes(frame))
        assert result.action in allowed
        assert result.reason in known


def test_statistics_follow_a_backend_and_its_vip(lab: Lab) -> None:
    for port in range(3000, 3020):
        lab.send(lab.frame() / TCP(sport=port, dport=80) / b"12345")
    (vip,) = [v for v in lab.balancer.statistics() if v.frontend == SERVICES[0].frontend]
    assert (vip.packets, vip.bytes) == (20, 20 * 45)
    assert sum(one.packets for one in vip.backends) == 20
    lab.balancer.services.apply([service(VIP, "10.0.0.4"), *SERVICES[1:]], settings=SETTINGS)
    lab.send(lab.frame() / TCP(sport=1, dport=80))
    (vip,) = [v for v in lab.balancer.statistics() if v.frontend == SERVICES[0].frontend]
    assert (vip.packets, [one.packets for one in vip.backends]) == (21, [1])
    lab.balancer.services.apply([], settings={})
    lab.balancer.services.apply([service(VIP, "10.0.0.2")], settings=ALONE)
    (vip,) = lab.balancer.statistics()
    assert (vip.packets, vip.backends[0].packets) == (0, 0)


def test_the_tester_says_what_differs(lab: Lab) -> None:
    packet = lab.frame() / TCP(sport=5, dport=80)
    (result,) = lab.balancer.test([Fixture(packet, action=Action.PASS, output=b"x", name="wrong")])
    assert len(result.mismatches) == 2
    with pytest.raises(MismatchError, match="wrong: action TX, expected PASS; packet"):
        result.check()
    (result,) = lab.balancer.test([Fixture(packet, output=result.output)], repeat=1000)
    assert result.check().nanoseconds > 0
    assert "FORWARDED" in str(result)
