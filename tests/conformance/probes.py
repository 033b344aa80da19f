# SPDX-License-Identifier: Apache-2.0
"""Real frames between all ends of the truth tables: a burst for each row, and who saw what."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_address
from typing import Any

from conformance.arena import Arena
from conformance.model import ADDRESSES, NODE, OUTSIDE, Row
from pycilium.datapath.packet import Question
from pycilium.datapath.wire import mac_bytes
from pycilium.model.port import PROTOCOLS
from pycilium.net import NetNS, links

ETH_P_IP, OUTGOING, SCTP = 0x0800, 4, 132
FIRST = 20_000  # source ports of the probes: one each
QUIET = 0.05
PATIENCE = 5.0
NAMES = {address: name for name, address in ADDRESSES.items()}
Seen = set[tuple[str, int]]


def crc32c(data: bytes) -> int:
    """The checksum of SCTP (RFC 9260 appendix A)."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def sctp_init(source: int, destination: int) -> bytes:
    """A common header and an INIT chunk (RFC 9260 section 3.3.2)."""
    chunk = struct.pack("!BBHIIHHI", 1, 0, 20, 1, 65536, 1, 1, 1)
    ports = struct.pack("!HHI", source, destination, 0)
    total = crc32c(ports + bytes(4) + chunk)
    return ports + struct.pack("<I", total) + chunk


class Probes:
    """Sockets in every namespace; a probe is told by its source port, its sender by its address."""

    def __init__(self, arena: Arena, node: NetNS, outside: NetNS) -> None:
        self._arena, self._node, self._outside = arena, node, outside
        self._stack = ExitStack()
        self._senders: dict[str, Any] = {}
        self._receivers: dict[Any, str] = {}
        self._frames: dict[tuple[str, str, int, str, int], bytes] = {}

    def __enter__(self) -> Probes:
        for name, endpoint in self._arena.pods.items():
            self._senders[name] = self._packet_socket(endpoint.namespace)
            self._receivers[self._senders[name]] = name
        self._senders[OUTSIDE] = self._packet_socket(self._outside)
        self._receivers[self._senders[OUTSIDE]] = OUTSIDE
        for protocol in PROTOCOLS.values():
            if protocol in (6, 17, SCTP):
                one = self._node.socket(socket.AF_INET, socket.SOCK_RAW, protocol)
                self._receivers[self._stack.enter_context(one)] = NODE
        raw = self._node.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self._senders[NODE] = self._stack.enter_context(raw)
        for one in self._receivers:
            one.setblocking(False)
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def _packet_socket(self, where: NetNS) -> socket.socket:
        found = where.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_IP))
        where.run(found.bind, ("eth0", ETH_P_IP))
        found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self._stack.enter_context(found)
        return found

    def wrong(self, row: Row) -> Iterator[str]:
        """What arrived and must not, and what must and did not."""
        expected: Seen = set()
        asked = list(row.questions())
        for number, (source, destination, port, protocol, allowed) in enumerate(asked, FIRST):
            self._send(source, destination, port, protocol, number)
            if allowed:
                expected.add((destination, number))
        seen = self._collect(expected)
        for number, (source, destination, port, protocol, allowed) in enumerate(asked, FIRST):
            if ((destination, number) in seen) != allowed:
                word = "is lost" if allowed else "leaks"
                yield f"{row.name}: {source} → {destination}:{port}/{protocol} {word}"
        known = {(destination, number) for number, (_, destination, *_) in enumerate(asked, FIRST)}
        for who, number in seen - known:
            yield f"{row.name}: {asked[number - FIRST]} arrives at {who}"

    def _send(self, source: str, destination: str, port: int, protocol: str, number: int) -> None:
        key = (source, destination, port, protocol, number)
        frame = self._frames.get(key)
        if frame is None:
            frame = self._frames[key] = self._frame(*key)
        if source == NODE:
            self._senders[NODE].sendto(frame[14:], (ADDRESSES[destination], 0))
        else:
            self._senders[source].send(frame)

    def _frame(self, source: str, destination: str, port: int, protocol: str, number: int) -> bytes:
        inside, gateway = bytes(6), bytes(6)
        if source in self._arena.pods:
            device = self._arena.pods[source]
            inside, gateway = mac_bytes(device.mac), mac_bytes(device.device.host_mac)
        elif source == OUTSIDE:
            inside = mac_bytes(links.get("eth0", ns=self._outside).mac)
            gateway = mac_bytes(links.get("out", ns=self._node).mac)
        question = Question(
            source=ip_address(ADDRESSES[source]),
            destination=ip_address(ADDRESSES[destination]),
            protocol=PROTOCOLS[protocol.lower()],
            source_port=number,
            destination_port=port,
            source_mac=inside,
            destination_mac=gateway,
        )
        if protocol != "SCTP":
            return question.frame()
        chunk = sctp_init(number, port)
        header = question._ipv4(len(chunk))
        return gateway + inside + ETH_P_IP.to_bytes(2, "big") + header + chunk

    def _collect(self, expected: Seen) -> Seen:
        """Until all that is expected is there and nothing has come for a while."""
        seen: Seen = set()
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            ready = select.select(list(self._receivers), [], [], QUIET)[0]
            for one in ready:
                seen |= set(self._drain(one))
            if not ready and expected <= seen:
                break
        return seen

    def _drain(self, one: Any) -> Iterator[tuple[str, int]]:
        """Probes that reached one end; answers of the ends' own stacks have other ports."""
        while True:
            try:
                data, address = one.recvfrom(256)
            except BlockingIOError:
                return
            packet = data[14:] if len(address) > 2 else data
            if len(address) > 2 and address[2] == OUTGOING:
                continue
            sender = NAMES.get(socket.inet_ntoa(packet[12:16]))
            receiver = NAMES.get(socket.inet_ntoa(packet[16:20]))
            number, port = struct.unpack_from("!HH", packet, 20)
            if number >= FIRST and port in (80, 81) and sender and receiver:
                yield self._receivers[one], number
