# SPDX-License-Identifier: Apache-2.0
"""What must happen to a packet: from the rules, and from a second reading of its bytes."""

from __future__ import annotations

import enum
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import attrs

from differential.strategies import HOST
from pycilium import Policy, ServiceLB
from pycilium.model import Labels
from pycilium.policy import Subject
from pycilium.policy.evaluate import Evaluator

Address = IPv4Address | IPv6Address
L4_MINIMUM = {6: 20, 17: 8, 132: 12, 1: 8, 58: 8}
ECHO = {1: 8, 58: 128}
EXTENSIONS = (0, 43, 44, 51, 60, 135)


@attrs.frozen
class Tuple:
    """The connection that a packet belongs to; port: the destination's, or the ICMP type."""

    source: Address
    destination: Address
    protocol: int
    port: int


class Reading(enum.Enum):
    """Packets that are no whole packet of one connection."""

    MALFORMED = "must be dropped"
    OTHER = "fragments, ICMP errors, extensions, neighbours: another test's"


class Model:
    """The state that the datapath should have: who is where, policies, services."""

    def __init__(self) -> None:
        self.ends: dict[Address, Labels] = {}
        self.services: dict[tuple[Address, int, int], ServiceLB] = {}
        self.apply(())

    def apply(self, policies: tuple[Policy, ...] | list[Policy]) -> None:
        self.policies = tuple(policies)
        self.evaluator = Evaluator(self.policies, cidr_matches_pods=True)

    def passes(self, packet: Tuple) -> bool:
        """Whether a connection's packet may pass now; a proxy that is not there drops."""
        destination, port = packet.destination, packet.port
        if packet.source in self.ends:
            service = self.services.get((destination, port, packet.protocol))
            if service is not None:
                if not service.backends:
                    return False
                destination, port = service.backends[0].address, service.backends[0].port
                if destination == packet.source:
                    return True
        verdict = self.evaluator.verdict(
            self._subject(packet.source), self._subject(destination), port, packet.protocol
        )
        return verdict.allowed and not verdict.redirect

    def _subject(self, address: Address) -> Subject:
        labels = self.ends.get(address)
        if labels is not None:
            return Subject(labels, address)
        reserved = "host" if str(address) in HOST else "world"
        return Subject(address=address, reserved=reserved, enforced=False)


def read(frame: bytes) -> Tuple | Reading:
    """A frame as its receiver's stack would read it."""
    kind = int.from_bytes(frame[12:14], "big")
    if kind == 0x0800:
        return _read_ipv4(frame[14:])
    if kind == 0x86DD:
        return _read_ipv6(frame[14:])
    return Reading.OTHER if kind == 0x0806 else Reading.MALFORMED


def _read_ipv4(packet: bytes) -> Tuple | Reading:
    if len(packet) < 20 or packet[0] >> 4 != 4:
        return Reading.MALFORMED
    header, total = (packet[0] & 15) * 4, int.from_bytes(packet[2:4], "big")
    if header < 20 or not header <= total <= len(packet):
        return Reading.MALFORMED
    if int.from_bytes(packet[6:8], "big") & 0x3FFF:
        return Reading.OTHER
    ends = ip_address(packet[12:16]), ip_address(packet[16:20])
    return _read_l4(ends, packet[9], packet[header:total], 1)


def _read_ipv6(packet: bytes) -> Tuple | Reading:
    if len(packet) < 40 or packet[0] >> 4 != 6:
        return Reading.MALFORMED
    length = int.from_bytes(packet[4:6], "big")
    if packet[6] in EXTENSIONS:
        return Reading.OTHER
    if length > len(packet) - 40:
        return Reading.MALFORMED
    ends = ip_address(packet[8:24]), ip_address(packet[24:40])
    return _read_l4(ends, packet[6], packet[40 : 40 + length], 58)


def _read_l4(ends: Any, protocol: int, segment: bytes, icmp: int) -> Tuple | Reading:
    if protocol not in L4_MINIMUM or (protocol in ECHO and protocol != icmp):
        return Reading.MALFORMED
    if len(segment) < L4_MINIMUM[protocol]:
        return Reading.MALFORMED
    if protocol in ECHO:
        if segment[0] != ECHO[protocol]:
            return Reading.OTHER
        return Tuple(*ends, protocol, segment[0])
    if protocol == 6 and not 20 <= (segment[12] >> 4) * 4 <= len(segment):
        return Reading.MALFORMED
    return Tuple(*ends, protocol, struct.unpack_from("!H", segment, 2)[0])
