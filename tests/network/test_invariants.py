# SPDX-License-Identifier: Apache-2.0
"""The invariants of policy and identity that only a kernel can show, each by its name.

P: policy; D: parsing and identity. Those of the rules alone are in tests/policy.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from ipaddress import ip_address
from random import Random
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from differential.arena import Arena, question
from differential.mutator import mutate
from differential.oracle import Tuple
from differential.strategies import Labels
from programs.lab import checksums_hold
from pycilium import MapFullError, Policy, ServiceLB
from pycilium.datapath.twin import load_copy
from pycilium.libbpf import ObjectSpec

pytestmark = pytest.mark.root
SHOT, REDIRECT, UNSPEC = 2, 7, 0xFFFFFFFF
REASONS = ObjectSpec.bundled("endpoint").enums["pcl_reason"]
WEB_TO_DB = {"from_": "app=web", "to": "app=db"}


def app(name: str) -> Labels:
    return Labels.of({"app": name})


@pytest.fixture
def arena() -> Iterator[Arena]:
    """web is end 1, db is end 2."""
    with Arena.open() as found:
        found.add(1, app("web"))
        found.add(2, app("db"))
        yield found


class Line:
    """Packets of one connection between two ends, both ways."""

    def __init__(self, arena: Arena, source: int = 1, target: int = 2, port: int = 80) -> None:
        self.arena, self.port = arena, port
        self.source, self.target = arena.ends[source], arena.ends[target]

    def frame(self, source_port: int = 5000, *, protocol: int = 17, family: int = 4) -> bytes:
        return self._frame(self.source, self.target, (source_port, self.port), protocol, family)

    def reply(self, source_port: int = 5000, *, protocol: int = 17, family: int = 4) -> bytes:
        return self._frame(self.target, self.source, (self.port, source_port), protocol, family)

    def passes(self, frame: bytes, *, back: bool = False, **ctx: int) -> bool:
        endpoint = self.target if back else self.source
        program = self.arena.dp.object.programs["from_endpoint"]
        given = {"ifindex": endpoint.ifindex, **ctx}
        run = self.arena.node.run(lambda: program.test_run(frame, ctx=given))
        return run.retval != SHOT

    @staticmethod
    def _frame(one: Any, other: Any, ports: tuple[int, int], protocol: int, family: int) -> bytes:
        packet = Tuple(one.address(family), other.address(family), protocol, ports[1])
        return question(one, packet, ports[0], outward=True).frame()


def test_p4_during_an_update_every_packet_meets_the_old_or_the_new_rules(arena: Arena) -> None:
    """What both rule sets say holds all the time; what they differ on may be either."""
    first = [Policy.allow(**WEB_TO_DB, ports="80/udp"), Policy.allow(**WEB_TO_DB, ports="81/udp")]
    second = [Policy.allow(**WEB_TO_DB, ports="81/udp,82/udp")]
    arena.apply(first)
    verdicts: dict[int, set[bool]] = {port: set() for port in (80, 81, 82, 83)}
    stop = threading.Event()

    def send() -> None:
        lines = {port: Line(arena, port=port) for port in verdicts}
        program, number = arena.dp.object.programs["from_endpoint"], 0
        while not stop.is_set():
            number = (number + 1) % 60_000
            for port, line in lines.items():
                ctx = {"ifindex": line.source.ifindex}
                run = program.test_run(line.frame(1024 + number), ctx=ctx)
                verdicts[port].add(run.retval != SHOT)

    sender = threading.Thread(target=lambda: arena.node.run(send))
    sender.start()
    for _ in range(100):
        arena.apply(second)
        arena.apply(first)
    stop.set()
    sender.join()
    assert verdicts[81] == {True}
    assert verdicts[83] == {False}
    assert verdicts[80] == verdicts[82] == {True, False}


@pytest.mark.parametrize("family", [4, 6])
def test_p5_what_is_revoked_stops_both_ways_and_its_errors_too(arena: Arena, family: int) -> None:
    closed = Policy.allow(to="app=web", from_="app=nobody")
    arena.apply([Policy.allow(**WEB_TO_DB, ports="80/udp"), closed])
    line = Line(arena)
    there, back = line.frame(family=family), line.reply(family=family)
    error = _port_unreachable(line, there, family)
    assert line.passes(there)
    assert line.passes(back, back=True)
    assert line.passes(error, back=True)
    arena.apply([Policy.deny(**WEB_TO_DB), closed])
    assert not line.passes(there)
    assert not line.passes(back, back=True)
    assert not line.passes(error, back=True)


def _port_unreachable(line: Line, packet: bytes, family: int) -> bytes:
    """db's stack says that nobody listens."""
    eth = Ether(src=line.target.mac, dst=line.target.device.host_mac)
    ends = {"src": str(line.target.address(family)), "dst": str(line.source.address(family))}
    if family == 4:
        return bytes(eth / IP(**ends) / ICMP(type=3, code=3) / packet[14:])
    return bytes(eth / IPv6(**ends, nh=58) / (struct.pack("!BBHI", 1, 4, 0, 0) + packet[14:]))


