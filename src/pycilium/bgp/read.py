# SPDX-License-Identifier: Apache-2.0
"""One attribute at a time: what it holds, or what RFC 7606 does about it."""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable
from typing import Any

import attrs

from pycilium.bgp.as_path import AS_TRANS, AsPath
from pycilium.bgp.attributes import OPTIONAL, TRANSITIVE, Attributes, Origin, Type, Unknown
from pycilium.bgp.errors import ProtocolError
from pycilium.bgp.negotiation import Negotiated
from pycilium.bgp.notification import Code, Notification, UpdateError
from pycilium.bgp.prefix import address_text

_BOTH = OPTIONAL | TRANSITIVE
_IGNORED = object()


class Severity(enum.IntEnum):
    """What a problem costs; a session's end is a ProtocolError instead."""

    DISCARD = 1
    WITHDRAW = 2


class Fault(Exception):  # noqa: N818 - never leaves this package
    """An attribute is wrong; caught where the attribute's type is known."""

    def __init__(self, severity: Severity, reason: str) -> None:
        self.severity = severity
        self.reason = reason
        super().__init__(reason)


@attrs.frozen
class Problem:
    """What was wrong with an attribute and what came of it."""

    type: int
    severity: Severity
    reason: str

    def __str__(self) -> str:
        names = {one.value: one.name for one in Type}
        done = "passed over" if self.severity is Severity.DISCARD else "taken as withdrawn"
        return f"{names.get(self.type, f'attribute {self.type}')}: {self.reason}; {done}"


@attrs.define
class Found:
    """What has been read of one message so far."""

    fields: dict[str, Any] = attrs.field(factory=dict)
    types: set[int] = attrs.field(factory=set)
    unknown: list[Unknown] = attrs.field(factory=list)
    problems: list[Problem] = attrs.field(factory=list)
    mp_reach: bytes | None = None
    mp_unreach: bytes | None = None
    next_hop: bytes = b""
    must_withdraw: bool = False

    def note(self, fault: Fault, kind: int) -> None:
        """Remember a problem of an attribute."""
        self.problems.append(Problem(kind, fault.severity, fault.reason))
        self.must_withdraw |= fault.severity is Severity.WITHDRAW


def read_attribute(found: Found, kind: int, flags: int, value: bytes, session: Negotiated) -> None:
    """Add one attribute. Raises ProtocolError only for a second MP_REACH or MP_UNREACH."""
    if kind in found.types:
        if kind in (Type.MP_REACH, Type.MP_UNREACH):
            error = UpdateError.MALFORMED_ATTRIBUTE_LIST
            raise ProtocolError(Notification(Code.UPDATE, error))
        found.note(Fault(Severity.DISCARD, "it is there twice"), kind)
        return
    found.types.add(kind)
    try:
        _read(found, kind, flags, value, session)
    except Fault as fault:
        found.note(fault, kind)


def _read(found: Found, kind: int, flags: int, value: bytes, session: Negotiated) -> None:
    row = _READERS.get(kind)
    if row is None:
        _read_unknown(found, kind, flags, value)
        return
    name, wanted, reader = row
    if flags & _BOTH != wanted:
        raise Fault(Severity.WITHDRAW, f"flags {flags:#04x}")
    if reader is None:
        setattr(found, name, value)
        return
    result = reader(value, session)
    if result is not _IGNORED:
        found.fields[name] = result


def _read_unknown(found: Found, kind: int, flags: int, value: bytes) -> None:
    if not flags & OPTIONAL:
        raise Fault(Severity.WITHDRAW, "unknown, but marked well-known")
    if flags & TRANSITIVE:
        found.unknown.append(Unknown(kind, flags, value))


def settle(found: Found, session: Negotiated, *, plain: bool) -> Attributes:
    """The attributes of the whole message, with what only shows when all are known.

    plain: there are prefixes outside of MP_REACH_NLRI, so NEXT_HOP must be there.
    """
    fields = found.fields
    wide_path, wide_aggregator = fields.pop("as4_path", None), fields.pop("as4_aggregator", None)
    if not found.must_withdraw:
        _check_mandatory(found, plain)
    if not session.wide:
        _merge(fields, wide_path, wide_aggregator)
    hop = fields.get("next_hop", b"") if plain else b""
    one = Attributes(unknown=tuple(sorted(found.unknown)), **{**fields, "next_hop": hop})
    _check_path(found, one, session)
    for used in (hop, found.next_hop):
        _check_next_hop(found, used, session)
    return one


def _check_mandatory(found: Found, plain: bool) -> None:
    needed = [Type.ORIGIN, Type.AS_PATH] + ([Type.NEXT_HOP] if plain else [])
    for kind in needed:
        if kind not in found.types:
            found.note(Fault(Severity.WITHDRAW, "mandatory and missing"), kind)


def _merge(
    fields: dict[str, Any], path: AsPath | None, aggregator: tuple[int, bytes] | None
) -> None:
    """AS numbers of 4 octets that came through a peer of 2 (RFC 6793 §4.2.3)."""
    narrow = fields.get("aggregator")
    if narrow is not None and aggregator is not None:
        if narrow[0] != AS_TRANS:
            return
        fields["aggregator"] = aggregator
    if path is not None and "as_path" in fields:
        fields["as_path"] = fields["as_path"].merge(path)


def _check_path(found: Found, one: Attributes, session: Negotiated) -> None:
    if session.external and session.enforce_first_as and one.as_path.first != session.peer_asn:
        first = one.as_path.first
        fault = Fault(Severity.WITHDRAW, f"starts with {first}, not with AS {session.peer_asn}")
        found.note(fault, Type.AS_PATH)


