# SPDX-License-Identifier: Apache-2.0
"""Capabilities of an OPEN, and what two speakers have in common (RFC 5492).

Multiprotocol (4760), route refresh (2918, 7313), extended next hop (8950), extended messages
(8654), roles (9234), graceful restart (4724, 8538), AS numbers of 4 octets (6793), ADD-PATH (7911),
long-lived graceful restart (9494).
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable, Iterator, Mapping

import attrs

from pycilium.bgp.errors import ProtocolError
from pycilium.bgp.family import Family, find_family
from pycilium.bgp.notification import Code, Notification, OpenError


class Kind(enum.IntEnum):
    """Capability codes."""

    MULTIPROTOCOL = 1
    ROUTE_REFRESH = 2
    EXTENDED_NEXT_HOP = 5
    EXTENDED_MESSAGE = 6
    ROLE = 9
    GRACEFUL_RESTART = 64
    FOUR_OCTET_AS = 65
    ADD_PATH = 69
    ENHANCED_REFRESH = 70
    LONG_LIVED = 71


class Role(enum.IntEnum):
    """What a speaker is to its peer (RFC 9234)."""

    PROVIDER = 0
    ROUTE_SERVER = 1
    ROUTE_SERVER_CLIENT = 2
    CUSTOMER = 3
    PEER = 4


class AddPath(enum.IntFlag):
    """Directions of ADD-PATH, from the side that says it."""

    NONE = 0
    RECEIVE = 1
    SEND = 2


@attrs.frozen
class Restart:
    """Graceful restart: seconds that the peer should wait, and families with forwarding kept."""

    time: int
    families: Mapping[Family, bool] = attrs.field(factory=dict)
    restarted: bool = False
    notifications: bool = True

    def encode(self) -> bytes:
        """The value of the capability."""
        flags = self.restarted << 15 | self.notifications << 14
        parts = [struct.pack("!H", flags | self.time)]
        parts += [one.wire + bytes((kept << 7,)) for one, kept in self.families.items()]
        return b"".join(parts)

    @classmethod
    def decode(cls, value: bytes) -> Restart:
        """From the value; unknown families are left out."""
        (head,) = struct.unpack_from("!H", value)
        families = {}
        for afi, safi, flags in struct.iter_unpack("!HBB", value[2:]):
            if (family := find_family(afi, safi)) is not None:
                families[family] = bool(flags & 0x80)
        return cls(head & 0x0FFF, families, bool(head & 0x8000), bool(head & 0x4000))


@attrs.frozen
class Capabilities:
    """Everything that an OPEN can say; what is not said is empty."""

    families: tuple[Family, ...] = ()
    asn: int | None = None
    route_refresh: bool = False
    enhanced_refresh: bool = False
    extended_message: bool = False
    extended_next_hop: bool = False
    role: Role | None = None
    restart: Restart | None = None
    long_lived: Mapping[Family, int] = attrs.field(factory=dict)
    add_path: Mapping[Family, AddPath] = attrs.field(factory=dict)

    def encode(self) -> bytes:
        """The value of a capabilities parameter."""
        return b"".join(bytes((kind, len(value))) + value for kind, value in self._items())

    def _items(self) -> Iterator[tuple[Kind, bytes]]:
        for family in self.families:
            yield Kind.MULTIPROTOCOL, struct.pack("!HBB", family.afi, 0, family.safi)
        flags = (
            (Kind.ROUTE_REFRESH, self.route_refresh),
            (Kind.ENHANCED_REFRESH, self.enhanced_refresh),
            (Kind.EXTENDED_MESSAGE, self.extended_message),
        )
        yield from ((kind, b"") for kind, given in flags if given)
        if self.extended_next_hop:
            yield Kind.EXTENDED_NEXT_HOP, struct.pack("!HHH", 1, 1, 2)
        if self.role is not None:
            yield Kind.ROLE, bytes((self.role,))
        if self.restart is not None:
            yield Kind.GRACEFUL_RESTART, self.restart.encode()
        if self.asn is not None:
            yield Kind.FOUR_OCTET_AS, self.asn.to_bytes(4, "big")
        if self.add_path:
            parts = (one.wire + bytes((how,)) for one, how in self.add_path.items())
            yield Kind.ADD_PATH, b"".join(parts)
        if self.long_lived:
            parts = (
                one.wire + b"\x80" + seconds.to_bytes(3, "big")
                for one, seconds in self.long_lived.items()
            )
            yield Kind.LONG_LIVED, b"".join(parts)

    @classmethod
    def decode(cls, data: bytes) -> Capabilities:
        """From the values of all parameters; unknown and ill-formed ones are passed over.

        Raises ProtocolError where a length leads beyond the end, or roles contradict each other.
        """
        found: dict[str, object] = {}
        families: list[Family] = []
        for kind, value in _split(data):
            if kind == Kind.MULTIPROTOCOL and len(value) == 4:
                family = find_family(int.from_bytes(value[:2], "big"), value[3])
                families += [family] if family and family not in families else []
            elif kind == Kind.ROLE and len(value) == 1:
                _one_role(found, value[0])
            elif kind in _READERS:
                name, reader = _READERS[kind]
                _try(found, name, reader, value)
        return cls(families=tuple(families), **found)  # type: ignore[arg-type]


def _split(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        if at + 2 > len(data) or at + 2 + data[at + 1] > len(data):
            raise ProtocolError(Notification(Code.OPEN, 0, data[at : at + 16]))
        end = at + 2 + data[at + 1]
        yield data[at], data[at + 2 : end]
        at = end


def _try(
    found: dict[str, object], name: str, reader: Callable[[bytes], object], value: bytes
) -> None:
    try:
        found[name] = reader(value)
    except (ValueError, struct.error):
        return


def _one_role(found: dict[str, object], number: int) -> None:
    """Several roles that differ end the session (RFC 9234 §4.2)."""
    try:
        role = Role(number)
    except ValueError:
        role = None
    if role is None or found.get("role", role) is not role:
        raise ProtocolError(Notification(Code.OPEN, OpenError.ROLE_MISMATCH))
    found["role"] = role


def _flag(value: bytes) -> bool:
    if value:
        raise ValueError("a flag has no value")
    return True


def _asn(value: bytes) -> int:
    if len(value) != 4:
        raise ValueError("four octets")
    return int.from_bytes(value, "big")


def _next_hops(value: bytes) -> bool:
    """Whether IPv4 unicast may have an IPv6 next hop (RFC 8950)."""
    return (1, 1, 2) in set(struct.iter_unpack("!HHH", value))


def _add_path(value: bytes) -> dict[Family, AddPath]:
    found = {}
    for afi, safi, how in struct.iter_unpack("!HBB", value):
        family = find_family(afi, safi)
        if family is not None and 1 <= how <= 3:
            found[family] = AddPath(how)
    return found


def _long_lived(value: bytes) -> dict[Family, int]:
    found = {}
    for afi, safi, _, high, low in struct.iter_unpack("!HBBBH", value):
        if (family := find_family(afi, safi)) is not None:
            found[family] = high << 16 | low
    return found


_READERS: dict[int, tuple[str, Callable[[bytes], object]]] = {
    Kind.ROUTE_REFRESH: ("route_refresh", _flag),
    Kind.ENHANCED_REFRESH: ("enhanced_refresh", _flag),
    Kind.EXTENDED_MESSAGE: ("extended_message", _flag),
    Kind.EXTENDED_NEXT_HOP: ("extended_next_hop", _next_hops),
    Kind.GRACEFUL_RESTART: ("restart", Restart.decode),
    Kind.FOUR_OCTET_AS: ("asn", _asn),
    Kind.ADD_PATH: ("add_path", _add_path),
    Kind.LONG_LIVED: ("long_lived", _long_lived),
}
