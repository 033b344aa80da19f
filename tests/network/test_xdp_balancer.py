# SPDX-License-Identifier: Apache-2.0
"""The balancer between a client and backends that answer directly, with real connections."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from typing import Any

import attrs
import pytest

from network.tunnel import Decapsulator, offload
from pycilium import ConflictError, Datapath, NotSupportedError, ServiceLB, SpecError
from pycilium.datapath.xdp import Balancer
from pycilium.datapath.xdp_settings import BalancerOptions, Mode, VipSettings
from pycilium.libbpf import Link, ObjectSpec, Program
from pycilium.model import Backend, Frontend
from pycilium.net import NetNS, addresses, links, routes, sysctl

pytestmark = pytest.mark.root
VIPS = {4: "192.0.2.1", 6: "2001:db8::1"}
SIZES = {"pcl_xdp_rings": 1 << 16, "pcl_xdp_flows4": 8192, "pcl_xdp_flows6": 8192}
RING = VipSettings(ring=4093)
BACKENDS = 3


def address(family: int, number: int) -> str:
    return f"10.1.{number}.2" if family == 4 else f"fd01:{number}::2"


def vip(family: int, port: int, protocol: int, numbers: Any = range(BACKENDS)) -> ServiceLB:
    frontend = Frontend(ip_address(VIPS[family]), port, protocol)
    return ServiceLB(
        frontend, backends=[Backend(ip_address(address(family, i)), port) for i in numbers]
    )


def kind(family: int) -> int:
    return socket.AF_INET if family == 4 else socket.AF_INET6


@attrs.frozen
class Net:
    """A client, a router that balances, and backends, each on a link of its own."""

    client: NetNS
    router: NetNS
    backends: tuple[NetNS, ...]
    tunnels: tuple[Decapsulator, ...]
    receiver: Link  # on the client's device

    def open(self, mode: str = "native", **options: Any) -> Balancer:
        return self.router.run(
            lambda: Datapath.open(
                programs="xdp",
                devices=["eth0"],
                mode=mode,
                sizes=SIZES,
                balancer=BalancerOptions(**options),
            )
        )


def join(one: NetNS, name: str, other: NetNS, network4: str, network6: str) -> None:
    """A veth: the router's end has .1, the other .2, which is also its way out."""
    here, there = links.create_veth(name, "eth0", peer_ns=other, ns=one)
    for link, ns, host in ((here, one, 1), (there, other, 2)):
        sysctl.write(f"net/ipv6/conf/{link.name}/accept_dad", 0, ns=ns)
        addresses.add(f"{network4}.{host}/24", link.index, ns=ns)
        addresses.add(f"{network6}::{host}/64", link.index, ns=ns)
        links.set_up(link.index, ns=ns)
    routes.add("default", via=f"{network4}.1", dev=there.index, ns=other)
    routes.add("default", via=f"{network6}::1", dev=there.index, ns=other)


def plain(ns: NetNS) -> None:
    for scope in ("all", "default"):
        sysctl.write(f"net/ipv4/conf/{scope}/rp_filter", 0, ns=ns)


@pytest.fixture
def net(no_leaks: None) -> Iterator[Net]:
    with ExitStack() as stack:
        client, router, *backends = (
            stack.enter_context(NetNS.create()) for _ in range(2 + BACKENDS)
        )
        for ns in (client, router, *backends):
            plain(ns)
        sysctl.write("net/ipv4/conf/all/forwarding", 1, ns=router)
        sysctl.write("net/ipv6/conf/all/forwarding", 1, ns=router)
        join(router, "eth0", client, "10.0.0", "fd00:0")
        loaded = stack.enter_context(ObjectSpec.bundled("xdp_repeat").load())
        receivers, tunnels = [], []
        for i, ns in enumerate(backends):
            join(router, f"b{i}", ns, f"10.1.{i}", f"fd01:{i}")
            loopback = links.get("lo", ns=ns).index
            addresses.add(f"{VIPS[4]}/32", loopback, ns=ns)
            addresses.add(f"{VIPS[6]}/128", loopback, ns=ns)
            tunnels.append(Decapsulator(ns))
            stack.callback(tunnels[-1].close)
        for ns in (client, *backends):
            one = receive_xdp(ns, loaded.programs["nothing"])
            receivers.append(stack.enter_context(one))
        yield Net(client, router, tuple(backends), tuple(tunnels), receivers[0])


def receive_xdp(ns: NetNS, program: Program) -> Link:
    """What XDP_TX and XDP_REDIRECT need of a veth's other end: without a program nobody wakes.

    GRO goes off again: the raw sockets of tunnel.py would see merged packets.
    """
    link = ns.run(Link.attach_xdp, program, links.get("eth0", ns=ns).index)
    offload(ns, "eth0", gro=False, checksums=False)
    return link


