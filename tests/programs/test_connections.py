# SPDX-License-Identifier: Apache-2.0
"""Connections: both directions of one entry, revocation, reuse, services, ICMP errors."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6ND_NA, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from programs.lab import (
    ALLOW_ALL,
    DB,
    DB6,
    DB_ID,
    DB_MAC,
    DENY,
    EGRESS,
    GATEWAY_MAC,
    HAIRPIN,
    HAIRPIN6,
    INGRESS,
    REDIRECT,
    SELF_VIP,
    UNSPEC,
    VIP,
    VIP6,
    WEB,
    WEB6,
    WEB_ID,
    WEB_MAC,
    Entry,
    Lab,
    checksums_hold,
    db_frame,
    packed,
    web_frame,
)

pytestmark = pytest.mark.root
ONE_WAY_WEB = (Entry(EGRESS, identity=DB_ID, protocol=6, port=80, rule=1, prefix_length=64),)
ONE_WAY_DB = (Entry(INGRESS, identity=WEB_ID, protocol=6, port=80, rule=2, prefix_length=64),)


def tcp(flags: str, sport: int = 1000, dport: int = 80) -> Packet:
    return TCP(sport=sport, dport=dport, flags=flags) / Raw(b"payload")


def to_db(l4: Packet, dst: str = DB, **fields: object) -> Packet:
    return web_frame() / IP(src=WEB, dst=dst, **fields) / l4


def to_web(l4: Packet, src: str = DB, **fields: object) -> Packet:
    return db_frame() / IP(src=src, dst=WEB, **fields) / l4


def test_one_entry_serves_both_directions(lab: Lab) -> None:
    lab.set_policy(1, ONE_WAY_WEB)
    lab.set_policy(2, ONE_WAY_DB)
    out = lab.send(to_db(tcp("S")))
    assert (out.action, out.packet.dst, out.packet.ttl) == (REDIRECT, DB_MAC, 63)
    assert checksums_hold(out.data)
    back = lab.send(to_web(tcp("SA", 80, 1000)), device=lab.db)
    assert (back.action, back.packet.dst) == (REDIRECT, WEB_MAC)
    assert len(lab.maps["pcl_ct4"]) == 1


def test_the_responder_cannot_open(lab: Lab) -> None:
    lab.set_policy(1, ONE_WAY_WEB)
    lab.set_policy(2, ONE_WAY_DB)
    assert lab.send(to_web(tcp("S", 80, 1000)), device=lab.db).reason == (
        lab.reasons.PCL_DROP_POLICY
    )


@pytest.mark.parametrize("side", ["client", "server"])
def test_revocation_stops_both_directions(lab: Lab, side: str) -> None:
    lab.send(to_db(tcp("S")))
    lab.send(to_web(tcp("SA", 80, 1000)), device=lab.db)
    assert lab.send(to_db(tcp("A"))).action == REDIRECT
    lab.set_policy(1 if side == "client" else 2, ())
    assert lab.send(to_db(tcp("A"))).reason == lab.reasons.PCL_DROP_POLICY
    reply = lab.send(to_web(tcp("A", 80, 1000)), device=lab.db)
    assert reply.reason == lab.reasons.PCL_DROP_POLICY


def test_a_policy_that_still_allows_keeps_replies(lab: Lab) -> None:
    lab.send(to_db(tcp("S")))
    lab.set_policy(1, ONE_WAY_WEB)
    lab.set_policy(2, ONE_WAY_DB)
    assert lab.send(to_web(tcp("SA", 80, 1000)), device=lab.db).action == REDIRECT


def test_protocols_do_not_share_an_entry(lab: Lab) -> None:
    lab.send(to_db(tcp("S")))
    lab.set_policy(2, ())
    lab.set_policy(1, ONE_WAY_WEB)
    datagram = to_db(UDP(sport=1000, dport=80) / Raw(b"x"))
    assert lab.send(datagram).reason == lab.reasons.PCL_DROP_POLICY
    lab.set_policy(1, ALLOW_ALL)
    lab.set_policy(2, ONE_WAY_DB)
    lab.send(to_db(tcp("S")))
    assert lab.send(datagram).reason == lab.reasons.PCL_DROP_POLICY


def test_reset_opens_nothing(lab: Lab) -> None:
    assert lab.send(to_db(tcp("R"))).action == REDIRECT
    assert len(lab.maps["pcl_ct4"]) == 0


def test_a_known_tuple_from_another_device_is_spoofed(lab: Lab) -> None:
    lab.send(to_db(tcp("S")))
    spoofed = lab.send(to_db(tcp("A")), device=lab.db)
    assert spoofed.reason == lab.reasons.PCL_DROP_SOURCE_MAC


def test_a_known_tuple_with_another_mac_is_spoofed(lab: Lab) -> None:
    lab.send(to_db(tcp("S")))
    frame = Ether(src=DB_MAC, dst=GATEWAY_MAC) / IP(src=WEB, dst=DB) / tcp("A")
    assert lab.send(frame).reason == lab.reasons.PCL_DROP_SOURCE_MAC


def test_service_is_translated_and_back(lab: Lab) -> None:
    out = lab.send(to_db(tcp("S"), dst=VIP))
    assert (out.packet[IP].dst, out.packet[TCP].dport) == (DB, 8080)
    assert checksums_hold(out.data)
    back = lab.send(to_web(tcp("SA", 8080, 1000)), device=lab.db)
    assert (back.packet[IP].src, back.packet[TCP].sport) == (VIP, 80)
    assert checksums_hold(back.data)
    assert len(lab.maps["pcl_ct4"]) == 2


def test_service_over_udp_without_checksum(lab: Lab) -> None:
    out = lab.send(to_db(UDP(sport=1000, dport=80, chksum=0) / Raw(b"x"), dst=VIP))
    assert (out.packet[IP].dst, out.packet[UDP].dport, out.packet[UDP].chksum) == (DB, 8080, 0)


def test_service_over_ipv6(lab: Lab) -> None:
    out = lab.send(web_frame() / IPv6(src=WEB6, dst=VIP6) / tcp("S"))
    assert (out.packet[IPv6].dst, out.packet[TCP].dport) == (DB6, 8080)
    assert checksums_hold(out.data)
    reply = db_frame() / IPv6(src=DB6, dst=WEB6) / tcp("SA", 8080, 1000)
    back = lab.send(reply, device=lab.db)
    assert (back.packet[IPv6].src, back.packet[TCP].sport) == (VIP6, 80)
    assert checksums_hold(back.data)


def test_policy_sees_the_backend_not_the_service(lab: Lab) -> None:
    port = Entry(EGRESS, identity=DB_ID, protocol=6, port=8080, rule=4, prefix_length=64)
    lab.set_policy(1, (port,))
    assert lab.send(to_db(tcp("S"), dst=VIP)).action == REDIRECT
    lab.set_policy(1, ONE_WAY_WEB)
    assert lab.send(to_db(tcp("A"), dst=VIP)).reason == lab.reasons.PCL_DROP_POLICY


def test_hairpin(lab: Lab) -> None:
    lab.set_policy(1, ())
    out = lab.send(to_db(tcp("S"), dst=SELF_VIP))
    assert (out.packet[IP].src, out.packet[IP].dst, out.packet.dst) == (HAIRPIN, WEB, WEB_MAC)
    assert checksums_hold(out.data)
    reply = web_frame() / IP(src=WEB, dst=HAIRPIN) / tcp("SA", 8080, 1000)
    back = lab.send(reply)
    assert (back.packet[IP].src, back.packet[IP].dst) == (SELF_VIP, WEB)
    assert back.packet[TCP].sport == 80
    assert checksums_hold(back.data)


def test_a_direct_connection_beside_a_translated_one(lab: Lab) -> None:
    lab.send(to_db(tcp("S"), dst=VIP))
    out = lab.send(to_db(tcp("S", dport=8080)))
    assert (out.action, out.packet[IP].dst) == (REDIRECT, DB)


def test_a_port_used_again_after_close_is_decided_anew(lab: Lab) -> None:
    lab.send(to_db(tcp("S")))
    lab.send(to_db(tcp("FA")))
    lab.send(to_web(tcp("FA", 80, 1000)), device=lab.db)
    assert lab.send(to_db(tcp("S"))).action == REDIRECT
    (entry,) = lab.maps["pcl_ct4"].values()
    assert not entry.flags & lab.flags.PCL_CT_CLOSING_OPENER


def test_fragments_follow_their_first(lab: Lab) -> None:
    first = to_db(UDP(sport=1000, dport=80, len=40, chksum=0) / Raw(b"x" * 16), id=9, flags="MF")
    later = web_frame() / IP(src=WEB, dst=DB, id=9, frag=3, proto=17) / Raw(b"y" * 4)
    assert lab.send(first).action == REDIRECT
    assert lab.send(later).action == REDIRECT


def test_translated_fragments(lab: Lab) -> None:
    first = to_db(
        UDP(sport=1000, dport=80, len=40, chksum=0) / Raw(b"x" * 16), dst=VIP, id=9, flags="MF"
    )
    later = web_frame() / IP(src=WEB, dst=VIP, id=9, frag=3, proto=17) / Raw(b"y" * 16)
    assert lab.send(first).packet[IP].dst == DB
    out = lab.send(later)
    assert (out.packet[IP].dst, bytes(out.packet[Raw])) == (DB, b"y" * 16)


def test_a_refused_first_fragment_leaves_no_ports(lab: Lab) -> None:
    lab.set_policy(1, ())
    first = to_db(UDP(sport=1000, dport=80, len=40, chksum=0) / Raw(b"x" * 16), id=9, flags="MF")
    lab.send(first)
    assert len(lab.maps["pcl_fragments"]) == 0


def test_icmp_error_to_a_client_of_a_service(lab: Lab) -> None:
    out = lab.send(to_db(UDP(sport=1000, dport=80) / Raw(b"x"), dst=VIP))
    quoted = bytes(out.packet[IP])[:28]
    error = to_web(ICMP(type=3, code=3) / Raw(quoted))
    back = lab.send(error, device=lab.db)
    assert back.action == REDIRECT
    inner = IP(bytes(back.packet[ICMP].payload))
    assert (back.packet[IP].src, inner.dst, inner[UDP].dport) == (VIP, VIP, 80)
    assert (inner.src, inner[UDP].sport) == (WEB, 1000)
    assert checksums_hold(back.data)


def test_icmpv6_error_to_a_client_of_a_service(lab: Lab) -> None:
    out = lab.send(web_frame() / IPv6(src=WEB6, dst=VIP6) / UDP(sport=1000, dport=80) / Raw(b"x"))
    quoted = bytes(out.packet[IPv6])
    error = db_frame() / IPv6(src=DB6, dst=WEB6) / ICMPv6DestUnreach(code=4) / Raw(quoted)
    back = lab.send(error, device=lab.db)
    assert back.action == REDIRECT
    fresh = Ether(back.data)
    sent = fresh[ICMPv6DestUnreach].cksum
    del fresh[ICMPv6DestUnreach].cksum
    assert Ether(bytes(fresh))[ICMPv6DestUnreach].cksum == sent
    assert fresh[IPv6].src == VIP6


def test_icmp_error_of_a_router_reaches_the_sender(lab: Lab) -> None:
    lab.send(to_db(UDP(sport=1000, dport=53) / Raw(b"x"), dst="192.0.2.9"))
    quoted = IP(src=WEB, dst="192.0.2.9") / UDP(sport=1000, dport=53)
    error = IP(src="192.0.2.1", dst=WEB) / ICMP(type=3, code=4, nexthopmtu=1400) / quoted
    frame = Ether(src=GATEWAY_MAC, dst=WEB_MAC) / error
    assert lab.receive(frame).action == UNSPEC


def test_host_opens_and_the_endpoint_answers(lab: Lab) -> None:
    frame = Ether(src=GATEWAY_MAC, dst=WEB_MAC) / IP(src="10.9.9.9", dst=WEB)
    assert lab.receive(frame / tcp("S")).action == UNSPEC
    lab.set_policy(1, (Entry(INGRESS, rule=11),))
    answer = web_frame() / IP(src=WEB, dst="10.9.9.9") / tcp("SA", 80, 1000)
    assert lab.send(answer).action == UNSPEC
    lab.set_policy(1, ())
    assert lab.send(answer).reason == lab.reasons.PCL_DROP_POLICY


@pytest.mark.parametrize("ip", [IP(src=DB, dst=WEB), IPv6(src=DB6, dst=WEB6)], ids=["v4", "v6"])
def test_nobody_outside_is_an_endpoint(lab: Lab, ip: Packet) -> None:
    """An endpoint's address proves nothing unless the packet came from its device."""
    frame = Ether(src=GATEWAY_MAC, dst=WEB_MAC) / ip / tcp("S")
    assert lab.receive(frame).reason == lab.reasons.PCL_DROP_SOURCE_IP
    assert lab.receive(frame, came_from=lab.web).reason == lab.reasons.PCL_DROP_SOURCE_IP
    assert lab.receive(frame, came_from=lab.db).action == UNSPEC


