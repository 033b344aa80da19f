# SPDX-License-Identifier: Apache-2.0
"""Clients outside with real sockets: whose address is seen, by which way answers come, sizes."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import attrs
import pytest

from pycilium import Datapath, ServiceLB
from pycilium.datapath.endpoint import Endpoint
from pycilium.net import NetNS, links
from support.cluster import VIP, Cluster, cluster
from support.servers import echo

pytestmark = pytest.mark.root
ANY = {4: "0.0.0.0", 6: "::"}
FAMILIES = (4, 6)


def joined(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@attrs.frozen
class World:
    cluster: Cluster
    datapaths: tuple[Datapath, ...]
    pods: tuple[Endpoint, ...]

    def serve(self, port: int, backend: str, **more: Any) -> list[ServiceLB]:
        """A node port on every node."""
        any_ = ANY[6 if "[" in backend else 4]
        services = [
            ServiceLB(
                f"{joined(any_, port)}/{protocol}", backends=[backend], kind="NodePort", **more
            )
            for protocol in ("tcp", "udp")
        ]
        for datapath in self.datapaths:
            datapath.services.apply(services)
        return services


@pytest.fixture
def world(no_leaks: None) -> Iterator[World]:
    """web1 and web2, each on a node."""
    with ExitStack() as stack:
        made = stack.enter_context(cluster(2))
        datapaths, pods = [], []
        for node in made.nodes:
            options = {"devices": ["eth0"], "masquerade": True,
                       "masquerade_exclude": ["10.0.0.0/8", "fd10::/16"]}  # fmt: skip
            datapath = stack.enter_context(node.ns.run(lambda: Datapath.open(**options)))  # noqa: B023
            name = f"web{node.number}"
            pods.append(datapath.endpoints.create(node.pod(10), labels={"app": "web"}, name=name))
            datapaths.append(datapath)
        yield World(made, tuple(datapaths), tuple(pods))


def peer_of(server: NetNS, port: int, client: NetNS, target: tuple[str, int]) -> str:
    """Under which address a server sees a client."""
    family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
    with server.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("", port))
        listener.listen()
        listener.settimeout(5)
        with client.socket(family, socket.SOCK_STREAM) as one:
            one.settimeout(5)
            one.connect(target)
            accepted, peer = listener.accept()
            accepted.close()
            return str(peer[0])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("forwarding", "node", "seen"),
    [("snat", 0, "node"), ("snat", 1, "client"), ("dsr", 0, "client"), ("dsr", 1, "client"),
     ("hybrid", 0, "client")],
)  # fmt: skip
def test_whose_address_the_backend_sees(
    world: World, family: int, forwarding: str, node: int, seen: str
) -> None:
    """web2 serves; the client asks the first node or the second."""
    pod = world.cluster.nodes[1].pod(10)[family == 6]
    world.serve(30080, joined(pod, 8080), forwarding=forwarding)
    target = world.cluster.nodes[node].address(family), 30080
    client = world.cluster.client
    found = peer_of(world.pods[1].netns, 8080, client.ns, target)
    addresses = {"client": client.address(family), "node": world.cluster.nodes[0].address(family)}
    assert found == addresses[seen]


def exchange(server: NetNS, client: NetNS, target: tuple[str, int], size: int) -> None:
    """Bytes to port 8080 and back, compared."""
    family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
    data = os.urandom(size)
    with (
        server.socket(family, socket.SOCK_STREAM) as listener,
        client.socket(family, socket.SOCK_STREAM) as one,
    ):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("", 8080))
        listener.listen()
        listener.settimeout(5)
        one.settimeout(5)
        one.connect(target)
        accepted = listener.accept()[0]
        with accepted:
            accepted.settimeout(5)
            for source, sink in ((one, accepted), (accepted, one)):
                thread = threading.Thread(target=source.sendall, args=(data,))
                thread.start()
                assert receive(sink, size) == data
                thread.join()


def receive(one: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        chunk = one.recv(1 << 16)
        assert chunk, "closed early"
        got += chunk
    return got


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("forwarding", ["dsr", "hybrid", "snat"])
def test_bytes_arrive_whole_by_every_way(world: World, family: int, forwarding: str) -> None:
    pod = world.cluster.nodes[1].pod(10)[family == 6]
    world.serve(30080, joined(pod, 8080), forwarding=forwarding)
    target = world.cluster.nodes[0].address(family), 30080
    client = world.cluster.client.ns
    exchange(world.pods[1].netns, client, target, 1 << 20)
    kind = socket.AF_INET6 if family == 6 else socket.AF_INET
    with (
        echo(world.pods[1].netns, "web2", 8080),
        client.socket(kind, socket.SOCK_DGRAM) as one,
    ):
        one.settimeout(5)
        one.connect(target)
        for _ in range(3):
            one.send(b"hello")
            assert one.recv(100) == b"web2 hello"


@pytest.mark.parametrize("family", FAMILIES)
def test_fragments_in_both_directions(world: World, family: int) -> None:
    pod = world.cluster.nodes[1].pod(10)[family == 6]
    world.serve(30080, joined(pod, 8080))
    kind = socket.AF_INET6 if family == 6 else socket.AF_INET
    data = os.urandom(5000)
    with world.pods[1].netns.socket(kind, socket.SOCK_DGRAM) as server:
        server.bind(("", 8080))
        server.settimeout(5)
        with world.cluster.client.ns.socket(kind, socket.SOCK_DGRAM) as one:
            one.settimeout(5)
            one.connect((world.cluster.nodes[0].address(family), 30080))
            one.send(data)
            got, peer = server.recvfrom(9000)
            assert got == data
            server.sendto(data[::-1], peer)
            assert one.recv(9000) == data[::-1]


@pytest.mark.parametrize("family", FAMILIES)
def test_path_mtu_is_found_through_the_load_balancer(world: World, family: int) -> None:
    """The way between router and second node is narrow: the client's TCP must learn it."""
    narrow(world, 1)
    pod = world.cluster.nodes[1].pod(10)[family == 6]
    world.serve(30080, joined(pod, 8080))
    target = world.cluster.nodes[0].address(family), 30080
    exchange(world.pods[1].netns, world.cluster.client.ns, target, 1 << 20)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_endpoint_learns_that_the_way_out_is_narrow(world: World, family: int) -> None:
    """Its own packets are too big: as a client under the node's address, and as a backend."""
    narrow(world, 0)
    client, pod = world.cluster.client, world.cluster.nodes[0].pod(10)[family == 6]
    exchange(client.ns, world.pods[0].netns, (client.address(family), 8080), 1 << 20)
    world.serve(30080, joined(pod, 8080))
    target = world.cluster.nodes[0].address(family), 30080
    exchange(world.pods[0].netns, client.ns, target, 1 << 20)


