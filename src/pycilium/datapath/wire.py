# SPDX-License-Identifier: Apache-2.0
"""Addresses, ports and keys in the shapes that the C structs want."""

from __future__ import annotations

from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
)
from typing import Any

from pycilium.errors import SpecError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58}
PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}


def parse_address(field: str, value: object) -> Address:
    """One IP address; SpecError says what is wrong with it."""
    try:
        return ip_address(value)  # type: ignore[arg-type]
    except ValueError:
        raise SpecError(field, value, "an IPv4 or IPv6 address") from None


def addr(address: Address) -> bytes:
    """As union pcl_addr: IPv4 in the first four bytes."""
    return address.packed.ljust(16, b"\0")


def address_of(packed: bytes, family: int) -> Address:
    """The address that union pcl_addr holds."""
    return IPv4Address(packed[:4]) if family == 4 else IPv6Address(packed[:16])


def be16(port: int) -> int:
    """A port as the integer that a __be16 holds on a little-endian machine."""
    return int.from_bytes(port.to_bytes(2, "big"), "little")


def be32(address: IPv4Address | None) -> int:
    """An IPv4 address as the integer that a __be32 holds; 0 for none."""
    return int.from_bytes(address.packed, "little") if address else 0


def mac_bytes(mac: str) -> bytes:
    """aa:bb:cc:dd:ee:ff as six bytes."""
    parts = mac.split(":")
    try:
        packed = bytes(int(part, 16) for part in parts)
    except ValueError:
        packed = b""
    if len(packed) != 6 or packed[0] & 1 or not any(packed):
        raise SpecError("mac", mac, "a unicast MAC address such as 02:00:00:00:00:01")
    return packed


def mac_text(packed: bytes) -> str:
    """Six bytes as aa:bb:cc:dd:ee:ff."""
    return packed[:6].hex(":")


def address_key(address: Address) -> dict[str, Any]:
    """struct pcl_address_key."""
    return {"addr": addr(address), "family": address.version}