def _check_next_hop(found: Found, hop: bytes, session: Negotiated) -> None:
    """An address that no router can have, or that is ours, is no way to anywhere."""
    if not hop:
        return
    reason = "is our own address" if hop[:16] == session.local_address else ""
    if is_martian(hop):
        reason = "is no address of a router"
    if reason:
        found.note(Fault(Severity.WITHDRAW, f"{address_text(hop)} {reason}"), Type.NEXT_HOP)


def is_martian(hop: bytes) -> bool:
    """Loopback, unspecified, multicast or reserved."""
    if len(hop) == 4:
        return hop[0] in (0, 127) or hop[0] >= 224
    return hop[0] == 255 or hop[:15] == bytes(15)


def _sized(size: int, value: bytes, severity: Severity = Severity.WITHDRAW) -> bytes:
    if len(value) != size:
        raise Fault(severity, f"{len(value)} octets, not {size}")
    return value


def _many(size: int, value: bytes) -> bytes:
    if not value or len(value) % size:
        raise Fault(Severity.WITHDRAW, f"{len(value)} octets, not a multiple of {size}")
    return value


def _origin(value: bytes, session: Negotiated) -> Origin:  # noqa: ARG001
    number = _sized(1, value)[0]
    if number > Origin.INCOMPLETE:
        raise Fault(Severity.WITHDRAW, f"value {number}")
    return Origin(number)


def _as_path(value: bytes, session: Negotiated) -> AsPath:
    try:
        return AsPath.decode(value, wide=session.wide)
    except ValueError as error:
        raise Fault(Severity.WITHDRAW, str(error)) from None


def _next_hop(value: bytes, session: Negotiated) -> bytes:  # noqa: ARG001
    return _sized(4, value)


def _number(value: bytes, session: Negotiated) -> int:  # noqa: ARG001
    return int.from_bytes(_sized(4, value), "big")


def _local_pref(value: bytes, session: Negotiated) -> Any:
    if session.external:
        return _internal_only()
    return _number(value, session)


def _internal_only() -> object:
    raise Fault(Severity.DISCARD, "from an external peer")


def _atomic(value: bytes, session: Negotiated) -> bool:  # noqa: ARG001
    _sized(0, value, Severity.DISCARD)
    return True


def _aggregator(value: bytes, session: Negotiated) -> tuple[int, bytes]:
    size = 8 if session.wide else 6
    _sized(size, value, Severity.DISCARD)
    return int.from_bytes(value[: size - 4], "big"), value[-4:]


def _communities(value: bytes, session: Negotiated) -> tuple[int, ...]:  # noqa: ARG001
    count = len(_many(4, value)) // 4
    return tuple(sorted(set(struct.unpack(f"!{count}I", value))))


def _extended(value: bytes, session: Negotiated) -> tuple[bytes, ...]:  # noqa: ARG001
    _many(8, value)
    return tuple(sorted({value[at : at + 8] for at in range(0, len(value), 8)}))


def _large(value: bytes, session: Negotiated) -> tuple[Any, ...]:  # noqa: ARG001
    return tuple(sorted(set(struct.iter_unpack("!3I", _many(12, value)))))


def _originator(value: bytes, session: Negotiated) -> Any:
    return _internal_only() if session.external else _sized(4, value)


def _clusters(value: bytes, session: Negotiated) -> Any:
    if session.external:
        return _internal_only()
    _many(4, value)
    return tuple(value[at : at + 4] for at in range(0, len(value), 4))


def _as4_path(value: bytes, session: Negotiated) -> Any:
    if session.wide:
        return _IGNORED
    try:
        return AsPath.decode(value)
    except ValueError as error:
        raise Fault(Severity.DISCARD, str(error)) from None


def _as4_aggregator(value: bytes, session: Negotiated) -> Any:
    if session.wide:
        return _IGNORED
    _sized(8, value, Severity.DISCARD)
    return int.from_bytes(value[:4], "big"), value[4:]


_READERS: dict[int, tuple[str, int, Callable[[bytes, Negotiated], Any] | None]] = {
    Type.ORIGIN: ("origin", TRANSITIVE, _origin),
    Type.AS_PATH: ("as_path", TRANSITIVE, _as_path),
    Type.NEXT_HOP: ("next_hop", TRANSITIVE, _next_hop),
    Type.MED: ("med", OPTIONAL, _number),
    Type.LOCAL_PREF: ("local_pref", TRANSITIVE, _local_pref),
    Type.ATOMIC_AGGREGATE: ("atomic_aggregate", TRANSITIVE, _atomic),
    Type.AGGREGATOR: ("aggregator", _BOTH, _aggregator),
    Type.COMMUNITIES: ("communities", _BOTH, _communities),
    Type.ORIGINATOR_ID: ("originator_id", OPTIONAL, _originator),
    Type.CLUSTER_LIST: ("cluster_list", OPTIONAL, _clusters),
    Type.MP_REACH: ("mp_reach", OPTIONAL, None),
    Type.MP_UNREACH: ("mp_unreach", OPTIONAL, None),
    Type.EXTENDED_COMMUNITIES: ("extended_communities", _BOTH, _extended),
    Type.AS4_PATH: ("as4_path", _BOTH, _as4_path),
    Type.AS4_AGGREGATOR: ("as4_aggregator", _BOTH, _as4_aggregator),
    Type.LARGE_COMMUNITIES: ("large_communities", _BOTH, _large),
    Type.OTC: ("otc", _BOTH, _number),
}