def test_p8_what_does_not_fit_leaves_the_old_rules_in_force() -> None:
    with Arena.open(sizes={"pcl_policy_set": 8}) as arena:
        arena.add(1, app("web"))
        arena.add(2, app("db"))
        arena.apply([Policy.allow(**WEB_TO_DB, ports="80/udp")])
        line = Line(arena)
        many = ",".join(f"{port}/udp" for port in range(1000, 1020, 2))
        with pytest.raises(MapFullError, match="pcl_policy_set: needs"):
            arena.dp.policies.apply([Policy.allow(**WEB_TO_DB, ports=many)])
        assert line.passes(line.frame(7000))
        assert not Line(arena, port=1000).passes(Line(arena, port=1000).frame(7001))
        assert [one.name for one in arena.dp.policies] == ["allow app=web to app=db"]


def test_d1_marks_and_other_fields_of_the_sender_are_nothing(arena: Arena) -> None:
    """A container with CAP_NET_ADMIN of its own namespace may set them all."""
    arena.apply([Policy.allow(**WEB_TO_DB, ports="80/udp")])
    arena.add(3, app("api"))
    web, api = Line(arena), Line(arena, source=3)
    fields = ("mark", "priority", "cb0", "cb1", "cb2", "cb3", "cb4")
    for number, name in enumerate(fields):
        for value in (1, 0x0F00, 0xA00, 0xFFFFFFFF, arena.ends[1].identity.number):
            assert not api.passes(api.frame(6000 + number), **{name: value})
            assert web.passes(web.frame(6000 + number), **{name: value})


def test_d2_an_address_that_moves_takes_nothing_along(arena: Arena) -> None:
    """From the first packet of its new owner on, and in connections that stand open."""
    arena.apply([Policy.allow(**WEB_TO_DB, ports="80/udp")])
    old = Line(arena)
    assert old.passes(old.frame())
    assert old.passes(old.reply(), back=True)
    arena.remove(1)
    arena.add(1, app("api"))
    new = Line(arena)
    assert not new.passes(new.frame())
    assert not new.passes(new.frame(5001))


SPOOFED = {
    "IPv4 source": lambda e: Ether(src=e.mac) / IP(src="10.1.0.2", dst="10.9.9.9") / UDP(),
    "IPv4 source outside": lambda e: Ether(src=e.mac) / IP(src="192.0.2.1", dst="10.1.0.2") / UDP(),
    "IPv6 source": lambda e: Ether(src=e.mac) / IPv6(src="fd01::2", dst="fd09::9") / UDP(),
    "unspecified": lambda e: Ether(src=e.mac) / IP(src="0.0.0.0", dst="10.1.0.2") / UDP(),
    "MAC": lambda e: Ether(src="02:00:00:00:00:99") / IP(src="10.1.0.1", dst="10.9.9.9") / UDP(),
    "MAC, IPv6": lambda e: Ether(src="02:00:00:00:00:99")
    / IPv6(src="fd01::1", dst="fd09::9") / UDP(),
    "ARP sender": lambda e: Ether(src=e.mac)
    / ARP(op=1, hwsrc=e.mac, psrc="10.1.0.2", pdst="10.1.0.9"),
    "ARP hardware": lambda e: Ether(src=e.mac)
    / ARP(op=2, hwsrc="02:00:00:00:00:99", psrc="10.1.0.1", pdst="10.1.0.9"),
    "neighbour advertisement": lambda e: Ether(src=e.mac)
    / IPv6(src="fd01::1", dst="ff02::1", hlim=255) / ICMPv6ND_NA(tgt="fd01::2"),
    "neighbour solicitation": lambda e: Ether(src=e.mac)
    / IPv6(src="fd01::2", dst="ff02::1:ff00:9", hlim=255)
    / ICMPv6ND_NS(tgt="fd01::9") / ICMPv6NDOptSrcLLAddr(lladdr=e.mac),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOOFED)
