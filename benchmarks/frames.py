# SPDX-License-Identifier: Apache-2.0
"""TCP frames with right checksums, of the two sizes that the wrapper program restores."""

from __future__ import annotations

import struct
from ipaddress import IPv6Address, ip_address

import attrs

SHORT = 64  # bytes of an IPv4 frame
LONG = 80  # bytes of an IPv6 frame
SYN, ACK, PUSH = 0x02, 0x10, 0x08

_ETHERNET = 14
_TCP = 20
_PROTOCOL_TCP = 6


@attrs.frozen
class Tuple:
    """Addresses and ports of a TCP packet, as its sender writes them."""

    source: str
    destination: str
    source_port: int
    destination_port: int

    @property
    def reply(self) -> Tuple:
        """The same connection, from the other side."""
        return Tuple(self.destination, self.source, self.destination_port, self.source_port)

    @property
    def is_ipv6(self) -> bool:
        return ip_address(self.source).version == 6


def tcp_frame(flow: Tuple, *, source_mac: str, destination_mac: str, flags: int = ACK) -> bytes:
    """An Ethernet frame with TCP: 64 bytes for IPv4, 80 bytes for IPv6."""
    source, destination = ip_address(flow.source), ip_address(flow.destination)
    ip_header = 40 if flow.is_ipv6 else 20
    size = LONG if flow.is_ipv6 else SHORT
    payload = bytes(size - _ETHERNET - ip_header - _TCP)
    segment = _tcp(flow, flags, payload, source.packed + destination.packed)
    if isinstance(source, IPv6Address):
        packet = _ipv6(source.packed, destination.packed, len(segment)) + segment
    else:
        packet = _ipv4(source.packed, destination.packed, len(segment)) + segment
    ethertype = 0x86DD if flow.is_ipv6 else 0x0800
    return _mac(destination_mac) + _mac(source_mac) + struct.pack("!H", ethertype) + packet


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _ipv4(source: bytes, destination: bytes, payload: int) -> bytes:
    def header(check: int) -> bytes:
        fields = struct.pack("!BBHHHBBH", 0x45, 0, 20 + payload, 1, 0x4000, 64, 6, check)
        return fields + source + destination

    return header(_checksum(header(0)))


def _ipv6(source: bytes, destination: bytes, payload: int) -> bytes:
    return struct.pack("!IHBB", 6 << 28, payload, _PROTOCOL_TCP, 64) + source + destination


def _tcp(flow: Tuple, flags: int, payload: bytes, addresses: bytes) -> bytes:
    def segment(check: int) -> bytes:
        ports = struct.pack("!HH", flow.source_port, flow.destination_port)
        return ports + struct.pack("!IIBBHHH", 1, 1, 0x50, flags, 64240, check, 0) + payload

    length = _TCP + len(payload)
    return segment(_checksum(addresses + struct.pack("!HH", _PROTOCOL_TCP, length) + segment(0)))


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