def test_arp_is_answered_by_the_gateway(lab: Lab) -> None:
    question = Ether(src=WEB_MAC, dst="ff:ff:ff:ff:ff:ff") / ARP(
        op=1, hwsrc=WEB_MAC, psrc=WEB, pdst="10.1.0.1"
    )
    out = lab.send(question)
    assert (out.action, out.packet[ARP].hwsrc, out.packet[ARP].psrc) == (
        REDIRECT,
        GATEWAY_MAC,
        "10.1.0.1",
    )


def test_a_sender_is_who_its_device_is(lab: Lab) -> None:
    """An endpoint on its way in or out has a device, but no address yet: it is still itself."""
    for family, address in ((4, WEB), (6, WEB6)):
        del lab.maps["pcl_addresses"][{"addr": packed(address), "family": family}]
    lab.set_policy(2, (Entry(INGRESS, rule=1), Entry(INGRESS, WEB_ID, verdict=DENY, rule=2)))
    assert lab.send(to_db(tcp("S"))).reason == lab.reasons.PCL_DROP_POLICY_DENY
    lab.set_policy(1, ())
    assert lab.send(to_db(tcp("S"))).reason == lab.reasons.PCL_DROP_POLICY


def test_hairpin_over_ipv6(lab: Lab) -> None:
    lab.add_service("fd00:96::12", 80, 4, WEB6, 8080)
    out = lab.send(web_frame() / IPv6(src=WEB6, dst="fd00:96::12") / tcp("S"))
    assert (out.packet[IPv6].src, out.packet[IPv6].dst) == (HAIRPIN6, WEB6)
    assert checksums_hold(out.data)


