# SPDX-License-Identifier: Apache-2.0
"""Choosing a backend and staying with it: states, affinity, source ranges, SCTP."""

from __future__ import annotations

import time
from collections.abc import Iterable

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.sctp import SCTP, SCTPChunkData
from scapy.packet import Packet, Raw

from programs.lab import (
    DB,
    DB6,
    SHOT,
    VIP,
    VIP6,
    WEB,
    WEB6,
    Lab,
    Outcome,
    checksums_hold,
    db_frame,
    web_frame,
)

pytestmark = pytest.mark.root
OLD, NEW, THIRD = 8080, 8081, 8082  # one server, told apart by its ports
SERVICE = 20
HOUR = 3600 * 250


def l4(kind: str, flags: str = "A", sport: int = 1000, dport: int = 80) -> Packet:
    if kind == "udp":
        return UDP(sport=sport, dport=dport) / Raw(b"x")
    return TCP(sport=sport, dport=dport, flags=flags) / Raw(b"x")


def call(lab: Lab, kind: str = "tcp", flags: str = "S", sport: int = 1000) -> Outcome:
    """A packet of the client's to the service."""
    return lab.send(web_frame() / IP(src=WEB, dst=VIP) / l4(kind, flags, sport))


def answer(lab: Lab, flags: str = "A", port: int = OLD, kind: str = "tcp") -> Outcome:
    return lab.send_from_db(db_frame() / IP(src=DB, dst=WEB) / l4(kind, flags, port, 1000))


def port_of(outcome: Outcome) -> int:
    """Which backend got it; 0 for none."""
    if outcome.action == SHOT:
        return 0
    packet = outcome.packet
    return int(packet[UDP if UDP in packet else TCP].dport)


def serve(lab: Lab, *run: int, **more: int) -> None:
    """Over the first two backends, or those at these indexes."""
    for protocol in (6, 17):
        lab.set_service(VIP, 80, SERVICE, list(run), protocol=protocol, **more)


def state(lab: Lab, name: str, index: int = 20, port: int = OLD) -> None:
    lab.set_backend(index, DB, port, service=SERVICE, state=name)


@pytest.fixture
def service(lab: Lab) -> Lab:
    """A connection to the backend at 20, and another backend at 21."""
    state(lab, "ACTIVE")
    state(lab, "ACTIVE", 21, NEW)
    serve(lab, 20)
    return lab


def ports(lab: Lab, sources: Iterable[int], kind: str = "tcp") -> list[int]:
    return [port_of(call(lab, kind, sport=one)) for one in sources]


@pytest.mark.parametrize("name", ["TERMINATING", "QUARANTINED"])
def test_connections_stay_and_new_ones_go_elsewhere(service: Lab, name: str) -> None:
    assert port_of(call(service)) == OLD
    assert answer(service, "SA").action != SHOT
    serve(service, 21)
    state(service, name)
    assert port_of(call(service, flags="A")) == OLD
    assert answer(service).packet[IP].src == VIP
    assert ports(service, range(2000, 2010)) == [NEW] * 10


@pytest.mark.parametrize("name", ["GONE", "MAINTENANCE"])
@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_a_backend_that_has_left_gets_nothing(service: Lab, name: str, kind: str) -> None:
    assert port_of(call(service, kind)) == OLD
    assert answer(service, "SA", kind=kind).action != SHOT
    serve(service, 21)
    state(service, name)
    assert answer(service, kind=kind).reason == service.reasons.PCL_DROP_BACKEND_GONE
    moved = call(service, kind, flags="A")
    assert (port_of(moved), checksums_hold(moved.data)) == (NEW, True)
    assert answer(service, kind=kind, port=NEW).packet[IP].src == VIP


def test_without_another_there_is_nowhere_to_go(service: Lab) -> None:
    call(service)
    serve(service)
    state(service, "GONE")
    assert call(service, flags="A").reason == service.reasons.PCL_DROP_NO_BACKEND


def test_a_number_that_stands_for_another_is_no_backend(service: Lab) -> None:
    """The index is used again, by a server of the same service."""
    call(service)
    service.set_backend(20, DB, THIRD, service=SERVICE, number=99)
    assert answer(service).reason == service.reasons.PCL_DROP_BACKEND_GONE
    assert port_of(call(service, flags="A")) == THIRD


def test_a_slot_never_leads_to_another_service(service: Lab) -> None:
    service.set_backend(20, DB, OLD, service=SERVICE + 1)
    assert call(service).reason == service.reasons.PCL_DROP_NO_BACKEND


def test_a_port_used_again_finds_an_active_backend(service: Lab) -> None:
    call(service)
    answer(service, "SA")
    call(service, flags="FA")
    answer(service, "FA")
    serve(service, 21)
    state(service, "TERMINATING")
    assert port_of(call(service, flags="A")) == OLD
    assert port_of(call(service, flags="S")) == NEW
    assert answer(service, "SA", NEW).packet[IP].src == VIP


