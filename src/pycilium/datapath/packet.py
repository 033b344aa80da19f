# SPDX-License-Identifier: Apache-2.0
"""The packet that explain() asks the kernel about: Ethernet, IP, and TCP, UDP or ICMP echo."""

from __future__ import annotations

import struct

import attrs

from pycilium.datapath.wire import PROTOCOL_NAMES, Address

_ETHERTYPES = {4: 0x0800, 6: 0x86DD}
_TTL = 64
_TCP_SYN = 0x02
ICMP_ECHO = 8
ICMPV6_ECHO = 128


@attrs.frozen(kw_only=True)
class Question:
    """The first packet of a connection."""

    source: Address
    destination: Address
    protocol: int
    source_port: int
    destination_port: int
    source_mac: bytes
    destination_mac: bytes

    def __str__(self) -> str:
        name = PROTOCOL_NAMES.get(self.protocol, str(self.protocol))
        port = "" if self.is_icmp else f":{self.destination_port}"
        return f"{self.source} → {_bracketed(self.destination, bool(port))}{port}/{name}"

    @property
    def is_icmp(self) -> bool:
        """ICMP has no ports; the echo type stands in for the destination's."""
        return self.protocol in (1, 58)

    def frame(self) -> bytes:
        """The bytes on the wire, checksums right."""
        payload = self._payload()
        ethertype = _ETHERTYPES[self.destination.version].to_bytes(2, "big")
        ethernet = self.destination_mac + self.source_mac + ethertype
        header = self._ipv4(len(payload)) if self.destination.version == 4 else self._ipv6(payload)
        return ethernet + header + payload

    def _payload(self) -> bytes:
        if self.is_icmp:
            kind = ICMP_ECHO if self.protocol == 1 else ICMPV6_ECHO
            segment, at = struct.pack("!BBHHH", kind, 0, 0, self.source_port, 1) + bytes(8), 2
        elif self.protocol == 6:
            ports = (self.source_port, self.destination_port)
            segment = struct.pack("!HHIIBBHHH", *ports, 1, 0, 5 << 4, _TCP_SYN, 65535, 0, 0)
            at = 16
        else:
            ports = (self.source_port, self.destination_port)
            segment, at = struct.pack("!HHHH", *ports, 16, 0) + bytes(8), 6
        covered = segment if self.protocol == 1 else self._pseudo(len(segment)) + segment
        return segment[:at] + checksum(covered).to_bytes(2, "big") + segment[at + 2 :]

    def _pseudo(self, length: int) -> bytes:
        ends = self.source.packed + self.destination.packed
        layout = "!BBH" if self.source.version == 4 else "!I3xB"
        tail = (0, self.protocol, length) if self.source.version == 4 else (length, self.protocol)
        return ends + struct.pack(layout, *tail)

    def _ipv4(self, length: int) -> bytes:
        ends = self.source.packed + self.destination.packed
        fields = (0x45, 0, 20 + length, 1, 0x4000, _TTL, self.protocol)
        header = struct.pack("!BBHHHBB", *fields)
        return header + checksum(header + bytes(2) + ends).to_bytes(2, "big") + ends

    def _ipv6(self, payload: bytes) -> bytes:
        fixed = struct.pack("!IHBB", 6 << 28, len(payload), self.protocol, _TTL)
        return fixed + self.source.packed + self.destination.packed


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _bracketed(address: Address, wanted: bool) -> str:
    return f"[{address}]" if wanted and address.version == 6 else str(address)