@contextmanager
def serving(net: Net, family: int, port: int) -> Iterator[None]:
    """TCP on every backend: the backend's number, then how many bytes came."""
    with ExitStack() as stack:
        for number, ns in enumerate(net.backends):
            listener = stack.enter_context(ns.socket(kind(family), socket.SOCK_STREAM))
            listener.bind((VIPS[family], port))
            listener.listen(128)
            thread = threading.Thread(target=_accept, args=(listener, number), daemon=True)
            thread.start()
            stack.callback(thread.join, 5)
            stack.callback(listener.shutdown, socket.SHUT_RDWR)
        yield


def _accept(listener: socket.socket, number: int) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_answer, args=(connection, number), daemon=True).start()


def _answer(connection: socket.socket, number: int) -> None:
    with connection, contextlib.suppress(OSError):
        connection.sendall(bytes([number]))
        total = 0
        while data := connection.recv(1 << 16):
            total += len(data)
        connection.sendall(struct.pack("!Q", total))


def connect(net: Net, family: int, port: int) -> socket.socket:
    one = net.client.socket(kind(family), socket.SOCK_STREAM)
    one.settimeout(5)
    try:
        one.connect((VIPS[family], port))
    except BaseException:
        one.close()
        raise
    return one


def served_by(net: Net, family: int, port: int, upload: bytes = b"") -> int:
    with connect(net, family, port) as one:
        number = one.recv(1)[0]
        one.sendall(upload)
        one.shutdown(socket.SHUT_WR)
        answer = b""
        while len(answer) < 8:
            answer += one.recv(8 - len(answer))
        assert struct.unpack("!Q", answer) == (len(upload),)
        return number


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("mode", ["native", "generic"])
def test_connections_reach_every_backend(net: Net, mode: str, family: int) -> None:
    with net.open(mode) as balancer, serving(net, family, 8080):
        service = vip(family, 8080, 6)
        balancer.services.apply([service], settings={service.frontend: RING})
        assert {served_by(net, family, 8080) for _ in range(40)} == set(range(BACKENDS))
        (device,) = balancer.status().devices
        assert (device.mode, device.note) == (Mode(mode), "")
        (counted,) = balancer.statistics()
        assert all(one.packets >= 3 for one in counted.backends)
        assert all(tunnel.taken for tunnel in net.tunnels)
        assert not balancer.status().drops


@pytest.mark.parametrize("family", [4, 6])
def test_a_large_upload_learns_the_tunnels_mtu(net: Net, family: int) -> None:
    with net.open() as balancer, serving(net, family, 8080):
        service = vip(family, 8080, 6)
        balancer.services.apply([service], settings={service.frontend: RING})
        served_by(net, family, 8080, upload=bytes(1 << 20))
        counters = balancer.status().counters
        assert counters["PCL_XDP_SENT_TOO_BIG"].packets >= 1


def test_a_vip_answers_pings(net: Net) -> None:
    with net.open() as balancer:
        service = vip(4, 8080, 6)
        balancer.services.apply([service], settings={service.frontend: RING})
        with net.client.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as ping:
            ping.settimeout(2)
            header = struct.pack("!BBHHH", 8, 0, 0xF7FD, 1, 1)
            ping.sendto(header, (VIPS[4], 0))
            answer = ping.recv(100)
        assert answer[20:24] == struct.pack("!BBH", 0, 0, 0xFFFD)


@attrs.define
class Flood:
    """Numbered datagrams from many sockets; who got which."""

    net: Net
    sockets: int = 24
    sent: int = 0
    got: list[set[bytes]] = attrs.field(factory=list)

    @contextmanager
    def running(self) -> Iterator[None]:
        stop, quiet = threading.Event(), threading.Event()
        with ExitStack() as stack:
            threads = [threading.Thread(target=self._send, args=(stop,), daemon=True)]
            for ns in self.net.backends:
                self.got.append(set())
                one = stack.enter_context(ns.socket(socket.AF_INET, socket.SOCK_DGRAM))
                one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
                one.bind((VIPS[4], 5353))
                one.settimeout(0.2)
                arguments = (one, self.got[-1], quiet)
                threads.append(threading.Thread(target=_collect, args=arguments, daemon=True))
            for thread in threads:
                thread.start()
            time.sleep(0.3)
            yield
            time.sleep(0.3)
            stop.set()
            threads[0].join(5)
            time.sleep(0.3)
            quiet.set()
            for thread in threads[1:]:
                thread.join(5)

    def _send(self, stop: threading.Event) -> None:
        with ExitStack() as stack:
            senders = [
                stack.enter_context(self.net.client.socket(socket.AF_INET, socket.SOCK_DGRAM))
                for _ in range(self.sockets)
            ]
            while not stop.is_set():
                for number, one in enumerate(senders):
                    one.sendto(struct.pack("!II", number, self.sent), (VIPS[4], 5353))
                    self.sent += 1
                time.sleep(0.01)

    @property
    def lost(self) -> int:
        return self.sent - len(set().union(*self.got))


