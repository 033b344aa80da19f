# SPDX-License-Identifier: Apache-2.0
"""Restarts: ours by kill -9 with BIRD, FRR and GoBGP, the peer's own, and no packet lost."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bgp.daemons import GOBGP, GoBgp, frr
from bgp.lab import OURS, THEIRS, Bird, Wire, bird_peer, until
from bgp.test_bird import eventually, learned
from pycilium.bgp import Peer, PeerOptions, Speaker, State
from pycilium.net import addresses, links, routes

pytestmark = pytest.mark.root
SPEAKER = """
import signal, sys, time
from pycilium.bgp import BlockingSpeaker, Peer, PeerOptions
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
password = sys.argv[2] or None
with BlockingSpeaker(asn=64512, router_id="10.0.0.1", listen=True) as speaker:
    speaker.peer(Peer(sys.argv[1], asn=64513, options=PeerOptions(
        graceful_restart=30, connect_retry=0.3, password=password)))
    speaker.announce(["10.96.0.10/32", "10.96.0.11/32"])
    print("announced", flush=True)
    time.sleep(600)
"""


class Process:
    """Our speaker in a process of its own, to be killed."""

    def __init__(self, net: Wire, password: str = "") -> None:
        src = str(Path(__file__).parents[2] / "src")
        self.process = net.here.popen(
            [sys.executable, "-c", SPEAKER, THEIRS, password],
            stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": src},
        )  # fmt: skip
        assert self.process.stdout.readline() == b"announced\n"

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()


class Pings:
    """Numbered datagrams from the router's side to an announced address, and what came."""

    def __init__(self, net: Wire) -> None:
        self.sent, self.came, self._stop = 0, 0, threading.Event()
        lo = links.get("lo", ns=net.here).index
        addresses.add("10.96.0.10/32", lo, ns=net.here)
        self._receiver = net.here.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._receiver.bind(("10.96.0.10", 9))
        self._receiver.settimeout(0.5)
        self._sender = net.there.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._threads = [threading.Thread(target=one) for one in (self._receive, self._send)]
        for one in self._threads:
            one.start()

    def _send(self) -> None:
        while not self._stop.is_set():
            self._sender.sendto(b"x", ("10.96.0.10", 9))
            self.sent += 1
            time.sleep(0.001)

    def _receive(self) -> None:
        while True:
            try:
                self._receiver.recv(16)
            except TimeoutError:
                return
            self.came += 1

    def stop(self) -> tuple[int, int]:
        self._stop.set()
        for one in self._threads:
            one.join()
        self._sender.close()
        self._receiver.close()
        return self.sent, self.came


KERNEL = "protocol kernel { ipv4 { import none; export all; }; }\n"


def test_kill_9_loses_no_packet_on_the_way_through_bird(net, tmp_path):
    config = KERNEL + bird_peer("graceful restart on;")
    with Bird(net.there, tmp_path, config) as bird:
        first = Process(net)
        until(lambda: bird.count() == 2)
        until(
            lambda: any("10.96.0.10" in str(r.destination) for r in routes.list_all(ns=net.there))
        )
        pings = Pings(net)
        for _ in range(2):
            time.sleep(0.1)
            first.kill()
            until(lambda: not bird.is_up)
            assert bird.count() == 2
            first = Process(net)
            until(lambda: bird.is_up and bird.count() == 2)
            until(lambda: "Neighbor graceful restart active" not in bird.protocol())
        sent, came = pings.stop()
        assert sent > 200
        assert came == sent
        first.process.send_signal(signal.SIGINT)  # leaves by its context: withdrawn
        first.process.wait()
        first.process.stdout.close()
        until(lambda: bird.count() == 0)


@pytest.mark.parametrize("kind", ["frr", "gobgp"])
def test_kill_9_with_other_peers(net, tmp_path, kind):
    if kind == "gobgp":
        with GoBgp(net.there, tmp_path, GOBGP) as router:
            _survives(net, lambda: len(router.routes()) == 2,
                      lambda: "ESTABLISHED" in router.neighbour().upper(), "s3cret")  # fmt: skip
        return
    with frr(net.there) as router:
        router.configure(
            f"router bgp 64513\n bgp router-id {THEIRS}\n no bgp ebgp-requires-policy\n"
            f" bgp graceful-restart\n neighbor {OURS} remote-as 64512\n"
            f" neighbor {OURS} timers connect 1"
        )
        _survives(net, lambda: len(router.routes()) == 2, lambda: router.is_up, "")


def _survives(
    net: Wire, has_both: Callable[[], bool], is_up: Callable[[], bool], password: str
) -> None:
    first = Process(net, password)
    until(has_both, 20)
    first.kill()
    until(lambda: not is_up())
    for _ in range(5):
        assert has_both()
        time.sleep(0.05)
    second = Process(net, password)
    until(is_up, 20)
    for _ in range(10):
        assert has_both()
        time.sleep(0.05)
    second.kill()


def test_birds_restart_keeps_its_routes_with_us(net, tmp_path):
    static = (
        "protocol static s4 { ipv4; route 192.0.2.0/24 blackhole; route 192.0.3.0/24 blackhole; }"
    )
    config = bird_peer("graceful restart on;") + static

    async def main() -> None:
        async with Speaker(
            asn=64512, router_id=OURS, listen=True, make_socket=net.here.socket
        ) as speaker:
            options = PeerOptions(connect_retry=0.3)
            peer = await speaker.peer(Peer(THEIRS, asn=64513, options=options))
            await eventually(lambda: learned(speaker, "192.0.3.0/24"))
            bird.kill()
            await eventually(lambda: peer.state is not State.ESTABLISHED)
            assert learned(speaker, "192.0.2.0/24")
            less = bird_peer("graceful restart on;") + static.replace(
                "route 192.0.3.0/24 blackhole;", "")  # fmt: skip
            with Bird(net.there, tmp_path, less, recover=True) as again:
                await peer.established(15)
                assert learned(speaker, "192.0.2.0/24")
                await eventually(lambda: not learned(speaker, "192.0.3.0/24"), 20)
                assert learned(speaker, "192.0.2.0/24")
                assert again.is_up

    with Bird(net.there, tmp_path, config) as bird:
        asyncio.run(main())


def test_leaving_gracefully_and_leaving_for_good(net, tmp_path):
    async def visit(*, graceful: bool) -> None:
        speaker = Speaker(asn=64512, router_id=OURS, listen=True, make_socket=net.here.socket)
        await speaker.start()
        await speaker.peer(THEIRS, asn=64513, options=PeerOptions(connect_retry=0.3))
        speaker.announce(["10.96.0.10/32"])
        await eventually(lambda: bird.count() == 1)
        await speaker.close(graceful=graceful)

    with Bird(net.there, tmp_path, bird_peer("graceful restart on;")) as bird:
        asyncio.run(visit(graceful=True))
        until(lambda: not bird.is_up)
        assert bird.count() == 1
        asyncio.run(visit(graceful=False))
        until(lambda: bird.count() == 0)
