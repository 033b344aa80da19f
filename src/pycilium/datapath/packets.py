# SPDX-License-Identifier: Apache-2.0
"""Packets to ask the datapath with: Ethernet, IP and TCP, UDP or ICMP echo, checksums right."""

from __future__ import annotations

import struct

import attrs

from pycilium.datapath.rows import Address, mac_bytes
from pycilium.errors import SpecError

TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58
SYN, ACK = 0x02, 0x10
_ETHERTYPE = {4: 0x0800, 6: 0x86DD}
_ECHO = {ICMP: 8, ICMPV6: 128}


@attrs.frozen(kw_only=True)
class Probe:
    """One packet. Ports are host numbers; for ICMP echo the source port is the identifier."""

    source: Address
    destination: Address
    source_mac: str
    destination_mac: str
    protocol: int
    source_port: int = 40000
    destination_port: int = 0
    tcp_flags: int = SYN

    def build(self) -> bytes:
        """The frame."""
        if self.source.version != self.destination.version:
            family = f"IPv{self.source.version}, as its source"
            raise SpecError("destination", str(self.destination), family)
        ethernet = mac_bytes(self.destination_mac) + mac_bytes(self.source_mac)
        payload = self._l4()
        header = self._ipv4(payload) if self.source.version == 4 else self._ipv6(payload)
        return ethernet + struct.pack(">H", _ETHERTYPE[self.source.version]) + header + payload

    def _ipv4(self, payload: bytes) -> bytes:
        ends = self.source.packed + self.destination.packed
        start = struct.pack(">BBHHHBB", 0x45, 0, 20 + len(payload), 1, 0x4000, 64, self.protocol)
        return start + _checksum(start + bytes(2) + ends) + ends

    def _ipv6(self, payload: bytes) -> bytes:
        start = struct.pack(">IHBB", 6 << 28, len(payload), self.protocol, 64)
        return start + self.source.packed + self.destination.packed

    def _l4(self) -> bytes:
        ports = struct.pack(">HH", self.source_port, self.destination_port)
        if self.protocol == TCP:
            start, rest = ports + struct.pack(">IIBBH", 1, 0, 0x50, self.tcp_flags, 65535), bytes(2)
        elif self.protocol == UDP:
            start, rest = ports + struct.pack(">H", 8), b""
        elif self.protocol in _ECHO:
            start = struct.pack(">BB", _ECHO[self.protocol], 0)
            rest = struct.pack(">HH", self.source_port, 1)
        else:
            raise SpecError("protocol", self.protocol, "tcp, udp or icmp")
        return (
            start
            + _checksum(self._pseudo(len(start) + 2 + len(rest)) + start + bytes(2) + rest)
            + rest
        )

    def _pseudo(self, length: int) -> bytes:
        if self.protocol == ICMP:
            return b""
        ends = self.source.packed + self.destination.packed
        return ends + struct.pack(">II", length, self.protocol)


def _checksum(data: bytes) -> bytes:
    """RFC 1071, as two bytes."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack(">H", ~total & 0xFFFF)