def _collect(one: socket.socket, got: set[bytes], quiet: threading.Event) -> None:
    while True:
        try:
            got.add(one.recv(64))
        except TimeoutError:
            if quiet.is_set():
                return


def test_backends_leave_and_come_back_under_numbered_packets(net: Net) -> None:
    settings = {vip(4, 5353, 17).frontend: RING}
    with net.open() as balancer:
        balancer.services.apply([vip(4, 5353, 17)], settings=settings)
        flood = Flood(net)
        with flood.running():
            for gone in range(BACKENDS):
                left = [i for i in range(BACKENDS) if i != gone]
                balancer.services.apply([vip(4, 5353, 17, left)], settings=settings)
                time.sleep(0.1)
                before = len(flood.got[gone])
                time.sleep(0.2)
                assert len(flood.got[gone]) == before, "a removed backend still gets packets"
                balancer.services.apply([vip(4, 5353, 17)], settings=settings)
        assert flood.sent > 500
        assert flood.lost == 0
        assert all(flood.got)


def test_draining_moves_no_flow(net: Net) -> None:
    service = vip(4, 5353, 17)
    with net.open() as balancer:
        balancer.services.apply([service], settings={service.frontend: RING})
        flood = Flood(net)
        with flood.running():
            balancer.set_weight(service, f"{address(4, 0)}:5353", 0)
            time.sleep(0.2)
        assert flood.lost == 0
        flows = [{data[:4] for data in got} for got in flood.got]
        assert flows[0], "the drained backend had flows and keeps them"
        assert sum(map(len, flows)) == flood.sockets, "each flow went to one backend"


def test_weights_share_new_connections(net: Net) -> None:
    service = vip(4, 8080, 6)
    with net.open() as balancer, serving(net, 4, 8080):
        balancer.services.apply([service], settings={service.frontend: RING})
        balancer.set_weight(service, f"{address(4, 0)}:8080", 0)
        balancer.set_weight(service, f"{address(4, 1)}:8080", 8)
        counts = [0] * BACKENDS
        for _ in range(60):
            counts[served_by(net, 4, 8080)] += 1
        assert counts[0] == 0
        assert counts[1] > 2 * counts[2]


def test_an_mtu_too_large_is_explained_and_auto_falls_back(net: Net) -> None:
    net.receiver.close()
    for ns in (net.router, net.client):
        links.set_mtu(links.get("eth0", ns=ns).index, 9000, ns=ns)
    with pytest.raises(NotSupportedError) as refused:
        net.open("native")
    said = str(refused.value)
    assert "MTU" in said
    assert "is too large to set XDP" in said, "the kernel's own words"
    assert 'mode="generic"' in said
    with net.open("auto") as balancer, serving(net, 4, 8080):
        (device,) = balancer.status().devices
        assert device.mode is Mode.GENERIC
        assert "native XDP is not possible here" in device.note
        assert device.note in str(balancer.status())
        service = vip(4, 8080, 6)
        balancer.services.apply([service], settings={service.frontend: RING})
        served_by(net, 4, 8080)


def test_a_device_without_native_xdp(net: Net) -> None:
    with pytest.raises(NotSupportedError, match=r"native XDP on lo: .*native mode"):
        net.router.run(lambda: Balancer.open(devices=["lo"], mode="native", sizes=SIZES))


def test_two_balancers_on_one_device(net: Net) -> None:
    with net.open(), pytest.raises(ConflictError, match="eth0 has another XDP program"):
        net.open()
    with net.open("generic"), pytest.raises(ConflictError, match="eth0"):
        net.open("native")


def test_without_forwarding_there_is_no_way(net: Net) -> None:
    sysctl.write("net/ipv4/conf/eth0/forwarding", 0, ns=net.router)
    with net.open() as balancer, pytest.raises(SpecError, match=r"eth0/forwarding: 0 .* gateway"):
        balancer.services.apply([vip(4, 80, 6)])
    with net.open(gateway="02:00:00:00:00:01") as balancer:
        service = vip(4, 80, 6)
        assert balancer.services.apply([service], settings={service.frontend: RING}).added == 1
