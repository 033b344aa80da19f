# SPDX-License-Identifier: Apache-2.0
"""The speaker itself on real sockets: crowds, slow peers, death notices, the blocking side."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from bgp.lab import OURS, THEIRS, Bird, Wire, bird_peer, until
from bgp.test_bird import eventually, learned
from bgp.test_errors import RawPeer, good
from pycilium.bgp import (
    Action,
    BlockingSpeaker,
    BmpStation,
    DynamicPeers,
    Family,
    KernelRoutes,
    Peer,
    PeerChanged,
    PeerError,
    PeerOptions,
    Route,
    RouteChanged,
    RouteGroup,
    RulePolicy,
    Speaker,
    State,
)
from pycilium.bgp.message import Framer, MessageType
from pycilium.bgp.prefix import parse_prefix
from pycilium.errors import ClosedError, ConflictError, KernelError, SpecError
from pycilium.net import Fib, NetNS

pytestmark = pytest.mark.root
FAST = PeerOptions(connect_retry=0.3)
PASS = RulePolicy((), Action.ACCEPT, "pass")
SRC = str(Path(__file__).parents[2] / "src")


def pair(net: Wire, **right: object) -> tuple[Speaker, Speaker]:
    left = Speaker(asn=64512, router_id=OURS, listen=True, make_socket=net.here.socket)
    return left, Speaker(
        asn=64513, router_id=THEIRS, listen=True, make_socket=net.there.socket, **right
    )


def test_two_of_ours_that_connect_at_once_end_with_one_connection(net):
    async def main() -> None:
        left, right = pair(net)
        async with left, right:
            for _ in range(10):
                one = left.add(Peer(THEIRS, asn=64513, options=FAST))
                two = right.add(Peer(OURS, asn=64512, options=FAST))
                await asyncio.gather(one.established(10), two.established(10))
                await asyncio.sleep(0.02)
                assert one.state is two.state is State.ESTABLISHED
                assert len(one.machine.sessions) == len(two.machine.sessions) == 1
                await asyncio.gather(left.remove(THEIRS), right.remove(OURS))

    asyncio.run(main())


def test_a_hundred_peers(net):
    count = 100

    async def main() -> None:
        for n in range(count):
            net.address_there(f"10.0.1.{n + 1}/16")
        net.address_here("10.0.2.1/16")
        group = DynamicPeers("10.0.1.0/24", asns=[64513], options=FAST)
        async with Speaker(
            asn=64512, router_id=OURS, dynamic=[group], listen=True, make_socket=net.here.socket
        ) as hub:
            hub.announce([RouteGroup(f"10.96.{n}.0/24" for n in range(200))])
            spokes = [
                Speaker(asn=64513, router_id=f"10.0.1.{n + 1}", listen=False,
                        make_socket=net.there.socket)
                for n in range(count)
            ]  # fmt: skip
            for n, spoke in enumerate(spokes):
                await spoke.start()
                options = attrs.evolve(FAST, local_address=f"10.0.1.{n + 1}")
                spoke.add(Peer("10.0.2.1", asn=64512, options=options))
                spoke.announce([f"192.0.{n}.0/24"])
            await eventually(
                lambda: all(len(one.router.tables[Family.IPV4]) == 201 for one in spokes), 30
            )
            assert len(hub.router.tables[Family.IPV4]) == 200 + count
            await asyncio.gather(*(one.close() for one in spokes))
            await eventually(lambda: len(hub.router.tables[Family.IPV4]) == 200)

    asyncio.run(main())


def test_a_dynamic_peer_that_is_gone_makes_room(net, monkeypatch):
    async def main() -> None:
        monkeypatch.setattr("pycilium.bgp.speaker._STRANGER", 0.1)
        options = PeerOptions(graceful_restart=0)
        group = DynamicPeers("10.0.0.0/24", asns=[64513], limit=1, options=options)
        async with Speaker(
            asn=64512, router_id=THEIRS, dynamic=[group], listen=True, make_socket=net.there.socket
        ) as speaker:
            for _ in range(2):
                raw = await asyncio.to_thread(RawPeer.established, net, THEIRS, 64513, bind=OURS)
                await speaker.peers[OURS].established(5)
                raw.close()
                await eventually(lambda: speaker.peers == {} and not speaker.router.neighbours)

    asyncio.run(main())


def test_a_slow_peer_costs_little_and_gets_the_last_state(net):
    """It reads nothing while everything changes many times; then it reads."""

    async def main() -> None:
        options = PeerOptions(passive=True, graceful_restart=0)
        async with Speaker(
            asn=64512, router_id=THEIRS, peers=[Peer(OURS, asn=64513, options=options)],
            listen=True, make_socket=net.there.socket,
        ) as speaker:  # fmt: skip
            raw = await asyncio.to_thread(RawPeer.established, net, THEIRS, 64513, bind=OURS)
            running = speaker.peers[OURS]
            await running.established(5)
            texts = [f"{20 + n // 65536}.{n // 256 % 256}.{n % 256}.0/24" for n in range(40_000)]
            for turn in range(6):
                speaker.announce([Route(one, med=n + turn) for n, one in enumerate(texts)])
                await asyncio.sleep(0.3)
            connection = next(iter(running._connections.values()))
            assert not connection.writable
            assert connection.transport.get_write_buffer_size() < 8 << 20
            out = speaker.router.neighbours[OURS].adj_out[Family.IPV4]
            assert 0 < out.pending <= 80_000
            speaker.announce([Route(texts[0], med=99)])
            held = await asyncio.to_thread(_read_until, raw, texts[0])
            assert held == {parse_prefix(texts[0])[1]: 99}
            assert running.state is State.ESTABLISHED
            raw.close()

    asyncio.run(main())


def _read_until(raw: RawPeer, last: str) -> dict[bytes, int]:
    """What a peer that reads everything believes when nothing more comes."""
    from pycilium.bgp.negotiation import Negotiated
    from pycilium.bgp.update import UpdateDecoder

    decoder, held = UpdateDecoder(Negotiated(64513, 64512)), {}
    raw.socket.settimeout(1)
    messages = list(raw.found)
    framer = raw.framer
    while True:
        for kind, body in messages:
            if kind is MessageType.UPDATE:
                update = decoder.decode(body)
                for _, gone in update.withdrawn:
                    for one in gone:
                        held.pop(one, None)
                for _, some, attributes in update.announced:
                    held.update(dict.fromkeys(some, attributes.med))
        try:
            data = raw.socket.recv(1 << 20)
        except TimeoutError:
            return held
        assert data
        messages = list(framer.feed(data))


def test_garbage_ends_a_session_and_nothing_else(net):
    async def main() -> None:
        options = PeerOptions(passive=True)
        async with Speaker(
            asn=64512, router_id=THEIRS, peers=[Peer(OURS, asn=64513, options=options)],
            listen=True, make_socket=net.there.socket,
        ) as speaker:  # fmt: skip
            for junk in (b"GET / HTTP/1.1\r\n\r\n", os.urandom(100_000), b"\xff" * 5000):
                one = net.here.run(lambda: socket.create_connection((THEIRS, 179), 5, (OURS, 0)))
                one.settimeout(5)
                one.sendall(junk)
                seen = await asyncio.to_thread(_everything, one)
                one.close()
                kinds = [kind for kind, _ in Framer().feed(seen)]
                assert kinds[:1] == [MessageType.OPEN]
                running = speaker.peers[OURS]
                await eventually(lambda: "message header error" in speaker.peers[OURS].reason)
                running.stop()
                running.start()

    asyncio.run(main())


def _everything(one: socket.socket) -> bytes:
    found = b""
    try:
        while data := one.recv(65536):
            found += data
    except ConnectionResetError:  # what was not read by the other side
        pass
    return found


def test_a_stranger_is_not_answered(net):
    async def main() -> None:
        async with Speaker(asn=64512, router_id=THEIRS, listen=True, make_socket=net.there.socket):
            one = net.here.run(lambda: socket.create_connection((THEIRS, 179), 5, (OURS, 0)))
            assert await asyncio.to_thread(_everything, one) == b""
            one.close()

    asyncio.run(main())


class Watch:
    """A Liveness that a test holds in its hand."""

    def __init__(self) -> None:
        self.watched: list[tuple[str, str]] = []
        self.changed: Callable[[bool], None] | None = None

    def watch(self, local: str, remote: str, changed: Callable[[bool], None]):
        self.watched.append((local, remote))
        self.changed = changed
        return lambda: self.watched.append(("unwatched", remote))


def test_a_path_that_is_known_to_be_down_ends_the_session_at_once(net):
    async def main() -> None:
        watch = Watch()
        left, right = pair(net, liveness=watch)
        async with left, right:
            one = left.add(Peer(THEIRS, asn=64513, options=FAST))
            two = await right.peer(Peer(OURS, asn=64512, options=FAST))
            left.announce(["192.0.2.0/24"])
            await eventually(lambda: learned(right, "192.0.2.0/24"))
            assert watch.watched == [(THEIRS, OURS)]
            await asyncio.to_thread(watch.changed, False)  # from another thread, as BFD would
            await eventually(lambda: not learned(right, "192.0.2.0/24"))
            assert "BFD down (6/10)" in one.reason
            assert watch.watched[-1] == ("unwatched", OURS)
            await two.established(5)
            await eventually(lambda: learned(right, "192.0.2.0/24"))

    asyncio.run(main())


def test_routes_learned_go_on_to_others_by_policy_and_into_the_kernel(net):
    async def main() -> None:
        left, right = pair(net)
        async with left, right:
            kernel = KernelRoutes(Fib(ns=net.there))
            feed = right.events(routes=True)
            following = asyncio.create_task(kernel.follow(feed))
            left.announce(["192.0.2.0/24"])
            left.add(Peer(THEIRS, asn=64513, options=FAST))
            await right.peer(Peer(OURS, asn=64512, options=FAST))
            fib = Fib(ns=net.there)
            await eventually(lambda: fib.gateways("192.0.2.0/24") == [OURS])
            left.announce([])
            await eventually(lambda: fib.gateways("192.0.2.0/24") == [])
            left.announce(["192.0.2.0/24", "192.0.3.0/24"])
            await eventually(lambda: len(kernel.installed) == 2)
            feed.close()
            await following
        again = KernelRoutes(Fib(ns=net.there))  # the next run: what was left stays, then goes
        assert set(fib.prefixes()) == {"192.0.2.0/24", "192.0.3.0/24"}
        again.apply(RouteChanged(Family.IPV4, parse_prefix("192.0.2.0/24")[1], ()))
        again.forget_old()
        assert fib.prefixes() == []

    asyncio.run(main())


def test_equal_paths_become_one_route_with_several_gateways(net):
    fib = Fib(ns=net.here)
    fib.replace("192.0.2.0/24", ["10.0.0.2", "10.0.0.3"])
    assert fib.gateways("192.0.2.0/24") == ["10.0.0.2", "10.0.0.3"]
    fib.replace("192.0.2.0/24", ["fd00::2"])
    assert fib.gateways("192.0.2.0/24") == ["fd00::2"]
    fib.replace("fd10::/64", ["fd00::2", "fd00::3"])
    assert fib.gateways("fd10::/64") == ["fd00::2", "fd00::3"]
    for prefix in fib.prefixes():
        fib.remove(prefix)
        fib.remove(prefix)
    with pytest.raises(KernelError):
        fib.replace("192.0.2.0/24", ["203.0.113.1"])
    with pytest.raises(SpecError, match="host bits"):
        fib.replace("192.0.2.1/24", ["10.0.0.2"])


def test_events(net):
    async def main() -> None:
        left, right = pair(net)
        async with left, right:
            feed = left.events(routes=True)
            right.announce(["192.0.2.0/24"])
            right.add(Peer(OURS, asn=64512, options=FAST))
            await left.peer(Peer(THEIRS, asn=64513, options=FAST))
            states, routes = [], []
            async for event in feed:
                if isinstance(event, PeerChanged):
                    states.append(event.state)
                elif isinstance(event, RouteChanged):
                    routes.append((event.prefix, len(event.paths)))
                    right.announce([])
                if ("192.0.2.0/24", 0) in routes:
                    break
            assert states[-1] is State.ESTABLISHED
            assert routes == [("192.0.2.0/24", 1), ("192.0.2.0/24", 0)]

    asyncio.run(main())


def test_the_blocking_side(net, tmp_path):
    with Bird(net.there, tmp_path, bird_peer()) as bird:
        speaker = BlockingSpeaker(
            asn=64512, router_id=OURS, listen=True, make_socket=net.here.socket
        )
        with pytest.raises(ClosedError):
            speaker.announce([])
        with speaker:
            events = speaker.events(timeout=5)
            assert threading.active_count() >= 2
            first = threading.Thread(target=lambda: seen.append(next(events).peer))
            seen: list[str] = []
            first.start()
            speaker.peer(Peer(THEIRS, asn=64513, options=FAST))
            first.join(10)
            events.close()
            assert seen == [THEIRS]
            assert speaker.announce(["10.96.0.10/32"]).added == 1
            until(lambda: bird.count() == 1)
            assert speaker.why("10.96.0.10/32")[THEIRS].announced
            assert speaker.states() == {THEIRS: State.ESTABLISHED}
            with pytest.raises(SpecError, match="no bits beyond"):
                speaker.announce(["10.0.0.1/8"])
            with pytest.raises(ConflictError):
                speaker.add(Peer(THEIRS, asn=64513))
            with pytest.raises(PeerError, match=r"10\.0\.0\.77"):
                speaker.peer("10.0.0.77", asn=64513, timeout=0.2)
            speaker.remove("10.0.0.77")
        until(lambda: bird.count() == 0)
        speaker.close()


def test_a_port_that_is_taken_is_said(net):
    async def main() -> None:
        async with Speaker(asn=64512, router_id=OURS, listen=True, make_socket=net.here.socket):
            with pytest.raises(KernelError, match=r"listen on 0.0.0.0 port 179.*listen=False"):
                await Speaker(
                    asn=64512, router_id=OURS, listen=True, make_socket=net.here.socket
                ).start()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"asn": 0}, "asn"),
        ({"router_id": "fd00::1"}, "router_id"),
        ({"router_id": "0.0.0.0"}, "router_id"),
        ({"listen": ["here"]}, "listen"),
    ],
)
def test_speakers_that_are_refused(fields, said):
    with pytest.raises(SpecError, match=said):
        Speaker(**{"asn": 64512, "router_id": OURS, **fields})


class Station:
    """A BMP station that keeps what it hears."""

    def __init__(self) -> None:
        self.heard = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            self.heard += data
        writer.close()

    def kinds(self) -> list[int]:
        found, at = [], 0
        while at + 6 <= len(self.heard):
            found.append(self.heard[at + 5])
            at += int.from_bytes(self.heard[at + 1 : at + 5], "big")
        return found


def test_a_bmp_station_hears_everything(net):
    async def main() -> None:
        left, right = pair(net)
        station = Station()
        server = await asyncio.start_server(station.serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with left, right, server:
            monitor = BmpStation(left, "127.0.0.1", port)
            left.add(Peer(THEIRS, asn=64513, options=FAST))
            two = await right.peer(Peer(OURS, asn=64512, options=FAST))
            right.announce(["192.0.2.0/24"])
            await eventually(lambda: learned(left, "192.0.2.0/24"))
            monitor.start()
            await eventually(lambda: station.kinds().count(0) >= 3)
            assert station.kinds()[:2] == [4, 3]
            before = len(station.kinds())
            right.announce([])
            await eventually(lambda: len(station.kinds()) > before)
            two.stop()
            await eventually(lambda: 2 in station.kinds())
            await monitor.close()
            await eventually(lambda: station.kinds()[-1] == 5)
            assert parse_prefix("192.0.2.0/24")[1] in station.heard

    asyncio.run(main())


def pycilium(net: Wire, *words: str) -> tuple[int, str]:
    env = {**os.environ, "PYTHONPATH": SRC}
    process = net.here.popen(
        [sys.executable, "-m", "pycilium", "bgp", *words],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env,
    )  # fmt: skip
    out, _ = process.communicate(timeout=30)
    return process.returncode, out.decode(errors="replace")


def test_the_command_line(net, tmp_path):
    config = tmp_path / "bgp.yaml"
    config.write_text(
        "speaker: {asn: 64512, routerId: 10.0.0.1}\n"
        "peers: [{address: 10.0.0.2, asn: 64513, connectRetry: 0.3, password: hunter2}]\n"
        "announce: [10.96.0.10/32]\n"
    )
    where = tmp_path / "run" / "bgp.sock"
    at = ("-s", str(where))
    body = bird_peer('password "hunter2"; graceful restart on;')
    body += "protocol static s4 { ipv4; route 192.0.2.0/24 blackhole; }"
    with Bird(net.there, tmp_path / "bird", body) as bird:
        checked = pycilium(net, "run", "-f", str(config), "--check")
        assert checked == (0, "AS 64512, 1 peers, 1 routes\n")
        env = {**os.environ, "PYTHONPATH": SRC}
        running = net.here.popen(
            [sys.executable, "-m", "pycilium", "bgp", "run", "-f", str(config), *at],
            stderr=subprocess.PIPE, env=env,
        )  # fmt: skip
        until(lambda: bird.count() == 1)
        code, shown = pycilium(net, "peers", *at)
        assert (code, "Established" in shown) == (0, True)
        until(lambda: "192.0.2.0/24" in pycilium(net, "routes", *at)[1])
        assert pycilium(net, "announce", "10.97.0.0/24", "--med", "5", *at)[1].startswith("1 added")
        until(lambda: bird.count() == 2)
        assert "announced: next hop 10.0.0.1" in pycilium(net, "why", "10.97.0.0/24", *at)[1]
        code, shown = pycilium(net, "announce", "10.97.0.1/24", *at)
        assert (code, "10.97.0.0/24 contains it" in shown) == (2, True)
        dump = tmp_path / "table.mrt"
        with dump.open("wb") as out:
            net.here.popen(
                [sys.executable, "-m", "pycilium", "bgp", "routes", "-o", "mrt", *at],
                stdout=out, env=env,
            ).wait(30)  # fmt: skip
        from pycilium.bgp import read_mrt

        prefixes = {one.prefix for one in read_mrt(io.BytesIO(dump.read_bytes()))}
        assert prefixes == {"10.96.0.10/32", "10.97.0.0/24", "192.0.2.0/24"}
        assert pycilium(net, "announce", *at)[1].endswith("1 removed\n")
        rows = json.loads(pycilium(net, "peers", "-o", "json", *at)[1])
        assert rows[0]["sent"] == 1
        running.send_signal(signal.SIGTERM)
        _, said = running.communicate(timeout=10)
        assert running.returncode == 0
        until(lambda: bird.count() == 0)
        assert b"hunter2" not in said
        code, shown = pycilium(net, "peers", *at)
        assert (code, "a running" in shown) == (2, True)


def test_the_control_socket_is_the_owners_alone(net, tmp_path):
    config = tmp_path / "bgp.yaml"
    config.write_text("speaker: {asn: 64512, routerId: 10.0.0.1}\n")
    tmp_path.chmod(0o755)
    code, said = pycilium(net, "run", "-f", str(config), "-s", str(tmp_path / "bgp.sock"))
    assert (code, "mode 0700" in said) == (2, True)


def test_the_example_announces_while_the_backend_answers(net, tmp_path):
    example = Path(__file__).parents[2] / "examples" / "bgp_speaker.py"
    assert len(example.read_text().splitlines()) <= 20
    env = {**os.environ, "PYTHONPATH": SRC}
    with Bird(net.there, tmp_path, bird_peer()) as bird:
        server = net.here.socket(socket.AF_INET, socket.SOCK_STREAM)
        server.bind((OURS, 8080))
        server.listen()
        words = [THEIRS, OURS, "10.96.0.10:80/tcp", f"{OURS}:8080"]
        running = net.here.popen([sys.executable, str(example), *words], env=env)
        until(lambda: bird.count() == 1, 20)
        server.close()
        until(lambda: bird.count() == 0, 1.0)  # a second, by the specification
        running.send_signal(signal.SIGINT)
        running.wait(10)


def test_the_example_of_two_nodes(net):
    example = Path(__file__).parents[2] / "examples" / "anycast_lb.py"
    done = subprocess.run(
        [sys.executable, "-W", "error", str(example)], capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": SRC}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "10.0.0.1, 10.0.1.1" in lines[1]
    assert lines[2] == "node 0 is dead"
    assert lines[3].endswith("10.0.1.1: hello from node 1")


__all__ = ["NetNS", "good"]