def test_a_moved_address_is_judged_anew(lab: Lab) -> None:
    """Another endpoint takes over the address: the old connection is not its own."""
    lab.send(to_db(tcp("S")))
    lab.add_endpoint(lab.web, 400, 3, WEB, WEB6, WEB_MAC, GATEWAY_MAC)
    lab.set_policy(3, ())
    lab.maps["pcl_epochs"][1] = lab.maps["pcl_epochs"][1] + 1
    assert lab.send(to_db(tcp("A"))).reason == lab.reasons.PCL_DROP_POLICY


@pytest.mark.parametrize(("changed", "passes"), [({}, True), ({"hlim": 254}, False),
                                                 ({"plen": 2064}, False)])  # fmt: skip
def test_only_the_nodes_own_neighbour_discovery_passes(
    lab: Lab, changed: dict[str, int], passes: bool
) -> None:
    """Found by random frames: what was forwarded has lost a hop, and is nobody's neighbour."""
    lab.set_policy(1, ())
    ip = IPv6(**{"src": "fd00::1", "dst": WEB6, "hlim": 255, **changed})
    frame = Ether(src=GATEWAY_MAC, dst=WEB_MAC) / ip / ICMPv6ND_NA(tgt="fd00::1")
    assert (lab.receive(frame).action == UNSPEC) == passes


@pytest.mark.parametrize("family", [4, 6])
def test_a_client_goes_on_when_its_address_gets_an_endpoint(lab: Lab, family: int) -> None:
    """Found by random states: the pod was made anew, and its clients kept their ports."""
    key = {"addr": packed(DB if family == 4 else DB6), "family": family}
    device = lab.maps["pcl_addresses"][key]
    del lab.maps["pcl_addresses"][key]
    packet = web_frame() / (IP(src=WEB, dst=DB) if family == 4 else IPv6(src=WEB6, dst=DB6))
    packet = packet / UDP(sport=1000, dport=80)
    assert lab.send(packet).action == UNSPEC
    lab.maps["pcl_addresses"][key] = device
    lab.maps["pcl_epochs"][0] = lab.maps["pcl_epochs"][0] + 1
    assert lab.send(packet).action == REDIRECT
    lab.set_policy(2, ())
    assert lab.send(packet).reason == lab.reasons.PCL_DROP_POLICY


def test_both_directions_count(lab: Lab) -> None:
    lab.set_policy(1, ALLOW_ALL)
    before = lab.send(to_db(tcp("S"))).reason
    assert before == lab.reasons.PCL_FORWARDED
