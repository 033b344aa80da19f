# SPDX-License-Identifier: Apache-2.0
import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from benchmarks import frames

MACS = {"source_mac": "02:00:00:00:00:01", "destination_mac": "02:00:00:00:00:02"}
ETHERNET = Ether(src=MACS["source_mac"], dst=MACS["destination_mac"])
V4 = frames.Tuple("10.1.0.10", "10.1.0.20", 40000, 8080)
V6 = frames.Tuple("fd00::10", "fd00::20", 40000, 8080)


def segment(flags, padding):
    return TCP(sport=40000, dport=8080, seq=1, ack=1, flags=flags, window=64240) / Raw(
        bytes(padding)
    )


@pytest.mark.parametrize(("flags", "letters"), [(frames.SYN, "S"), (frames.ACK, "A")])
def test_ipv4_frame_is_what_scapy_makes(flags, letters):
    expected = (
        ETHERNET / IP(src=V4.source, dst=V4.destination, flags="DF", id=1) / segment(letters, 10)
    )
    made = frames.tcp_frame(V4, flags=flags, **MACS)
    assert made == bytes(expected)
    assert len(made) == frames.SHORT


def test_ipv6_frame_is_what_scapy_makes():
    expected = ETHERNET / IPv6(src=V6.source, dst=V6.destination) / segment("A", 6)
    made = frames.tcp_frame(V6, **MACS)
    assert made == bytes(expected)
    assert len(made) == frames.LONG


def test_reply_swaps_both_sides():
    assert V4.reply == frames.Tuple("10.1.0.20", "10.1.0.10", 8080, 40000)
    assert V4.reply.reply == V4