def test_a_handshake_that_nobody_answers_moves_on(service: Lab) -> None:
    call(service)
    serve(service, 21)
    state(service, "TERMINATING")
    assert port_of(call(service)) == NEW


def test_an_error_from_a_backend_that_has_left(service: Lab) -> None:
    call(service, "udp")
    quoted = IP(src=WEB, dst=DB) / UDP(sport=1000, dport=OLD)
    error = db_frame() / IP(src=DB, dst=WEB) / ICMP(type=3, code=3) / quoted
    assert service.send_from_db(error).action != SHOT
    state(service, "GONE")
    assert service.send_from_db(error).reason == service.reasons.PCL_DROP_ICMP_UNRELATED


def test_weights_are_slots(service: Lab) -> None:
    serve(service, 20, 20, 20, 21)
    found = ports(service, range(2000, 2400))
    assert 240 < found.count(OLD) < 360


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_a_client_keeps_to_its_backend(service: Lab, kind: str) -> None:
    serve(service, 20, 21)
    assert set(ports(service, range(2000, 2020), kind)) == {OLD, NEW}
    serve(service, 20, 21, affinity=HOUR)
    assert len(set(ports(service, range(3000, 3020), kind))) == 1


def test_affinity_ends_with_its_time(service: Lab) -> None:
    serve(service, 20, 21, affinity=1)
    found = set()
    for sport in range(2000, 2040):
        found.add(port_of(call(service, sport=sport)))
        time.sleep(0.01)  # two jiffies and more
    assert found == {OLD, NEW}


@pytest.mark.parametrize("name", ["TERMINATING", "QUARANTINED", "MAINTENANCE", "GONE"])
def test_affinity_never_picks_what_is_not_active(service: Lab, name: str) -> None:
    serve(service, 20, affinity=HOUR)
    assert ports(service, range(2000, 2003)) == [OLD] * 3
    serve(service, 21, affinity=HOUR)
    assert ports(service, range(2010, 2013)) == [OLD] * 3, "in the run or not, it is active"
    state(service, name)
    assert ports(service, range(2020, 2023)) == [NEW] * 3


def test_affinity_is_to_a_number_not_to_a_place(service: Lab) -> None:
    serve(service, 20, affinity=HOUR)
    call(service)
    service.set_backend(20, DB, THIRD, service=SERVICE, number=99)
    serve(service, 21, affinity=HOUR)
    assert port_of(call(service, sport=2000)) == NEW


@pytest.mark.parametrize(
    ("prefix", "deny", "admitted"),
    [
        ("10.1.0.0/16", 0, True),
        ("10.2.0.0/16", 0, False),
        ("0.0.0.0/0", 0, True),
        ("10.1.0.0/16", 1, False),
        ("10.2.0.0/16", 1, True),
        (f"{WEB}/32", 1, False),
    ],
)
def test_source_ranges(service: Lab, prefix: str, deny: int, admitted: bool) -> None:
    service.add_source(5, prefix)
    service.add_source(6, f"{WEB}/32")  # another set does not count
    serve(service, 20, sources=5, flags=deny)
    outcome = call(service)
    assert port_of(outcome) == (OLD if admitted else 0)
    if not admitted:
        assert outcome.reason == service.reasons.PCL_DROP_SOURCE_RANGE


@pytest.mark.parametrize(("prefix", "admitted"), [("fd00::/64", True), ("fd01::/64", False)])
def test_source_ranges_ipv6(lab: Lab, prefix: str, admitted: bool) -> None:
    lab.add_source(5, prefix)
    lab.set_service(VIP6, 80, 2, [2], sources=5)
    outcome = lab.send(web_frame() / IPv6(src=WEB6, dst=VIP6) / l4("tcp", "S"))
    assert (outcome.action != SHOT) is admitted


@pytest.mark.parametrize("family", [4, 6])
def test_sctp_keeps_its_port_and_its_checksum(lab: Lab, family: int) -> None:
    ip, vip, db, web = (IP, VIP, DB, WEB) if family == 4 else (IPv6, VIP6, DB6, WEB6)
    lab.set_backend(30, db, 80, service=30)
    lab.set_service(vip, 80, 30, [30], protocol=132)
    there = web_frame() / ip(src=web, dst=vip) / SCTP(sport=1000, dport=80) / SCTPChunkData()
    out = lab.send(there)
    assert (out.packet[ip].dst, out.packet[SCTP].dport) == (db, 80)
    assert out.packet[SCTP].chksum == type(there)(bytes(there))[SCTP].chksum
    back = db_frame() / ip(src=db, dst=web) / SCTP(sport=80, dport=1000) / SCTPChunkData()
    returned = lab.send_from_db(back)
    assert (returned.packet[ip].src, returned.packet[SCTP].sport) == (vip, 80)
    assert checksums_hold(returned.data)
