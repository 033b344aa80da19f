# SPDX-License-Identifier: Apache-2.0
"""Packets that come in at a node's device, for the `packet` benchmark.

The client and the other nodes are behind one gateway, whose MAC is known. Only the
programs see the packets: each is run as if the frame had come in at the device.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import attrs

from benchmarks.cases import NEXT, REDIRECT
from benchmarks.frames import ACK, SYN, Tuple, tcp_frame
from benchmarks.node_datapath import Node
from benchmarks.wrapper import EVENTS, Place, Renumber, Wrapped
from pycilium import ServiceLB
from pycilium.libbpf import Program, RingBuffer
from pycilium.net import NetNS, addresses, links, neighbours, routes, sysctl

NODE, GATEWAY, CLIENT, POD = "172.20.1.2", "172.20.1.1", "172.20.9.2", "10.1.0.20"
PORT = 8080
AWAY, HERE, MANY = 30080, 30081, 30082  # node ports: backend elsewhere, here, many elsewhere
BACKENDS = 64  # so that new connections find ports of the node free towards each
PORT_OFFSET, ADDRESS_OFFSET = 34, 28  # of the source, in a frame of IPv4


@attrs.frozen
class Device:
    """The device, its program and the MACs of what comes in."""

    place: Place
    program: Program
    events: RingBuffer
    mac: str
    gateway_mac: str

    def frame(self, flow: Tuple, flags: int) -> bytes:
        return tcp_frame(flow, source_mac=self.gateway_mac, destination_mac=self.mac, flags=flags)

    def send(self, flow: Tuple, flags: int) -> bytes:
        """What the program made of the packet."""
        return self.place.test_run(self.program, self.frame(flow, flags)).data

    def open_connection(self, port: int) -> bytes:
        """The client's first two packets; returns the second as it goes on."""
        self.send(_flow(port), SYN)
        return self.send(_flow(port), ACK)

    def answer(self) -> Tuple:
        """What the backend elsewhere answers, to the port that the node took."""
        left = self.open_connection(AWAY)
        port = int.from_bytes(left[PORT_OFFSET : PORT_OFFSET + 2], "big")
        return Tuple("10.2.0.10", NODE, PORT, port)


@attrs.frozen
class DeviceCase:
    """One row: the node port asked for, whether it is new, and the verdict."""

    name: str
    port: int
    verdict: int = REDIRECT
    reply: bool = False
    new: bool = False

    def wrap(self, device: Device) -> Wrapped:
        """Established connections are opened anew between batches, and keep their port."""
        if self.new:
            renumber = Renumber(PORT_OFFSET, ADDRESS_OFFSET, 0xFF)
            flow = Tuple("172.20.8.0", NODE, 0, self.port)
            frame = device.frame(flow, SYN)
            return Wrapped.load(
                device.program, frame, device.place, renumber=renumber,
                before=device.events.drain, batch=EVENTS,
            )  # fmt: skip
        flow = device.answer() if self.reply else _flow(self.port)
        return Wrapped.load(
            device.program, device.frame(flow, ACK), device.place,
            before=lambda: device.open_connection(self.port),
        )  # fmt: skip


CASES = (
    DeviceCase("NodePort → other node, established", AWAY),
    DeviceCase("NodePort → other node, reply", AWAY, reply=True),
    DeviceCase("NodePort → pod, established", HERE),
    DeviceCase("NodePort → other node, new connection", MANY, new=True),
    DeviceCase("from a device, no service's", 22, NEXT),
)


def _flow(port: int) -> Tuple:
    return Tuple(CLIENT, NODE, 40000, port)


@contextmanager
def device() -> Iterator[Device]:
    """A node of its own with eth0, one pod and three node ports."""
    with NetNS.create() as namespace, NetNS.create() as world:
        near, far = links.create_veth("eth0", "eth0", peer_ns=world, ns=namespace)
        _connect(namespace, near.index, far.mac)
        links.set_up(far.index, ns=world)
        with Node.open(namespace, devices=["eth0"]) as node:
            node.endpoint("server", POD)
            node.apply_services(_services())
            program = node.datapath.object.programs["from_device"]
            with node.events() as events:
                place = Place(namespace, near.index)
                yield Device(place, program, events, near.mac, far.mac)


def _connect(namespace: NetNS, ifindex: int, gateway_mac: str) -> None:
    sysctl.write("net.ipv4.ip_forward", 1, ns=namespace)
    addresses.add(f"{NODE}/24", ifindex, ns=namespace)
    links.set_up(ifindex, ns=namespace)
    routes.add("default", via=GATEWAY, dev=ifindex, ns=namespace)
    neighbours.add(GATEWAY, gateway_mac, dev=ifindex, ns=namespace)


def _services() -> list[ServiceLB]:
    many = [f"10.2.1.{number}:{PORT}" for number in range(BACKENDS)]
    ports = {AWAY: [f"10.2.0.10:{PORT}"], HERE: [f"{POD}:{PORT}"], MANY: many}
    return [
        ServiceLB(f"0.0.0.0:{port}/tcp", backends=backends, kind="NodePort")
        for port, backends in ports.items()
    ]
