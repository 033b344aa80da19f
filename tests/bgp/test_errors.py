# SPDX-License-Identifier: Apache-2.0
"""Malformed UPDATEs: what RFC 7606 says, what we do, and what BIRD does with the same octets."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from pathlib import Path

import attrs
import pytest

from bgp.lab import OURS, THEIRS, Bird, Wire, bird_peer, until
from pycilium.bgp import Peer, PeerOptions, Speaker, State
from pycilium.bgp.as_path import AsPath
from pycilium.bgp.attributes import Attributes
from pycilium.bgp.capabilities import Capabilities
from pycilium.bgp.encode import attribute, encode_reach
from pycilium.bgp.errors import ProtocolError
from pycilium.bgp.family import Family
from pycilium.bgp.message import KEEPALIVE, Framer, MessageType, Open, frame
from pycilium.bgp.negotiation import Negotiated
from pycilium.bgp.prefix import parse_prefix
from pycilium.bgp.update import UpdateDecoder

SESSION = Negotiated(64512, 64513, enforce_first_as=True, local_address=bytes((10, 0, 0, 2)))
PREFIX = parse_prefix("192.0.2.0/24")[1]
KEPT, GONE = "kept", "withdrawn"
ORIGIN = attribute(1, 0x40, b"\0")
PATH = attribute(2, 0x40, struct.pack("!BBI", 2, 1, 64513))
HOP = attribute(3, 0x40, bytes((10, 0, 0, 9)))


@attrs.frozen
class Case:
    """Octets, and what comes of the route 192.0.2.0/24 that was announced before."""

    name: str
    block: bytes
    outcome: str  # KEPT, GONE or the code and subcode of a NOTIFICATION
    nlri: bytes = PREFIX
    total: int | None = None
    bird: str | None = None  # where BIRD 2.0.12 does otherwise


CASES = [
    Case("ORIGIN of value 3", attribute(1, 0x40, b"\3") + PATH + HOP, GONE),
    Case("ORIGIN of two octets", attribute(1, 0x40, b"\0\0") + PATH + HOP, GONE),
    Case("ORIGIN with the flags of an optional one", attribute(1, 0x80, b"\0") + PATH + HOP, GONE),
    Case("no NEXT_HOP", ORIGIN + PATH, GONE),
    Case("no ORIGIN", PATH + HOP, GONE),
    Case("a segment beyond AS_PATH", ORIGIN + attribute(2, 0x40, b"\2\5\0\0\xfc\1") + HOP, GONE),
    Case("an empty segment", ORIGIN + attribute(2, 0x40, b"\2\0") + HOP, GONE),
    Case("a segment of type 9", ORIGIN + attribute(2, 0x40, b"\x09\1\0\0\xfc\1") + HOP, GONE),
    Case("NEXT_HOP of five octets", ORIGIN + PATH + attribute(3, 0x40, bytes(5)), GONE),
    Case("MED of two octets", ORIGIN + PATH + HOP + attribute(4, 0x80, b"\0\1"), GONE),
    Case("COMMUNITIES of three octets", ORIGIN + PATH + HOP + attribute(8, 0xC0, bytes(3)), GONE),
    Case("large communities of eleven", ORIGIN + PATH + HOP + attribute(32, 0xC0, bytes(11)), GONE),
    Case("ext. communities of seven", ORIGIN + PATH + HOP + attribute(16, 0xC0, bytes(7)), GONE),
    Case("OTC of three octets", ORIGIN + PATH + HOP + attribute(35, 0xC0, bytes(3)), GONE),
    Case("unknown, marked well-known", ORIGIN + PATH + HOP + attribute(99, 0x40, b"x"), GONE),
    Case("an attribute longer than the rest", ORIGIN + PATH + HOP + b"\x80\4\x20\0", GONE),
    Case("an unknown one longer than the rest", ORIGIN + PATH + HOP + b"\xc0\x63\x20\0", GONE),
    Case("ORIGIN twice", ORIGIN + PATH + HOP + attribute(1, 0x40, b"\2"), KEPT),
    Case("AGGREGATOR of three octets", ORIGIN + PATH + HOP + attribute(7, 0xC0, bytes(3)), KEPT),
    Case("ATOMIC_AGGREGATE of one octet", ORIGIN + PATH + HOP + attribute(6, 0x40, b"x"), KEPT),
    Case("LOCAL_PREF from outside", ORIGIN + PATH + HOP + attribute(5, 0x40, bytes(4)), KEPT),
    Case("unknown, optional, transitive", ORIGIN + PATH + HOP + attribute(99, 0xC0, b"x"), KEPT),
    Case("attributes beyond the message", ORIGIN + PATH + HOP, "3/1", total=500),
    Case("a prefix of 33 bits", ORIGIN + PATH + HOP, "3/10", nlri=b"\x21\1\2\3\4\5"),
    Case("a prefix that is cut off", ORIGIN + PATH + HOP, "3/1", nlri=b"\x18\1\2"),
    Case("MP_REACH twice", (attribute(14, 0x80, b"\0\1\1\4\x0a\0\0\2\0\x18\1\2\3") * 2) + ORIGIN
         + PATH, "3/1", nlri=b"", bird="3/1"),
    Case("MP_REACH of three octets", ORIGIN + PATH + attribute(14, 0x80, b"\0\1\1"), "3/9",
         nlri=b""),
    Case("a next hop that is ours", ORIGIN + PATH + attribute(3, 0x40, bytes((10, 0, 0, 2))), GONE),
    Case("a next hop on loopback", ORIGIN + PATH + attribute(3, 0x40, bytes((127, 0, 0, 1))), GONE),
    Case("AS_PATH that starts with another AS",
         ORIGIN + attribute(2, 0x40, struct.pack("!BBI", 2, 1, 65000)) + HOP, GONE, bird=KEPT),
]  # fmt: skip


def message(case: Case) -> bytes:
    total = len(case.block) if case.total is None else case.total
    body = b"\0\0" + total.to_bytes(2, "big") + case.block + case.nlri
    return frame(MessageType.UPDATE, body)


def good(text: str) -> bytes:
    one = Attributes(as_path=AsPath.of(64513), next_hop=bytes((10, 0, 0, 9)))
    return next(encode_reach(Family.IPV4, one, [parse_prefix(text)[1]]))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_codec(case: Case):
    decoder = UpdateDecoder(SESSION)
    body = message(case)[19:]
    if "/" in case.outcome:
        with pytest.raises(ProtocolError) as caught:
            decoder.decode(body)
        said = caught.value.notification
        assert f"{said.code}/{said.subcode}" == case.outcome
        return
    update = decoder.decode(body)
    assert bool(update.announced) == (case.outcome == KEPT)
    assert bool(update.withdrawn) == (case.outcome == GONE)
    told = case.name != "unknown, optional, transitive"
    assert bool(update.problems) == told
    assert decoder.decode(body).problems == update.problems  # nothing wrong is remembered as right


class RawPeer:
    """A peer that says exactly what it is told."""

    def __init__(self, net: Wire, where: str, asn: int, *, bind: str) -> None:
        self.socket = net.here.run(lambda: socket.create_connection((where, 179), 5, (bind, 0)))
        families = Capabilities(families=(Family.IPV4,), asn=asn)
        self.framer = Framer()
        self.found: list[tuple[MessageType, bytes]] = []
        router = bytes(map(int, bind.split(".")))
        self.socket.sendall(Open(asn, 90, router, families).encode() + KEEPALIVE)

    @classmethod
    def established(cls, net: Wire, where: str, asn: int, *, bind: str) -> RawPeer:
        """Again and again, as long as the other side still waits after an error."""
        end = time.monotonic() + 10
        while True:
            one = cls(net, where, asn, bind=bind)
            try:
                one.wait_for(MessageType.KEEPALIVE)
            except (ConnectionError, AssertionError):
                one.close()
                assert time.monotonic() < end
                time.sleep(0.05)
            else:
                return one

    def wait_for(self, kind: MessageType) -> bytes:
        while True:
            for one, body in self.found:
                if one is kind:
                    return body
            data = self.socket.recv(65536)
            assert data, f"closed without {kind.name}"
            self.found += self.framer.feed(data)

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    @property
    def notification(self) -> str | None:
        """What has come so far."""
        self.socket.settimeout(0.05)
        try:
            while data := self.socket.recv(65536):
                self.found += self.framer.feed(data)
        except OSError:
            pass
        bodies = [body for kind, body in self.found if kind is MessageType.NOTIFICATION]
        return f"{bodies[0][0]}/{bodies[0][1]}" if bodies else None

    def close(self) -> None:
        self.socket.close()


def judged_by_bird(net: Wire, bird: Bird, case: Case) -> str:
    raw = RawPeer.established(net, THEIRS, 64513, bind=OURS)
    try:
        raw.send(good("192.0.2.0/24"))
        until(lambda: bird.count() == 1)
        raw.send(message(case))
        if "/" in (case.bird or case.outcome):
            return until(lambda: raw.notification, 5)
        raw.send(good("198.51.100.0/24"))  # once this is there, the one before was judged
        until(lambda: "198.51.100.0/24" in bird.routes() or raw.notification)
        return raw.notification or (KEPT if "192.0.2.0/24" in bird.routes() else GONE)
    finally:
        raw.close()
        until(lambda: not bird.is_up)


@pytest.mark.root
def test_bird_does_the_same(net: Wire, tmp_path: Path):
    """But for what RFC 7606 leaves open, where the table says what BIRD does."""
    config = bird_peer("passive; error wait time 1,1;", remote=64513, asn=64512, more="")
    with Bird(net.there, tmp_path, config) as bird:
        judged = {case.name: judged_by_bird(net, bird, case) for case in CASES}
    assert judged == {case.name: case.bird or case.outcome for case in CASES}


async def soon(question) -> None:
    async with asyncio.timeout(5):
        while not question():
            await asyncio.sleep(0.005)


async def judged_by_us(net: Wire, speaker: Speaker, case: Case) -> str:
    running, table = speaker.peers[OURS], speaker.router.tables[Family.IPV4]
    running.stop()
    running.start()
    raw = await asyncio.to_thread(RawPeer.established, net, THEIRS, 64513, bind=OURS)
    try:
        await running.established(5)
        raw.send(good("192.0.2.0/24"))
        await soon(lambda: len(table) == 1)
        raw.send(message(case) + good("198.51.100.0/24"))
        await soon(lambda: running.state is not State.ESTABLISHED or CHECK in table)
        if running.state is State.ESTABLISHED:
            return KEPT if PREFIX in table else GONE
        assert len(table) == 0
        said = await asyncio.to_thread(lambda: raw.notification)
        assert f"({said})" in running.reason
        return said
    finally:
        raw.close()
        await soon(lambda: running.state is not State.ESTABLISHED)


CHECK = parse_prefix("198.51.100.0/24")[1]


@pytest.mark.root
def test_the_speaker_does_it_on_real_sockets(net: Wire):
    async def main() -> dict[str, str]:
        options = PeerOptions(passive=True, graceful_restart=0)
        async with Speaker(
            asn=64512,
            router_id=THEIRS,
            peers=[Peer(OURS, asn=64513, options=options)],
            listen=True,
            make_socket=net.there.socket,
        ) as speaker:
            found = {case.name: await judged_by_us(net, speaker, case) for case in CASES}
            counted = speaker.router.counts[OURS].problems
            assert "NEXT_HOP: mandatory and missing; taken as withdrawn" in counted
            return found

    assert asyncio.run(main()) == {case.name: case.outcome for case in CASES}
