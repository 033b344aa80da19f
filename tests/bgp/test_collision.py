# SPDX-License-Identifier: Apache-2.0
"""Two connections at once: who closes which, ours beside BIRD, from the same other side."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from bgp.lab import OURS, THEIRS, Bird, Wire, bird_peer
from pycilium.bgp import Peer, PeerOptions, Speaker
from pycilium.bgp.capabilities import Capabilities
from pycilium.bgp.family import Family
from pycilium.bgp.message import KEEPALIVE, Framer, MessageType, Open

pytestmark = pytest.mark.root


class End:
    """One of the two connections, read until it is closed or has a session."""

    def __init__(self, one: socket.socket, router_id: bytes) -> None:
        self.socket, self.seen = one, []
        self._framer = Framer()
        one.settimeout(5)
        families = Capabilities(families=(Family.IPV4,), asn=64512)
        self.open = Open(64512, 90, router_id, families).encode()

    def until(self, *kinds: MessageType) -> None:
        while not {kind for kind, _ in self.seen}.intersection(kinds):
            data = self.socket.recv(65536)
            assert data
            self.seen += self._framer.feed(data)

    def fate(self) -> str:
        """'6/7' for a collision's loser, 'kept' for the one that goes on."""
        self.socket.settimeout(1)
        try:
            while data := self.socket.recv(65536):
                self.seen += self._framer.feed(data)
        except TimeoutError:
            return "kept"
        except ConnectionResetError:
            pass
        (said,) = [body for kind, body in self.seen if kind is MessageType.NOTIFICATION]
        return f"{said[0]}/{said[1]}"


def collide(net: Wire, router_id: str) -> tuple[str, str]:
    """Fates of the connection that the other side opened, and of the one that we opened."""
    listener = net.here.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((OURS, 179))
    listener.listen()
    listener.settimeout(10)
    identifier = socket.inet_aton(router_id)
    theirs = End(listener.accept()[0], identifier)
    ours = End(net.here.run(lambda: socket.create_connection((THEIRS, 179), 5)), identifier)
    try:
        for one in (theirs, ours):
            one.until(MessageType.OPEN)
        for one in (theirs, ours):
            one.socket.sendall(one.open)
        for one in (theirs, ours):
            one.until(MessageType.KEEPALIVE, MessageType.NOTIFICATION)
        for one in (theirs, ours):
            with contextlib.suppress(OSError):
                one.socket.sendall(KEEPALIVE)
        return theirs.fate(), ours.fate()
    finally:
        for one in (theirs.socket, ours.socket, listener):
            one.close()


CASES = [("10.0.0.1", ("kept", "6/7")), ("10.0.0.9", ("6/7", "kept"))]


@pytest.mark.parametrize(("router_id", "fates"), CASES)
def test_ours(net, router_id, fates):
    async def main() -> None:
        options = PeerOptions(connect_retry=0.2, graceful_restart=0)
        async with Speaker(
            asn=64513, router_id=THEIRS, listen=True, make_socket=net.there.socket
        ) as speaker:
            speaker.add(Peer(OURS, asn=64512, options=options))
            assert await asyncio.to_thread(collide, net, router_id) == fates

    asyncio.run(main())


@pytest.mark.parametrize(("router_id", "fates"), CASES)
def test_birds(net, tmp_path, router_id, fates):
    with Bird(net.there, tmp_path, bird_peer(more="")):
        assert collide(net, router_id) == fates
