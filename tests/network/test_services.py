# SPDX-License-Identifier: Apache-2.0
"""Services under traffic: connections stay with their backend, and leave it when it leaves."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_address
from typing import Any

import pytest

from network.numbered import NUMBER, collect, pace, receiver
from pycilium import Backend, Datapath, ServiceLB
from pycilium.net import NetNS

pytestmark = pytest.mark.root
VIP, PORT, TARGET = "10.96.0.10", 80, 8080
NAMES = ("one", "two", "three")


@pytest.fixture
def datapath(node: NetNS) -> Iterator[Datapath]:
    with node.run(lambda: Datapath.open(node_name="n1")) as dp:
        dp.endpoints.create("10.1.0.10", labels={"app": "web"}, name="web")
        for number, name in enumerate(NAMES, 1):
            dp.endpoints.create(f"10.1.0.2{number}", labels={"app": "db"}, name=name)
        yield dp


def backend(name: str, **more: Any) -> Backend:
    return Backend(ip_address(f"10.1.0.2{NAMES.index(name) + 1}"), TARGET, **more)


def service(*backends: Backend, protocol: str = "udp", **more: Any) -> list[ServiceLB]:
    return [ServiceLB(f"{VIP}:{PORT}/{protocol}", backends=backends, **more)]


class Flow:
    """Numbered datagrams from one socket to the service; who got which, and when."""

    def __init__(self, dp: Datapath, per_second: int = 1000) -> None:
        self.got: dict[str, dict[int, float]] = {name: {} for name in NAMES}
        self.sent = 0
        self._pause = 1 / per_second
        self._stop = threading.Event()
        self._sender = dp.endpoints["web"].namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sender.connect((VIP, PORT))
        self._receivers = {name: receiver(dp.endpoints[name], TARGET) for name in NAMES}
        self._threads = [threading.Thread(target=self._send, daemon=True)]
        self._threads += [
            threading.Thread(target=self._receive, args=(name,), daemon=True) for name in NAMES
        ]

    def __enter__(self) -> Flow:
        for thread in self._threads:
            thread.start()
        self.wait(1)
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)
        for one in (self._sender, *self._receivers.values()):
            one.close()

    def wait(self, more: int) -> None:
        """Until so many more have arrived."""
        target, end = self.arrived + more, time.monotonic() + 20
        while self.arrived < target and time.monotonic() < end:
            time.sleep(0.01)
        assert self.arrived >= target

    @property
    def arrived(self) -> int:
        return sum(map(len, self.got.values()))

    @property
    def lost(self) -> int:
        return self.sent - self.arrived

    def holder(self) -> str:
        """Who got the highest number."""
        return max(NAMES, key=lambda name: max(self.got[name], default=-1))

    def _send(self) -> None:
        pace(self._stop, self._pause, self._send_one)

    def _send_one(self) -> None:
        self._sender.send(NUMBER.pack(self.sent))
        self.sent += 1

    def _receive(self, name: str) -> None:
        def note(number: int) -> None:
            self.got[name][number] = time.monotonic()

        collect(self._receivers[name], self._stop, note)


def test_a_removed_backend_gets_nothing_and_nothing_is_lost(datapath: Datapath) -> None:
    datapath.services.apply(service(*map(backend, NAMES)))
    with Flow(datapath) as flow:
        first = flow.holder()
        flow.wait(200)
        assert flow.holder() == first
        datapath.services.apply(service(*(backend(n) for n in NAMES if n != first)))
        removed = time.monotonic()
        flow.wait(300)
    assert not [at for at in flow.got[first].values() if at > removed + 0.1]
    assert (flow.lost, flow.holder() != first) == (0, True)


@pytest.mark.parametrize("state", ["terminating", "quarantined"])
def test_a_flow_stays_with_a_backend_that_ends(datapath: Datapath, state: str) -> None:
    datapath.services.apply(service(*map(backend, NAMES)))
    with Flow(datapath) as flow:
        first = flow.holder()
        states = {first: state}
        datapath.services.apply(
            service(*(backend(n, state=states.get(n, "active")) for n in NAMES))
        )
        flow.wait(200)
        assert flow.holder() == first
        client = datapath.endpoints["web"].namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with client:
            before = len(flow.got[first])
            for number in range(20):
                client.sendto(NUMBER.pack((1 << 32) + number), (VIP, PORT))
            flow.wait(100)
        assert len(flow.got[first]) > before
    assert not [number for number in flow.got[first] if number >= 1 << 32]
    assert flow.arrived == flow.sent + 20


def test_a_thousand_changes_around_a_flow(datapath: Datapath) -> None:
    """Its backend stays; weights, states, affinity, ranges and other services come and go."""
    datapath.services.apply(service(*map(backend, NAMES)))
    with Flow(datapath) as flow:
        first = flow.holder()
        others = [name for name in NAMES if name != first]
        for i in range(1000):
            several = [backend(first, weight=1 + i % 3, state=("active", "terminating")[i % 2])]
            several += [backend(name) for name in others[: i % 3]]
            more: dict[str, Any] = {"session_affinity": ("None", "ClientIP")[i % 2]}
            if i % 5 == 0:
                more["source_ranges"] = [f"10.{n}.0.0/16" for n in range(1, 2 + i % 4)]
            extra = [ServiceLB(f"10.96.1.{i % 9}:80", backends=["10.1.0.21:80"])]
            datapath.services.apply(service(*several, **more) + extra[: i % 2])
    assert (flow.lost, len(flow.got[first])) == (0, flow.sent)


def test_weights_are_shares(datapath: Datapath) -> None:
    datapath.services.apply(service(backend("one", weight=3), backend("two"), protocol="tcp"))
    counts = connections(datapath, 200)
    assert counts["three"] == 0
    assert 110 <= counts["one"] <= 185


def test_a_client_keeps_to_one_backend(datapath: Datapath) -> None:
    several = list(map(backend, NAMES))
    spread = service(*several, protocol="tcp")
    datapath.services.apply(spread)
    assert min(connections(datapath, 60).values()) > 0
    kept = service(*several, protocol="tcp", session_affinity="ClientIP", affinity_timeout=60)
    datapath.services.apply(kept)
    counts = connections(datapath, 30)
    assert sorted(counts.values()) == [0, 0, 30]
    holder = max(counts, key=lambda name: counts[name])
    less = [ending_one(one, holder) for one in NAMES]
    datapath.services.apply(
        service(*less, protocol="tcp", session_affinity="ClientIP", affinity_timeout=60)
    )
    moved = connections(datapath, 30)
    assert (moved[holder], max(moved.values())) == (0, 30)


def ending_one(name: str, ending: str) -> Backend:
    return backend(name, state="terminating" if name == ending else "active")


def test_only_backends_of_this_node(datapath: Datapath) -> None:
    several = [backend("one", node="n1"), backend("two", node="n2"), backend("three")]
    datapath.services.apply(service(*several, protocol="tcp", internal_traffic_policy="Local"))
    assert connections(datapath, 20) == {"one": 20, "two": 0, "three": 0}


def test_source_ranges_open_and_close(datapath: Datapath) -> None:
    def reached(**more: Any) -> int:
        datapath.services.apply(service(backend("one"), protocol="tcp", **more))
        return sum(connections(datapath, 2).values())

    assert reached(source_ranges=["10.1.0.0/16"]) == 2
    assert reached(source_ranges=["10.2.0.0/16"]) == 0
    assert datapath.counters()["PCL_DROP_SOURCE_RANGE"].packets >= 2
    assert reached(source_ranges=["10.2.0.0/16"], source_ranges_mode="deny") == 2
    assert reached(source_ranges=["10.1.0.10/32"], source_ranges_mode="deny") == 0
    assert reached() == 2
    assert len(datapath.object.maps["pcl_source_ranges"]) == 0


def test_a_connection_is_reset_when_its_backend_leaves(datapath: Datapath) -> None:
    datapath.services.apply(service(backend("one"), protocol="tcp"))
    with ExitStack() as stack:
        servers = {name: stack.enter_context(listener(datapath.endpoints[name])) for name in NAMES}
        client = stack.enter_context(client_of(datapath))
        client.connect((VIP, PORT))
        server = stack.enter_context(servers["one"].accept()[0])
        both = [backend("one", state="terminating"), backend("two")]
        datapath.services.apply(service(*both, protocol="tcp"))
        client.sendall(b"still here")
        assert server.recv(64) == b"still here"
        server.sendall(b"so am I")
        assert client.recv(64) == b"so am I"
        datapath.services.apply(service(backend("two"), protocol="tcp"))
        client.sendall(b"gone?")
        with pytest.raises(ConnectionResetError):
            client.recv(64)
        server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            server.recv(64)


def client_of(datapath: Datapath) -> Any:
    one = datapath.endpoints["web"].namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
    one.settimeout(0.5)
    return one


def listener(endpoint: Any) -> Any:
    one = endpoint.namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind((str(endpoint.ip), TARGET))
    one.listen(256)
    one.settimeout(1)
    return one


def connections(datapath: Datapath, count: int) -> dict[str, int]:
    """How many of some connections to the service each backend gets."""
    counts = dict.fromkeys(NAMES, 0)
    with ExitStack() as stack:
        servers = {name: stack.enter_context(listener(datapath.endpoints[name])) for name in NAMES}
        for _ in range(count):
            with client_of(datapath) as client:
                if client.connect_ex((VIP, PORT)):
                    continue
        for name, server in servers.items():
            server.settimeout(0)
            while True:
                try:
                    server.accept()[0].close()
                except BlockingIOError:
                    break
                counts[name] += 1
    return counts
