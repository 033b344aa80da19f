# SPDX-License-Identifier: Apache-2.0
"""Who reaches which service from where, and which backends answer: every cell with real sockets.

The oracle is one function of the cell. Two nodes with an endpoint each, a client outside and a
router between them; every service stands on both nodes. Kinds, traffic policies, where the
client is, family, protocol; a pod and the node's own processes also by the socket layer.
"""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any

import attrs
import pytest

from pycilium import Backend, Datapath, ServiceLB
from pycilium.net import NetNS
from support.cluster import VIP, Cluster, Host, cluster
from support.servers import echo

pytestmark = pytest.mark.root
ANY = {4: "0.0.0.0", 6: "::"}
KINDS = ("ClusterIP", "NodePort", "ExternalIP", "LoadBalancer")
POLICIES = ("Cluster", "Local")
CLIENTS = ("outside", "pod here", "pod there", "node", "node by socket", "pod by socket")
PROTOCOLS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
TRIES, MOST_TRIES = 12, 60


@attrs.frozen
class Service:
    """A kind with a policy for the clients that it is for; its port is its own."""

    kind: str
    policy: str
    port: int

    def frontend(self, family: int, node: Host) -> str:
        """What a client names; node ports are asked at the first node."""
        if self.kind == "NodePort":
            return node.address(family)
        if self.kind == "ClusterIP":
            return "10.96.0.10" if family == 4 else "fd96::10"
        return VIP[family]


SERVICES = tuple(
    Service(kind, policy, 30100 + number)
    for number, (kind, policy) in enumerate(itertools.product(KINDS, POLICIES))
)


def expected(service: Service, client: str) -> set[str]:
    """Which endpoints may answer; empty: nobody does. web1 is on the first node, web2 on the other.

    Clients outside come in at the first node. ClusterIP is for clients of the cluster: its
    policy is the internal one, which looks at the client's node. The external policy is for
    clients outside alone; the node where a client is serves it itself, but for another node's
    address: there it is a client from outside.
    """
    both, here, there = {"web1", "web2"}, {"web1"}, {"web2"}
    if service.kind == "ClusterIP":
        if client in ("outside", "node"):
            return set()  # no translation there: outside by design, a node's own is the socket's
        if service.policy == "Cluster":
            return both
        return there if client == "pod there" else here
    if client == "node":
        return set()  # a node's own packets pass no device: the socket layer serves them
    outside = client == "outside" or (client == "pod there" and service.kind == "NodePort")
    return here if outside and service.policy == "Local" else both


def services(nodes: tuple[Host, ...]) -> list[ServiceLB]:
    found = []
    for service, family, protocol in itertools.product(SERVICES, (4, 6), PROTOCOLS):
        where = service.frontend(family, nodes[0])
        where = ANY[family] if service.kind == "NodePort" else where
        pods = [(node, node.pod(10)[family == 6]) for node in nodes]
        internal = service.kind == "ClusterIP"
        name = "internal_traffic_policy" if internal else "external_traffic_policy"
        found.append(
            ServiceLB(
                f"{joined(where, service.port)}/{protocol}",
                backends=[
                    attrs.evolve(Backend.parse(joined(pod, 8080)), node=f"n{node.number}")
                    for node, pod in pods
                ],
                kind=service.kind,
                **{name: service.policy},
            )
        )
    return found


def joined(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@attrs.frozen
class World:
    """The cluster with both ways of translating; places: where clients are."""

    cluster: Cluster
    places: dict[str, NetNS]

    def ask(self, client: str, service: Service, family: int, protocol: str) -> set[str]:
        """Who answers: a dozen times at least, and until all have that are expected to."""
        address = service.frontend(family, self.cluster.nodes[0])
        found: set[str] = set()
        for tries in range(MOST_TRIES):
            if tries >= TRIES and found >= expected(service, client):
                break
            answer = ask(self.places[client], address, service.port, PROTOCOLS[protocol])
            if answer is None:
                break
            found.add(answer)
        return found


def ask(where: NetNS, address: str, port: int, kind: int) -> str | None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with where.socket(family, kind) as one:
        one.settimeout(0.25)
        try:
            one.connect((address, port))
            one.send(b"who")
            return one.recv(100).decode().split()[0]
        except OSError:
            return None


def settle(places: Iterable[NetNS], pods: list[str]) -> None:
    """IPv6 needs a moment for its neighbours."""
    deadline = time.monotonic() + 10
    for place, pod in itertools.product(places, pods):
        while ask(place, pod, 8080, socket.SOCK_STREAM) is None:
            assert time.monotonic() < deadline, f"{pod} is not reached"


def open_node(stack: ExitStack, node: Host, *, socket_lb: bool) -> Datapath:
    name = f"n{node.number}"
    return stack.enter_context(
        node.ns.run(lambda: Datapath.open(devices=["eth0"], node_name=name, socket_lb=socket_lb))
    )


@pytest.fixture
def world(no_leaks: None, request: pytest.FixtureRequest) -> Iterator[World]:
    with ExitStack() as stack:
        made = stack.enter_context(cluster(2))
        by_socket = request.param
        datapaths = [open_node(stack, node, socket_lb=by_socket) for node in made.nodes]
        pods = []
        for datapath, node in zip(datapaths, made.nodes, strict=True):
            name = f"web{node.number}"
            pod = datapath.endpoints.create(node.pod(10), labels={"app": "web"}, name=name)
            client = datapath.endpoints.create(node.pod(20), labels={"app": "client"})
            stack.enter_context(echo(pod.netns, name, 8080))
            pods.append(client)
            datapath.services.apply(services(made.nodes))
        here, there = (pod.netns for pod in pods)
        suffix = " by socket" if by_socket else ""
        places = {f"node{suffix}": made.nodes[0].ns}
        if by_socket:
            places["pod by socket"] = here
        else:
            places |= {"outside": made.client.ns, "pod here": here, "pod there": there}
        settle(places.values(), [one for node in made.nodes for one in node.pod(10)])
        yield World(made, places)


def cells(world: World) -> Iterator[tuple[str, Service, int, str]]:
    yield from itertools.product(world.places, SERVICES, (4, 6), PROTOCOLS)


@pytest.mark.parametrize("world", [False, True], indirect=True, ids=["packets", "sockets"])
def test_every_cell(world: World) -> None:
    wrong = {}
    for client, service, family, protocol in cells(world):
        found = world.ask(client, service, family, protocol)
        if found != expected(service, client):
            cell = f"{client}, {service.kind} {service.policy}, IPv{family}, {protocol}"
            wrong[cell] = (found, expected(service, client))
    assert not wrong


def test_the_table_is_whole() -> None:
    asked: set[Any] = set(itertools.product(KINDS, POLICIES))
    assert asked == {(one.kind, one.policy) for one in SERVICES}
    assert len({one.port for one in SERVICES}) == len(SERVICES)
    assert set(CLIENTS) >= {"outside", "pod here", "pod there", "node"}
