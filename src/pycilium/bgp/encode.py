# SPDX-License-Identifier: Apache-2.0
"""Attributes and prefixes to UPDATE messages, packed as full as they go (RFC 4271 §4.3, 4760)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from pycilium.bgp.as_path import AS_TRANS
from pycilium.bgp.attributes import (
    EXTENDED_LENGTH,
    OPTIONAL,
    PARTIAL,
    TRANSITIVE,
    Attributes,
    Type,
)
from pycilium.bgp.family import Family
from pycilium.bgp.message import HEADER, MessageType, frame
from pycilium.bgp.prefix import Prefix, longest
from pycilium.errors import SpecError

_BOTH = OPTIONAL | TRANSITIVE


def attribute(kind: int, flags: int, value: bytes) -> bytes:
    """One attribute with its header."""
    if len(value) > 255:
        return struct.pack("!BBH", flags | EXTENDED_LENGTH, kind, len(value)) + value
    return bytes((flags, kind, len(value))) + value


def encode_attributes(
    attributes: Attributes, family: Family, *, wide: bool = True, reach: bool = True
) -> bytes:
    """Everything but MP_REACH_NLRI, in the order of the type codes.

    wide: the peer reads AS numbers of 4 octets. reach: NEXT_HOP of IPv4 goes here.
    """
    one = attributes
    parts = [
        attribute(Type.ORIGIN, TRANSITIVE, bytes((one.origin,))),
        attribute(Type.AS_PATH, TRANSITIVE, one.as_path.encode(wide=wide)),
    ]
    if reach and family is Family.IPV4 and len(one.next_hop) == 4:
        parts.append(attribute(Type.NEXT_HOP, TRANSITIVE, one.next_hop))
    parts += _numbers(one)
    parts += _aggregation(one, wide)
    parts += _communities(one)
    if not wide and any(number > 65535 for number in one.as_path):
        parts.append(attribute(Type.AS4_PATH, _BOTH, one.as_path.encode()))
    parts += [
        attribute(two.type, (two.flags & ~EXTENDED_LENGTH) | PARTIAL, two.value)
        for two in one.unknown
    ]
    return b"".join(parts)


def _numbers(one: Attributes) -> list[bytes]:
    rows = (
        (Type.MED, OPTIONAL, one.med),
        (Type.LOCAL_PREF, TRANSITIVE, one.local_pref),
        (Type.OTC, _BOTH, one.otc),
    )
    return [attribute(t, f, v.to_bytes(4, "big")) for t, f, v in rows if v is not None]


def _aggregation(one: Attributes, wide: bool) -> list[bytes]:
    parts = [attribute(Type.ATOMIC_AGGREGATE, TRANSITIVE, b"")] if one.atomic_aggregate else []
    if one.aggregator is None:
        return parts
    asn, router = one.aggregator
    if wide:
        return [*parts, attribute(Type.AGGREGATOR, _BOTH, asn.to_bytes(4, "big") + router)]
    short = asn if asn <= 65535 else AS_TRANS
    parts.append(attribute(Type.AGGREGATOR, _BOTH, short.to_bytes(2, "big") + router))
    if asn > 65535:
        parts.append(attribute(Type.AS4_AGGREGATOR, _BOTH, asn.to_bytes(4, "big") + router))
    return parts


def _communities(one: Attributes) -> list[bytes]:
    parts = []
    if one.communities:
        packed = struct.pack(f"!{len(one.communities)}I", *one.communities)
        parts.append(attribute(Type.COMMUNITIES, _BOTH, packed))
    if one.originator_id is not None:
        parts.append(attribute(Type.ORIGINATOR_ID, OPTIONAL, one.originator_id))
    if one.cluster_list:
        parts.append(attribute(Type.CLUSTER_LIST, OPTIONAL, b"".join(one.cluster_list)))
    if one.extended_communities:
        packed = b"".join(one.extended_communities)
        parts.append(attribute(Type.EXTENDED_COMMUNITIES, _BOTH, packed))
    if one.large_communities:
        packed = b"".join(struct.pack("!3I", *three) for three in one.large_communities)
        parts.append(attribute(Type.LARGE_COMMUNITIES, _BOTH, packed))
    return parts


def encode_reach(
    family: Family,
    attributes: Attributes,
    prefixes: Sequence[Prefix],
    *,
    limit: int = 4096,
    wide: bool = True,
) -> Iterator[bytes]:
    """UPDATE messages of at most `limit` octets that announce prefixes with shared attributes.

    Raises SpecError where the attributes alone leave no room.
    """
    common = encode_attributes(attributes, family, wide=wide)
    plain = family is Family.IPV4 and len(attributes.next_hop) == 4
    used = HEADER + 4 + len(common)
    if not plain:
        hop = family.wire + bytes((len(attributes.next_hop),)) + attributes.next_hop + b"\0"
        used += 4 + len(hop)
    count = (limit - used) // longest(prefixes)
    if count < 1:
        raise SpecError("attributes", f"{len(common)} octets", f"what fits in {limit} octets")
    for at in range(0, len(prefixes), count):
        nlri = b"".join(prefixes[at : at + count])
        if plain:
            head = b"\0\0" + len(common).to_bytes(2, "big") + common
            yield frame(MessageType.UPDATE, head + nlri)
        else:
            yield _update(attribute(Type.MP_REACH, OPTIONAL, hop + nlri) + common)


def encode_unreach(
    family: Family, prefixes: Sequence[Prefix], *, limit: int = 4096
) -> Iterator[bytes]:
    """UPDATE messages that withdraw."""
    count = (limit - HEADER - 12) // longest(prefixes)
    for at in range(0, len(prefixes), count):
        nlri = b"".join(prefixes[at : at + count])
        if family is Family.IPV4:
            yield frame(MessageType.UPDATE, len(nlri).to_bytes(2, "big") + nlri + b"\0\0")
        else:
            yield _update(attribute(Type.MP_UNREACH, OPTIONAL, family.wire + nlri))


def encode_end_of_rib(family: Family) -> bytes:
    """The mark after the last route of the first exchange (RFC 4724 §2)."""
    if family is Family.IPV4:
        return frame(MessageType.UPDATE, b"\0\0\0\0")
    return _update(attribute(Type.MP_UNREACH, OPTIONAL, family.wire))


def _update(attributes: bytes) -> bytes:
    return frame(MessageType.UPDATE, b"\0\0" + len(attributes).to_bytes(2, "big") + attributes)