def narrow(world: World, node: int) -> None:
    """The link of a node to the router."""
    host, router = world.cluster.nodes[node], world.cluster.router
    for name, ns in ((f"to{host.number}", router), ("eth0", host.ns)):
        links.set_mtu(links.get(name, ns=ns).index, 1300, ns=ns)


def test_a_forged_frontend_is_not_believed(world: World) -> None:
    """The option of a stranger: no service of ours says it returns directly."""
    pod = world.cluster.nodes[1].pod(10)[0]
    world.serve(30080, joined(pod, 8080))
    client = world.cluster.client
    forged = bytes([0x9A, 8]) + (30080).to_bytes(2, "big") + socket.inet_aton("203.0.113.66")
    with (
        echo(world.pods[1].netns, "web2", 8080),
        client.ns.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
    ):
        one.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, forged)
        one.settimeout(5)
        one.connect((pod, 8080))
        one.send(b"hello")
        assert one.recv(100) == b"web2 hello"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_removed_backend_gets_nothing(world: World, family: int) -> None:
    pods = [node.pod(10)[family == 6] for node in world.cluster.nodes]
    services = world.serve(30080, joined(pods[1], 8080))
    kind = socket.AF_INET6 if family == 6 else socket.AF_INET
    with (
        echo(world.pods[0].netns, "web1", 8080),
        echo(world.pods[1].netns, "web2", 8080) as old,
        world.cluster.client.ns.socket(kind, socket.SOCK_DGRAM) as one,
    ):
        one.settimeout(5)
        one.connect((world.cluster.nodes[0].address(family), 30080))
        one.send(b"a")
        assert one.recv(100) == b"web2 a"
        moved = [attrs.evolve(s, backends=[joined(pods[0], 8080)]) for s in services]
        world.datapaths[0].services.apply(moved)
        answered = old.answered
        for _ in range(50):
            one.send(b"b")
            assert one.recv(100) == b"web1 b"
        assert old.answered == answered


def test_endpoints_reach_outside_under_the_nodes_address(world: World) -> None:
    client = world.cluster.client
    for family in FAMILIES:
        target = client.address(family), 9000
        found = peer_of(client.ns, 9000, world.pods[0].netns, target)
        assert found == world.cluster.nodes[0].address(family)
    pod = world.cluster.nodes[1].pod(10)
    for address, own in zip(pod, world.cluster.nodes[0].pod(10), strict=True):
        found = peer_of(world.pods[1].netns, 9001, world.pods[0].netns, (address, 9001))
        assert found == own


def test_an_external_address_is_the_services_alone(world: World) -> None:
    """Its other ports are refused and counted; its own port works."""
    pod = world.cluster.nodes[1].pod(10)[0]
    service = ServiceLB(f"{VIP[4]}:80", backends=[joined(pod, 8080)], kind="ExternalIP")
    world.datapaths[0].services.apply([service])
    client = world.cluster.client.ns
    with echo(world.pods[1].netns, "web2", 8080):
        with client.socket(socket.AF_INET, socket.SOCK_STREAM) as one:
            one.settimeout(5)
            one.connect((VIP[4], 80))
        with client.socket(socket.AF_INET, socket.SOCK_STREAM) as one:
            one.settimeout(0.3)
            with pytest.raises(TimeoutError):
                one.connect((VIP[4], 81))
    assert world.datapaths[0].counters()["PCL_DROP_PORT"].packets >= 1
