# SPDX-License-Identifier: Apache-2.0
"""MRT table dumps, TABLE_DUMP_V2 (RFC 6396, 8050): written from a router, read as routes."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import attrs

from pycilium.bgp.attributes import OPTIONAL, Attributes, Type
from pycilium.bgp.encode import attribute, encode_attributes
from pycilium.bgp.errors import ProtocolError
from pycilium.bgp.family import Family
from pycilium.bgp.negotiation import Negotiated
from pycilium.bgp.path import Path
from pycilium.bgp.prefix import Prefix, address_text, normalise, prefix_text
from pycilium.bgp.read import Found, read_attribute, settle
from pycilium.bgp.router import Router
from pycilium.errors import SpecError

_TABLE_DUMP_V2, _PEER_INDEX = 13, 1
_RIB = {Family.IPV4: 2, Family.IPV6: 4}
_RIB_PATHS = {8: Family.IPV4, 10: Family.IPV6}  # with path identifiers
_KNOWN = {**{number: family for family, number in _RIB.items()}, **_RIB_PATHS}
_MAPPED = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96
_MAX_RECORD = 1 << 20
_READER = Negotiated(1, 2)  # attributes of 4 octets, and no peer to hold them against


@attrs.frozen
class MrtRoute:
    """One entry of a dump."""

    peer: str
    peer_asn: int
    family: Family
    nlri: Prefix
    attributes: Attributes

    @property
    def prefix(self) -> str:
        """As people write it."""
        return prefix_text(self.family, self.nlri)


def write_mrt(router: Router, router_id: bytes, out: BinaryIO, *, when: float | None = None) -> int:
    """Dump every path of the tables; how many there were."""
    stamp = int(time.time() if when is None else when)
    index: dict[tuple[bytes, bytes, int], int] = {}
    records = []
    total = 0
    for family, table in router.tables.items():
        for number, prefix in enumerate(table):
            paths = table.paths(prefix)
            total += len(paths)
            records.append(_rib_record(family, number, prefix, paths, index, stamp, router_id))
    out.write(_record(stamp, _PEER_INDEX, _peer_index(router_id, index)))
    out.writelines(records)
    return total


def _rib_record(
    family: Family,
    number: int,
    prefix: Prefix,
    paths: Iterable[Path],
    index: dict[tuple[bytes, bytes, int], int],
    stamp: int,
    router_id: bytes,
) -> bytes:
    entries = []
    for path in paths:
        source = path.source
        who = (source.router_id, source.address or router_id, source.asn)
        position = index.setdefault(who, len(index))
        raw = _attributes(path.attributes, family, router_id)
        entries.append(struct.pack("!HIH", position, stamp, len(raw)) + raw)
    head = struct.pack("!I", number) + prefix + struct.pack("!H", len(entries))
    return _record(stamp, _RIB[family], head + b"".join(entries))


def _attributes(one: Attributes, family: Family, router_id: bytes) -> bytes:
    """With the short MP_REACH_NLRI of RFC 6396 §4.3.4 for what is no IPv4 next hop.

    The next hop of own routes is this router, by its identifier.
    """
    if not one.next_hop:
        own = router_id if family is Family.IPV4 else _MAPPED + router_id
        one = attrs.evolve(one, next_hop=own)
    raw = encode_attributes(one, family)
    if not (family is Family.IPV4 and len(one.next_hop) == 4):
        value = bytes((len(one.next_hop),)) + one.next_hop
        raw += attribute(Type.MP_REACH, OPTIONAL, value)
    return raw


def _peer_index(router_id: bytes, index: dict[tuple[bytes, bytes, int], int]) -> bytes:
    parts = [router_id, struct.pack("!HH", 0, len(index))]
    for peer_id, address, asn in index:
        kind = 2 | (len(address) == 16)
        parts.append(bytes((kind,)) + peer_id + address + asn.to_bytes(4, "big"))
    return b"".join(parts)


def _record(stamp: int, subtype: int, body: bytes) -> bytes:
    return struct.pack("!IHHI", stamp, _TABLE_DUMP_V2, subtype, len(body)) + body


def read_mrt(source: BinaryIO) -> Iterator[MrtRoute]:
    """Every route of a dump; records of other kinds and routes that are malformed are passed over.

    Raises SpecError for a file that is cut off or no MRT.
    """
    peers: list[tuple[str, int]] = []
    while head := source.read(12):
        if len(head) < 12:
            raise _cut_off(source)
        _, kind, subtype, size = struct.unpack("!IHHI", head)
        body = source.read(size) if size <= _MAX_RECORD else b""
        if len(body) < size:
            raise _cut_off(source)
        if kind != _TABLE_DUMP_V2:
            continue
        try:
            if subtype == _PEER_INDEX:
                peers = _read_peers(body)
            elif subtype in _KNOWN:
                yield from _read_rib(body, subtype, peers)
        except (struct.error, IndexError, ValueError):
            raise _cut_off(source) from None


def _read_peers(body: bytes) -> list[tuple[str, int]]:
    at = 6 + int.from_bytes(body[4:6], "big")
    (count,) = struct.unpack_from("!H", body, at)
    at += 2
    found = []
    for _ in range(count):
        size, wide = (16 if body[at] & 1 else 4), (4 if body[at] & 2 else 2)
        address, rest = body[at + 5 : at + 5 + size], at + 5 + size
        found.append((address_text(address), int.from_bytes(body[rest : rest + wide], "big")))
        at = rest + wide
    return found


def _read_rib(body: bytes, subtype: int, peers: list[tuple[str, int]]) -> Iterator[MrtRoute]:
    family = _KNOWN[subtype]
    end = 5 + ((body[4] + 7) >> 3)
    if body[4] > family.bits:
        raise ValueError("a length beyond the family's")
    prefix = normalise(body[4:end])
    (count,) = struct.unpack_from("!H", body, end)
    at = end + 2
    for _ in range(count):
        (position,) = struct.unpack_from("!H", body, at)
        at += 6 + 4 * (subtype in _RIB_PATHS)
        (size,) = struct.unpack_from("!H", body, at)
        one = _read_attributes(body[at + 2 : at + 2 + size])
        at += 2 + size
        if one is not None:
            peer, asn = peers[position]
            yield MrtRoute(peer, asn, family, prefix, one)


def _read_attributes(block: bytes) -> Attributes | None:
    found = Found()
    at = 0
    while at < len(block):
        head = 4 if block[at] & 0x10 else 3
        size = int.from_bytes(block[at + 2 : at + head], "big")
        value = block[at + head : at + head + size]
        try:
            read_attribute(found, block[at + 1], block[at], value, _READER)
        except ProtocolError:
            return None
        at += head + size
    hop = found.mp_reach
    one = settle(found, _READER, plain=hop is None)
    if found.must_withdraw:
        return None
    return one if hop is None else attrs.evolve(one, next_hop=_short_next_hop(hop))


def _short_next_hop(value: bytes) -> bytes:
    """The next hop of a short MP_REACH_NLRI, or of a whole one, which some write."""
    if value[0] == len(value) - 1:
        return value[1:]
    return value[4 : 4 + value[3]]


def _cut_off(source: BinaryIO) -> SpecError:
    name = getattr(source, "name", "the file")
    return SpecError("mrt", name, f"whole MRT records; what is at {source.tell()} is none")