def test_d3_nobody_sends_as_somebody_else(arena: Arena, name: str) -> None:
    line = Line(arena)
    assert not line.passes(bytes(SPOOFED[name](arena.ends[1])))


def test_d4_no_spelling_of_a_packet_passes_that_its_plain_form_would_not(arena: Arena) -> None:
    """Mutated frames, judged by a second reading of their bytes."""
    arena.apply([Policy.allow(**WEB_TO_DB, ports="80/tcp,80/udp")])
    wrong = arena.shoot(5_000, Random(4), spoil=True)
    assert not wrong, wrong[0]


@pytest.mark.parametrize("length", range(9))
def test_d4_extension_headers_hide_nothing(arena: Arena, length: int) -> None:
    """Chains of 0 to 8 headers in any order: a denied port stays denied behind them."""
    arena.apply([Policy.allow(**WEB_TO_DB, ports="80/tcp")])
    pick, passed = Random(length), 0
    for number in range(60):
        chain = [pick.choice((0, 43, 60, 51, 44, 135, 59)) for _ in range(length)]
        denied = _chained(arena, chain, 22, 9000 + number)
        line = Line(arena)
        assert not line.passes(denied), chain
        passed += line.passes(_chained(arena, chain, 80, 9000 + number))
    assert passed or length > 2


def _chained(arena: Arena, chain: list[int], port: int, source_port: int) -> bytes:
    """Each header of eight bytes, a fragment header that is the only one, AH of 12."""
    line = Line(arena, port=port)
    plain = line.frame(source_port, protocol=6, family=6)
    following, data = 6, plain[54:]
    for kind in reversed(chain):
        if kind == 51:
            header = bytes((following, 1, 0, 0)) + bytes(8)
        elif kind == 43:
            header = bytes((following, 0, 2, 0)) + bytes(4)
        elif kind == 44:
            header = bytes((following, 0, 0, 0)) + bytes(4)
        else:
            header = bytes((following, 0, 1, 4, 0, 0, 0, 0))
        following, data = kind, header + data
    packet = bytearray(plain[:54] + data)
    packet[18:20] = len(data).to_bytes(2, "big")
    packet[20] = following
    return bytes(packet)


def test_d5_every_frame_ends_with_a_known_reason(arena: Arena) -> None:
    """Noise and half-noise; what is changed and sent on has right checksums."""
    arena.serve([ServiceLB("10.96.0.1:80/tcp", backends=["10.1.0.2:8080"])])
    pick, line = Random(5), Line(arena)
    packet = Tuple(line.source.address(4), ip_address("10.96.0.1"), 6, 80)
    service = question(line.source, packet, 7000, outward=True).frame()
    with load_copy(arena.dp._core, trace=False) as quiet:  # the endpoints' own stacks talk too
        for number in range(1_500):
            noise = pick.randbytes(pick.randint(54, 200))
            _total(arena, line, quiet, mutate(service, pick) if number % 2 else noise)
        out = _total(arena, line, quiet, service)
    assert (out[IP].dst, out[TCP].dport) == ("10.1.0.2", 8080)
    assert checksums_hold(bytes(out))


def _total(arena: Arena, line: Line, loaded: Any, frame: bytes) -> Any:
    """The packet out; exactly one reason was counted, and it is one that has a name."""
    before = _counts(loaded)
    program, ctx = loaded.programs["from_endpoint"], {"ifindex": line.source.ifindex}
    run = arena.node.run(lambda: program.test_run(frame, ctx=ctx))
    after = _counts(loaded)
    assert run.retval in (SHOT, REDIRECT, UNSPEC)
    counted = [number for number in after if after[number] != before[number]]
    assert len(counted) == 1, frame.hex()
    reason = REASONS(counted[0]).name
    assert reason.startswith("PCL_DROP") == (run.retval == SHOT)
    return Ether(bytes(run.data))


def _counts(loaded: Any) -> dict[int, int]:
    rows = enumerate(loaded.maps["pcl_counters"].values())
    return {number: sum(cpu.packets for cpu in row) for number, row in rows}
