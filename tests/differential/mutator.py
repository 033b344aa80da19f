# SPDX-License-Identifier: Apache-2.0
"""Packets that are almost right: a seeded mutator over the bytes that the datapath reads."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

_HEADERS = 74  # Ethernet, IPv6 and the first of L4
_LEAST = 54  # the kernel's test run takes no frame whose IP header is cut


def mutate(frame: bytes, pick: Random) -> bytes:
    """One to three things wrong, or nothing that matters."""
    data = bytearray(frame)
    for _ in range(pick.randint(1, 3)):
        pick.choice(_WAYS)(data, pick)
    return bytes(data).ljust(_LEAST, b"\0")


def _flip(data: bytearray, pick: Random) -> None:
    at = pick.randrange(12, min(len(data), _HEADERS))
    data[at] ^= 1 << pick.randrange(8)


def _set(data: bytearray, pick: Random) -> None:
    at = pick.randrange(12, min(len(data), _HEADERS))
    data[at] = pick.choice((0, 1, 4, 5, 6, 15, 17, 44, 58, 64, 127, 128, 132, 254, 255))


def _cut(data: bytearray, pick: Random) -> None:
    del data[pick.randrange(34, max(len(data), 34) + 1) :]


def _pad(data: bytearray, pick: Random) -> None:
    data += bytes(pick.randint(1, 64))


def _lengths(data: bytearray, pick: Random) -> None:
    """Total length, payload length, header length, TCP's offset."""
    at = pick.choice((16, 17, 18, 19, 14, 46, 66))
    if at < len(data):
        data[at] = pick.randrange(256)


def _fragment(data: bytearray, pick: Random) -> None:
    data[20:22] = pick.randrange(1 << 16).to_bytes(2, "big")


def _swap(data: bytearray, pick: Random) -> None:
    """Somebody else's address in a place of one's own."""
    size, source, destination = (4, 26, 30) if data[12] == 0x08 else (16, 22, 38)
    first, second = (
        bytes(data[source : source + size]),
        bytes(data[destination : destination + size]),
    )
    where = pick.choice((source, destination))
    data[where : where + size] = second if where == source else first


def _ethertype(data: bytearray, pick: Random) -> None:
    data[12:14] = pick.choice((0x0800, 0x86DD, 0x8100, 0x88A8, 0x88CC, 0)).to_bytes(2, "big")


_WAYS: tuple[Callable[[bytearray, Random], None], ...] = (
    _flip, _flip, _set, _set, _cut, _pad, _lengths, _lengths, _fragment, _swap, _ethertype,
)  # fmt: skip
