# SPDX-License-Identifier: Apache-2.0
"""Real sockets of every kind through the datapath: bytes arrive whole, errors reach who asked."""

from __future__ import annotations

import hashlib
import os
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from pycilium import Datapath, Policy, ServiceLB
from pycilium.net import NetNS, addresses, links, routes, sysctl

pytestmark = pytest.mark.root
SIZE = 8 << 20


@pytest.fixture
def datapath(node: NetNS) -> Iterator[Datapath]:
    loopback = links.get("lo", ns=node).index
    addresses.add("10.0.0.1/32", loopback, ns=node)
    addresses.add("fd0f::1/128", loopback, ns=node)
    with node.run(Datapath.open) as dp:
        dp.endpoints.create(["10.1.0.10", "fd01::10"], labels={"app": "web"}, name="web")
        dp.endpoints.create(["10.1.0.20", "fd01::20"], labels={"app": "db"}, name="db")
        dp.services.apply(
            [
                ServiceLB("10.96.0.1:80/tcp", backends=["10.1.0.20:8080"]),
                ServiceLB("[fd96::1]:80/tcp", backends=["[fd01::20]:8080"]),
                ServiceLB("10.96.0.1:53/udp", backends=["10.1.0.20:5353"]),
                ServiceLB("[fd96::1]:53/udp", backends=["[fd01::20]:5353"]),
                ServiceLB("10.96.0.2:80/tcp", backends=["10.1.0.10:8080"]),
                ServiceLB("[fd96::2]:80/tcp", backends=["[fd01::10]:8080"]),
            ]
        )
        yield dp


