# SPDX-License-Identifier: Apache-2.0
"""A real datapath beside the model of it, and packets that go through the loaded programs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from random import Random
from typing import Any

import attrs

from differential.mutator import mutate
from differential.oracle import Address, Model, Reading, Tuple, read
from differential.strategies import HOST, NUMBERS, OUTSIDE, PORTS, VIPS
from pycilium import Datapath
from pycilium.datapath.packet import Question
from pycilium.datapath.wire import mac_bytes
from pycilium.net import NetNS, addresses, links

DROPPED = 2
ECHO_TYPE = {1: 8, 58: 128}
GATEWAY = bytes.fromhex("02ff00000001")


@attrs.frozen
class Shot:
    """One frame on one device, and the connection that it opens."""

    program: str
    endpoint: Any
    frame: bytes
    packet: Tuple
    source_port: int


def question(device: Any, packet: Tuple, source_port: int, *, outward: bool) -> Question:
    """A packet that an endpoint sends (outward), or that the node's stack sends to it."""
    macs = mac_bytes(device.mac), mac_bytes(device.device.host_mac)
    return Question(
        source=packet.source,
        destination=packet.destination,
        protocol=packet.protocol,
        source_port=source_port,
        destination_port=packet.port,
        source_mac=macs[not outward],
        destination_mac=macs[outward],
    )


