# SPDX-License-Identifier: Apache-2.0
"""Every reason to drop, each by a packet that has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6MLReport,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_Redirect,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.layers.sctp import SCTP
from scapy.packet import Packet, Raw

from programs.device_lab import DEVICE_REASONS
from programs.lab import (
    ALLOW_ALL,
    DB,
    DB6,
    DENY,
    EGRESS,
    EMPTY_VIP,
    GATEWAY_MAC,
    SHOT,
    VIP,
    WEB,
    WEB6,
    WEB_MAC,
    Entry,
    Lab,
    db_frame,
    web_frame,
)
from pycilium.libbpf import ObjectSpec
from pycilium.policy.resolve import REDIRECT

pytestmark = pytest.mark.root
SYN = TCP(sport=1000, dport=80, flags="S")
# The connection is allowed, this packet was not.
STAYS = {"PCL_DROP_TTL", "PCL_DROP_SERVICE_PROTOCOL", "PCL_DROP_BACKEND_GONE"}


def nothing(lab: Lab) -> None:
    """The lab as it is."""


@attrs.frozen
class Case:
    name: str
    reason: str
    packet: Packet | bytes
    prepare: Callable[[Lab], None] = nothing
    program: str = "send"


def ip4(**fields: Any) -> Packet:
    return web_frame() / IP(**{"src": WEB, "dst": DB, **fields})


def ip6(**fields: Any) -> Packet:
    return web_frame() / IPv6(**{"src": WEB6, "dst": DB6, **fields})


def ns(**fields: Any) -> Packet:
    frame = Ether(src=WEB_MAC, dst="33:33:ff:00:00:99")
    ip = IPv6(**{"src": WEB6, "dst": "ff02::1:ff00:99", "hlim": 255, **fields})
    return frame / ip / ICMPv6ND_NS(tgt="fd00::99") / ICMPv6NDOptSrcLLAddr(lladdr=WEB_MAC)


def arp(**fields: Any) -> Packet:
    ours = {"op": 1, "hwsrc": WEB_MAC, "psrc": WEB, "pdst": "10.1.0.1"}
    return Ether(src=WEB_MAC, dst="ff:ff:ff:ff:ff:ff") / ARP(**{**ours, **fields})


def forget_web(lab: Lab) -> None:
    del lab.maps["pcl_endpoints"][lab.web]


def redirect_web(lab: Lab) -> None:
    lab.set_policy(1, (Entry(EGRESS, verdict=REDIRECT),))


def no_policy(lab: Lab) -> None:
    del lab.maps["pcl_policies"][1]


def deny_80(lab: Lab) -> None:
    port = Entry(EGRESS, protocol=6, port=80, verdict=DENY, rule=9, prefix_length=64)
    lab.set_policy(1, (*ALLOW_ALL, port))


def allow_nothing(lab: Lab) -> None:
    lab.set_policy(1, ())


def admit_nobody(lab: Lab) -> None:
    lab.set_service(VIP, 80, 1, [1], sources=7)


def admit_nobody_by_name(lab: Lab) -> None:
    lab.add_source(7, f"{WEB}/32")
    lab.set_service(VIP, 80, 1, [1], sources=7, flags=1)


def sctp_to_another_port(lab: Lab) -> None:
    lab.set_service(VIP, 80, 1, [1], protocol=132)


def backend_leaves(lab: Lab) -> None:
    lab.send(ip4(dst=VIP) / SYN)
    lab.set_backend(1, DB, 8080, service=1, state="GONE")


def full_route(hops: int) -> Packet:
    """More extension headers than the datapath reads."""
    packet = ip6()
    for _ in range(hops):
        packet = packet / IPv6ExtHdrDestOpt()
    return packet / SYN


CASES = [
    Case("ipv4 of another", "PCL_DROP_SOURCE_IP", ip4(src="10.1.0.11") / SYN),
    Case("ipv6 of another", "PCL_DROP_SOURCE_IP", ip6(src="fd00::11") / SYN),
    Case("ipv4 of the peer", "PCL_DROP_SOURCE_IP", ip4(src=DB, dst=WEB) / SYN),
    Case("mac of another", "PCL_DROP_SOURCE_MAC",
         Ether(src="02:00:00:00:00:99", dst=GATEWAY_MAC) / IP(src=WEB, dst=DB) / SYN),
    Case("no rule", "PCL_DROP_POLICY", ip4() / SYN, allow_nothing),
    Case("no rule, ipv6", "PCL_DROP_POLICY", ip6() / SYN, allow_nothing),
    Case("deny rule", "PCL_DROP_POLICY_DENY", ip4() / SYN, deny_80),
    Case("ihl below five", "PCL_DROP_INVALID", bytes(ip4(ihl=4) / SYN)),
    Case("ihl beyond the packet", "PCL_DROP_INVALID", bytes(ip4(ihl=15) / SYN)),
    Case("length beyond the packet", "PCL_DROP_INVALID", bytes(ip4(len=1000) / SYN)),
    Case("length below the header", "PCL_DROP_INVALID", bytes(ip4(len=12) / SYN)),
    Case("version 5", "PCL_DROP_INVALID", bytes(ip4(version=5) / SYN)),
    Case("tcp header cut", "PCL_DROP_INVALID", bytes(ip4(len=30) / SYN)[:44]),
    Case("tcp offset below five", "PCL_DROP_INVALID",
         ip4() / TCP(sport=1, dport=80, flags="S", dataofs=4)),
    Case("tcp offset beyond the segment", "PCL_DROP_INVALID",
         ip4() / TCP(sport=1, dport=80, flags="S", dataofs=15)),
    Case("udp header cut", "PCL_DROP_INVALID", bytes(ip4(len=24, proto=17) / Raw(b"\0" * 4))),
    Case("ipv6 length beyond", "PCL_DROP_INVALID", bytes(ip6(plen=500) / SYN)),
    Case("ethertype", "PCL_DROP_L3_PROTOCOL",
         Ether(src=WEB_MAC, dst=GATEWAY_MAC, type=0x88CC) / Raw(b"\0" * 46)),
    Case("gre", "PCL_DROP_L4_PROTOCOL", ip4(proto=47) / Raw(b"\0" * 20)),
    Case("icmpv6 over ipv4", "PCL_DROP_L4_PROTOCOL", ip4(proto=58) / Raw(b"\0" * 20)),
    Case("icmp timestamp", "PCL_DROP_L4_PROTOCOL", ip4() / ICMP(type=13) / Raw(b"\0" * 12)),
    Case("esp", "PCL_DROP_L4_PROTOCOL", ip6(nh=50) / Raw(b"\0" * 20)),
    Case("routing type 0", "PCL_DROP_IPV6_EXTENSION",
         ip6() / IPv6ExtHdrRouting(type=0, addresses=[]) / SYN),
    Case("too many extensions", "PCL_DROP_IPV6_EXTENSION", full_route(8)),
    Case("extension beyond the packet", "PCL_DROP_IPV6_EXTENSION",
         bytes(ip6(nh=60, plen=8) / Raw(b"\x06\xff" + b"\0" * 6))),
    Case(
        "an extension that moves the tcp header out of sight",
        "PCL_DROP_IPV6_EXTENSION",
        bytes(ip6(nh=60, plen=2068) / Raw(b"\x06\xff" + b"\0" * 2046) / SYN),
    ),
    Case("two fragment headers", "PCL_DROP_IPV6_EXTENSION",
         ip6() / IPv6ExtHdrFragment(m=1) / IPv6ExtHdrFragment(m=1) / SYN),
    Case("service without backends", "PCL_DROP_NO_BACKEND", ip4(dst=EMPTY_VIP) / SYN),
    Case("source range allows others", "PCL_DROP_SOURCE_RANGE", ip4(dst=VIP) / SYN, admit_nobody),
    Case("source range denies", "PCL_DROP_SOURCE_RANGE", ip4(dst=VIP) / SYN, admit_nobody_by_name),
    Case("sctp service to another port", "PCL_DROP_SERVICE_PROTOCOL",
         ip4(dst=VIP) / SCTP(sport=1000, dport=80), sctp_to_another_port),
    Case("from a backend that has left", "PCL_DROP_BACKEND_GONE",
         db_frame() / IP(src=DB, dst=WEB) / TCP(sport=8080, dport=1000, flags="SA"),
         backend_leaves, "send_from_db"),
    Case("later fragment alone", "PCL_DROP_FRAGMENT", ip4(frag=8, proto=17) / Raw(b"x" * 8)),
    Case("later fragment alone, ipv6", "PCL_DROP_FRAGMENT",
         ip6() / IPv6ExtHdrFragment(offset=8, nh=17) / Raw(b"x" * 8)),
    Case("first fragment without its tcp header", "PCL_DROP_FRAGMENT_TINY",
         ip4(flags="MF", proto=6) / Raw(b"x" * 8)),
    Case("fragment over the tcp header", "PCL_DROP_FRAGMENT_TINY",
         ip4(frag=1, proto=6) / Raw(b"x" * 8)),
    Case("icmpv6 redirect", "PCL_DROP_ICMPV6",
         ip6(hlim=255) / ICMPv6ND_Redirect(tgt="fd00::1", dst="fd00::2")),
    Case("icmpv6 node information", "PCL_DROP_ICMPV6",
         ip6(nh=58) / Raw(b"\x8b\0\0\0" + bytes(12))),
    Case("multicast listener report", "PCL_DROP_NEIGHBOUR_NOISE", ip6() / ICMPv6MLReport()),
    Case("vlan", "PCL_DROP_VLAN", web_frame() / Dot1Q(vlan=5) / IP(src=WEB, dst=DB) / SYN),
    Case("ttl", "PCL_DROP_TTL", ip4(ttl=1) / SYN),
    Case("hop limit", "PCL_DROP_TTL", ip6(hlim=1) / SYN),
    Case("unknown interface", "PCL_DROP_ENDPOINT_UNKNOWN", ip4() / SYN, forget_web),
    Case("unknown interface, arp", "PCL_DROP_ENDPOINT_UNKNOWN", arp(), forget_web),
    Case("to an unknown interface", "PCL_DROP_ENDPOINT_UNKNOWN",
         Ether(src=GATEWAY_MAC, dst=WEB_MAC) / IP(src="10.9.9.9", dst=WEB) / SYN,
         forget_web, "receive"),
    Case("for a proxy", "PCL_DROP_PROXY_NOT_READY", ip4() / SYN, redirect_web),
    Case("slot empty", "PCL_DROP_POLICY_NOT_READY", ip4() / SYN, no_policy),
    Case("arp for another", "PCL_DROP_NEIGHBOUR_SPOOF", arp(psrc="10.1.0.99")),
    Case("arp answer for another", "PCL_DROP_NEIGHBOUR_SPOOF", arp(op=2, psrc="10.1.0.99")),
    Case("arp mac of another", "PCL_DROP_SOURCE_MAC", arp(hwsrc="02:00:00:00:00:99")),
    Case("ndp for another", "PCL_DROP_NEIGHBOUR_SPOOF", ns(src="fd00::98")),
    Case("ndp answer for another", "PCL_DROP_NEIGHBOUR_SPOOF",
         ip6(hlim=255) / ICMPv6ND_NA(tgt="fd00::98")),
    Case("ndp hop limit", "PCL_DROP_INVALID", ns(hlim=64)),
    Case("arp probe", "PCL_DROP_NEIGHBOUR_NOISE", arp(psrc="0.0.0.0")),
    Case("arp announcement", "PCL_DROP_NEIGHBOUR_NOISE", arp(pdst=WEB)),
    Case("duplicate address detection", "PCL_DROP_NEIGHBOUR_NOISE", ns(src="::")),
    Case("icmp error about nothing", "PCL_DROP_ICMP_UNRELATED",
         ip4() / ICMP(type=3, code=3) / IP(src=DB, dst=WEB) / UDP(sport=1, dport=2)),
    Case("icmp error about an icmp error", "PCL_DROP_ICMP_UNRELATED",
         ip4() / ICMP(type=3, code=3) / IP(src=DB, dst=WEB) / ICMP(type=3, code=3)),
    Case("multicast", "PCL_DROP_MULTICAST", ip4(dst="224.0.0.251") / UDP(sport=1, dport=5353)),
    Case("broadcast", "PCL_DROP_MULTICAST", ip4(dst="255.255.255.255") / UDP(sport=68, dport=67)),
    Case("multicast, ipv6", "PCL_DROP_MULTICAST", ip6(dst="ff02::fb") / UDP(sport=1, dport=5353)),
    Case("host's packet on a foreign device", "PCL_DROP_WRONG_DEVICE",
         Ether(src=GATEWAY_MAC, dst=WEB_MAC) / IP(src="10.9.9.9", dst=DB) / SYN,
         nothing, "receive"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_reason(lab: Lab, case: Case) -> None:
    case.prepare(lab)
    outcome = getattr(lab, case.program)(case.packet)
    assert outcome.reason == lab.reasons[case.reason]
    assert outcome.action == SHOT
    if case.reason not in STAYS:
        assert len(lab.maps["pcl_ct4"]) == len(lab.maps["pcl_ct6"]) == 0


def test_every_reason_has_a_case(endpoint_spec: ObjectSpec) -> None:
    """A new drop reason needs a packet here; the others say where they are tested."""
    elsewhere = {
        "PCL_DROP_CT_CREATE",  # needs a map that refuses: an LRU evicts instead
        "PCL_DROP_WRITE",  # needs a helper that fails on a packet it has just parsed
        *DEVICE_REASONS,  # test_device
    }
    drops = {
        reason.name
        for reason in endpoint_spec.enums["pcl_reason"]
        if reason.name.startswith("PCL_DROP")
    }
    assert drops == {case.reason for case in CASES} | elsewhere


def test_echo_request_passes(lab: Lab) -> None:
    assert lab.send(ip4() / ICMP(id=7)).reason == lab.reasons.PCL_FORWARDED
    assert lab.send(ip6() / ICMPv6EchoRequest(id=7)).reason == lab.reasons.PCL_FORWARDED