def family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def serve(
    where: NetNS, address: str, port: int, data: bytes
) -> tuple[socket.socket, threading.Thread, list[str]]:
    """Echo the digest of what comes, then send `data`."""
    listener = where.socket(family(address), socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen()
    peers: list[str] = []

    def answer() -> None:
        connection, peer = listener.accept()
        peers.append(peer[0])
        with connection:
            digest, left = hashlib.sha256(), SIZE
            while left:
                chunk = connection.recv(min(left, 1 << 16))
                if not chunk:
                    return
                digest.update(chunk)
                left -= len(chunk)
            connection.sendall(digest.digest() + data)

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    return listener, thread, peers


def exchange(client: NetNS, server: NetNS, target: tuple[str, int], bound: tuple[str, int]) -> str:
    """Megabytes both ways, compared; the address under which the server saw the client."""
    sent, back = os.urandom(SIZE), os.urandom(SIZE)
    listener, thread, peers = serve(server, *bound, back)
    try:
        with client.socket(family(target[0]), socket.SOCK_STREAM) as connection:
            connection.settimeout(5)
            connection.connect(target)
            assert connection.getpeername()[0] == target[0]
            connection.sendall(sent)
            answer = b""
            while len(answer) < SIZE + 32:
                chunk = connection.recv(1 << 16)
                assert chunk, "closed early"
                answer += chunk
        assert answer[:32] == hashlib.sha256(sent).digest()
        assert answer[32:] == back
    finally:
        thread.join(5)
        listener.close()
    return peers[0]


@pytest.mark.parametrize(
    ("target", "bound"),
    [
        (("10.1.0.20", 8080), ("10.1.0.20", 8080)),
        (("fd01::20", 8080), ("fd01::20", 8080)),
        (("10.96.0.1", 80), ("10.1.0.20", 8080)),
        (("fd96::1", 80), ("fd01::20", 8080)),
    ],
    ids=["ipv4", "ipv6", "service ipv4", "service ipv6"],
)
def test_megabytes_between_endpoints(
    datapath: Datapath, target: tuple[str, int], bound: tuple[str, int]
) -> None:
    """Segmentation offload and unfinished checksums, translated and not."""
    web, db = datapath.endpoints["web"], datapath.endpoints["db"]
    seen = exchange(web.namespace, db.namespace, target, bound)
    assert seen in ("10.1.0.10", "fd01::10")


@pytest.mark.parametrize(
    ("target", "bound", "hairpin"),
    [
        (("10.96.0.2", 80), ("10.1.0.10", 8080), "169.254.42.1"),
        (("fd96::2", 80), ("fd01::10", 8080), "fd00:169:254:42::1"),
    ],
)
def test_an_endpoint_reaches_itself_through_a_service(
    datapath: Datapath, target: tuple[str, int], bound: tuple[str, int], hairpin: str
) -> None:
    web = datapath.endpoints["web"]
    assert exchange(web.namespace, web.namespace, target, bound) == hairpin


@pytest.mark.parametrize(("host", "pod"), [("10.0.0.1", "10.1.0.20"), ("fd0f::1", "fd01::20")])
def test_host_and_endpoint(datapath: Datapath, node: NetNS, host: str, pod: str) -> None:
    db = datapath.endpoints["db"]
    exchange(db.namespace, node, (host, 9000), (host, 9000))
    exchange(node, db.namespace, (pod, 9000), (pod, 9000))
    datapath.policies.apply(Policy.allow(to="app=db", from_="app=web", ports="1/tcp"))
    exchange(node, db.namespace, (pod, 9001), (pod, 9001))
    datapath.policies.apply(Policy.deny(to="app=db", from_="entity:host"))
    with pytest.raises(TimeoutError):
        connect(node, (pod, 9002))


def connect(where: NetNS, target: tuple[str, int], timeout: float = 0.3) -> None:
    with where.socket(family(target[0]), socket.SOCK_STREAM) as one:
        one.settimeout(timeout)
        one.connect(target)


@pytest.mark.parametrize(
    ("target", "bound"),
    [
        (("10.1.0.20", 5353), "10.1.0.20"),
        (("fd01::20", 5353), "fd01::20"),
        (("10.96.0.1", 53), "10.1.0.20"),
        (("fd96::1", 53), "fd01::20"),
    ],
)
def test_datagrams_and_their_fragments(
    datapath: Datapath, target: tuple[str, int], bound: str
) -> None:
    web, db = datapath.endpoints["web"], datapath.endpoints["db"]
    with (
        web.namespace.socket(family(bound), socket.SOCK_DGRAM) as client,
        db.namespace.socket(family(bound), socket.SOCK_DGRAM) as server,
    ):
        server.bind((bound, 5353))
        for one in (client, server):
            one.settimeout(2)
        client.connect(target)
        for size in (1, 1400, 4000, 20000):
            payload = os.urandom(size)
            client.send(payload)
            got, peer = server.recvfrom(65536)
            assert got == payload
            server.sendto(got[::-1], peer)
            assert client.recv(65536) == payload[::-1]


@pytest.mark.parametrize(
    "target", [("10.1.0.20", 5353), ("10.96.0.1", 53), ("fd01::20", 5353), ("fd96::1", 53)]
)
def test_a_closed_port_is_heard_of(datapath: Datapath, target: tuple[str, int]) -> None:
    """The ICMP error of the backend comes back as one of the service."""
    web = datapath.endpoints["web"].namespace
    with web.socket(family(target[0]), socket.SOCK_DGRAM) as client:
        client.settimeout(2)
        client.connect(target)
        client.send(b"x")
        with pytest.raises(ConnectionRefusedError):
            client.recv(10)


@pytest.mark.parametrize("target", ["10.1.0.20", "fd01::20", "10.0.0.1", "fd0f::1"])
def test_ping(datapath: Datapath, target: str) -> None:
    web = datapath.endpoints["web"].namespace
    version = 6 if ":" in target else 4
    protocol = socket.IPPROTO_ICMPV6 if version == 6 else socket.IPPROTO_ICMP
    request, reply = (128, 129) if version == 6 else (8, 0)
    with web.socket(family(target), socket.SOCK_RAW, protocol) as one:
        one.settimeout(2)
        body = struct.pack("!BBHHH", request, 0, 0, 77, 1) + b"pycilium"
        if version == 4:
            total = sum(struct.unpack(f"!{len(body) // 2}H", body))
            total = (total & 0xFFFF) + (total >> 16)
            body = body[:2] + struct.pack("!H", ~total & 0xFFFF) + body[4:]
        one.sendto(body, (target, 0))
        while True:
            answer, peer = one.recvfrom(1000)
            message = answer[20:] if version == 4 else answer
            if message[0] == reply:
                break
        assert peer[0] == target
        assert message[8:] == b"pycilium"


def test_the_world_beyond_the_node(datapath: Datapath, node: NetNS, netns: NetNS) -> None:
    """Out through the node's stack and back; who is outside cannot open what policy closes."""
    near, far = links.create_veth("out", "eth0", peer_ns=netns, ns=node)
    for index, ns, address in (
        (near.index, node, "192.0.2.1/24"),
        (far.index, netns, "192.0.2.2/24"),
    ):
        addresses.add(address, index, ns=ns)
        links.set_up(index, ns=ns)
    routes.add("10.1.0.0/16", via="192.0.2.1", dev=far.index, ns=netns)
    sysctl.write("net.ipv4.ip_forward", 1, ns=node)
    web = datapath.endpoints["web"].namespace
    exchange(web, netns, ("192.0.2.2", 9000), ("192.0.2.2", 9000))
    exchange(netns, web, ("10.1.0.10", 9000), ("10.1.0.10", 9000))
    datapath.policies.apply(Policy.allow(to="app=web", from_="192.0.2.2", ports="9001/tcp"))
    exchange(netns, web, ("10.1.0.10", 9001), ("10.1.0.10", 9001))
    with pytest.raises(TimeoutError):
        connect(netns, ("10.1.0.10", 9002))
    exchange(web, netns, ("192.0.2.2", 9003), ("192.0.2.2", 9003))


def test_nothing_leaves_before_the_policy_holds(node: NetNS, netns: NetNS) -> None:
    """A pod that sends before, during and after its birth: nothing denied ever arrives."""
    with node.run(Datapath.open) as dp:
        dp.policies.apply(Policy.deny(to="app=db", from_="app=web"))
        db = dp.endpoints.create("10.1.0.20", labels={"app": "db"}, name="db")
        stop = threading.Event()

        def flood() -> None:
            with netns.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
                while not stop.is_set():
                    try:
                        one.sendto(b"early", ("10.1.0.20", 7000))
                    except OSError:
                        stop.wait(0.0005)

        with db.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
            receiver.bind(("10.1.0.20", 7000))
            receiver.settimeout(0.3)
            thread = threading.Thread(target=flood, daemon=True)
            thread.start()
            for _ in range(10):
                dp.endpoints.create("10.1.0.10", labels={"app": "web"}, netns=netns).remove()
            web: Any = dp.endpoints.create("10.1.0.10", labels={"app": "web"}, netns=netns)
            with pytest.raises(TimeoutError):
                receiver.recv(10)
            stop.set()
            thread.join(5)
        assert dp.counters()["PCL_DROP_POLICY_DENY"].packets > 0
        web.remove()