class Arena:
    """Three kinds of ends: endpoints that come and go, the node itself, and the world."""

    def __init__(self, node: NetNS, dp: Datapath) -> None:
        self.node = node
        self.dp = dp
        self.model = Model()
        self.ends: dict[int, Any] = {}
        self.flows: list[Shot] = []
        self.packets = self.passed = self.mutated = 0
        self._port = 10_000

    @classmethod
    @contextmanager
    def open(cls, **options: Any) -> Iterator[Arena]:
        with NetNS.create() as node:
            up = links.create_veth("up0", "up1", ns=node)[0]
            for address, length in zip(HOST, (32, 128), strict=True):
                addresses.add(f"{address}/{length}", up.index, ns=node)
            with node.run(lambda: Datapath.open(events="none", **options)) as dp:
                yield cls(node, dp)

    def reset(self) -> None:
        """As it was at the beginning, but for the ports that have been used."""
        for number in list(self.ends):
            self.remove(number)
        self.apply([])
        self.serve([])
        self.flows = []

    def add(self, number: int, labels: Any) -> None:
        own = [f"10.1.0.{number}", f"fd01::{number}"]
        self.ends[number] = self.dp.endpoints.create(own, labels=labels, name=f"end{number}")
        self._note(number, labels)

    def remove(self, number: int) -> None:
        endpoint = self.ends.pop(number)
        for address in endpoint.addresses:
            del self.model.ends[address]
        endpoint.remove()

    def relabel(self, number: int, labels: Any) -> None:
        self.ends[number].set_labels(labels)
        self._note(number, labels)

    def apply(self, policies: Any) -> None:
        self.dp.policies.apply(policies)
        self.model.apply(policies)

    def serve(self, services: Any) -> None:
        self.dp.services.apply(services)
        self.model.services = {
            (one.frontend.address, one.frontend.port, one.frontend.protocol): one
            for one in services
        }

    def shoot(self, count: int, pick: Random, *, spoil: bool = False) -> list[str]:
        """New connections between any two ends; what went wrong, in words."""
        return self._inside(lambda: [w for _ in range(count) for w in self._one(pick, spoil)])

    def follow(self) -> list[str]:
        """Further packets of connections that were let through, both ways, under today's rules."""
        return self._inside(lambda: [w for one in self.flows for w in self._further(one)])

    def _note(self, number: int, labels: Any) -> None:
        for address in self.ends[number].addresses:
            self.model.ends[address] = labels

    def _inside(self, function: Any) -> list[str]:
        found: list[str] = self.node.run(function)
        return found

    def _one(self, pick: Random, spoil: bool) -> Iterator[str]:
        shot = self._draw(pick)
        if shot is None:
            return
        frame = mutate(shot.frame, pick) if spoil else shot.frame
        passed = self._send(shot.program, shot.endpoint, frame)
        if spoil:
            self.mutated += 1
            yield from self._judge_spoilt(shot, frame, passed)
            return
        self.packets += 1
        self.passed += passed
        if passed != self.model.passes(shot.packet):
            yield f"{shot.program} {shot.packet}: the kernel says {passed}"
        if passed and len(self.flows) < 200:
            self.flows.append(shot)

    def _judge_spoilt(self, shot: Shot, frame: bytes, passed: bool) -> Iterator[str]:
        """Never allowed what its receiver would read as something that is denied."""
        found = read(frame)
        if not passed or found is Reading.OTHER:
            return
        own = shot.endpoint.addresses
        if isinstance(found, Reading):
            yield f"{shot.program} {frame.hex()}: malformed, and allowed"
        elif shot.program == "from_endpoint" and found.source not in own:
            yield f"{shot.program} {frame.hex()}: the source is not its own, and allowed"
        elif not self.model.passes(found):
            yield f"{shot.program} {frame.hex()} is {found}: allowed"

    def _draw(self, pick: Random) -> Shot | None:
        """From an endpoint to anybody, or from outside or the node to an endpoint."""
        if not self.ends:
            return None
        mine = self.ends[pick.choice(sorted(self.ends))]
        family = pick.choice((4, 6))
        outward = pick.random() < 0.7
        other = self._other(pick, mine, family, outward)
        own = mine.address(family)
        ends = (own, other) if outward else (other, own)
        protocol = pick.choice((6, 6, 6, 17, 17, 132, 1 if family == 4 else 58))
        return self._shot(mine, ends, protocol, pick.choice(PORTS), outward)

    def _other(self, pick: Random, mine: Any, family: int, outward: bool) -> Address:
        local = [f"10.1.0.{n}" if family == 4 else f"fd01::{n}" for n in NUMBERS]
        names = [one for one in (*OUTSIDE, *HOST) if ip_address(one).version == family]
        if outward:
            names += [*local, *local, VIPS[family == 6], VIPS[family == 6]]
        return ip_address(pick.choice([n for n in names if ip_address(n) not in mine.addresses]))

    def _shot(self, mine: Any, ends: Any, protocol: int, port: int, outward: bool) -> Shot:
        self._port = 10_000 + (self._port - 9_999) % 50_000
        port = ECHO_TYPE.get(protocol, port)
        packet = Tuple(ends[0], ends[1], protocol, port)
        frame = question(mine, packet, self._port, outward=outward).frame()
        program = "from_endpoint" if outward else "to_endpoint"
        return Shot(program, mine, frame, packet, self._port)

    def _send(self, program: str, endpoint: Any, frame: bytes) -> bool:
        loaded = self.dp.object.programs[program]
        return loaded.test_run(frame, ctx={"ifindex": endpoint.ifindex}).retval != DROPPED

    def _further(self, shot: Shot) -> Iterator[str]:
        """The same tuple again, and its reply, as long as nobody of the two has gone."""
        packet = shot.packet
        if shot.endpoint.removed or (packet.destination, packet.port) in self._service_ports():
            return
        expected = self.model.passes(packet)
        if self._send(shot.program, shot.endpoint, shot.frame) != expected:
            yield f"again {shot.program} {packet}: the kernel says {not expected}"
        reply = self._reply(shot)
        if reply is not None and expected:
            self.packets += 1
            if not self._send(*reply):
                yield f"reply to {packet}: dropped"

    def _service_ports(self) -> set[tuple[Address, int]]:
        return {(address, port) for address, port, _ in self.model.services}

    def _reply(self, shot: Shot) -> tuple[str, Any, bytes] | None:
        """By the other end's device where that is an endpoint, else through the stack."""
        packet = shot.packet
        if packet.protocol in ECHO_TYPE:
            return None
        other = self.dp.endpoints.by_address(packet.destination)
        sender = other or shot.endpoint
        if other is None and shot.program == "to_endpoint":
            return None
        back = Tuple(packet.destination, packet.source, packet.protocol, shot.source_port)
        frame = bytearray(question(sender, back, packet.port, outward=bool(other)).frame())
        if packet.protocol == 6:
            frame[14 + (20 if packet.source.version == 4 else 40) + 13] = 0x12  # SYN and ACK
        return ("from_endpoint" if other else "to_endpoint"), sender, bytes(frame)
