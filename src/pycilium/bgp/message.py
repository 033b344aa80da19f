# SPDX-License-Identifier: Apache-2.0
"""Messages: the header, OPEN, KEEPALIVE, NOTIFICATION and ROUTE-REFRESH (RFC 4271 §4, 2918, 7313).

UPDATE has files of its own: update.py reads it, encode.py writes it.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator

import attrs

from pycilium.bgp.as_path import AS_TRANS
from pycilium.bgp.capabilities import Capabilities
from pycilium.bgp.errors import ProtocolError
from pycilium.bgp.family import Family
from pycilium.bgp.notification import (
    Code,
    HeaderError,
    Notification,
    OpenError,
    RefreshError,
)

HEADER = 19
MAX_MESSAGE, MAX_EXTENDED = 4096, 65535
_MARKER = b"\xff" * 16


class MessageType(enum.IntEnum):
    """The octet behind the length."""

    OPEN = 1
    UPDATE = 2
    NOTIFICATION = 3
    KEEPALIVE = 4
    ROUTE_REFRESH = 5


_MINIMUM = {
    MessageType.OPEN: 29,
    MessageType.UPDATE: 23,
    MessageType.NOTIFICATION: 21,
    MessageType.KEEPALIVE: 19,
    MessageType.ROUTE_REFRESH: 20,
}


class Refresh(enum.IntEnum):
    """What a ROUTE-REFRESH says (RFC 7313)."""

    REQUEST = 0
    BEGIN = 1
    END = 2


@attrs.frozen
class Open:
    """What a peer says of itself."""

    asn: int
    hold_time: int
    router_id: bytes
    capabilities: Capabilities = attrs.field(factory=Capabilities)

    def encode(self) -> bytes:
        """The whole message."""
        short = self.asn if self.asn <= 65535 else AS_TRANS
        raw = self.capabilities.encode()
        if len(raw) > 253:  # RFC 9072
            parameters = b"\xff\xff" + struct.pack("!HBH", len(raw) + 3, 2, len(raw)) + raw
        else:
            parameters = bytes((len(raw) + 2, 2, len(raw))) + raw if raw else b"\0"
        fixed = struct.pack("!BHH", 4, short, self.hold_time) + self.router_id
        return frame(MessageType.OPEN, fixed + parameters)


def frame(kind: MessageType, body: bytes) -> bytes:
    """A message with its header."""
    return b"%b%b%c%b" % (_MARKER, (HEADER + len(body)).to_bytes(2, "big"), kind, body)


KEEPALIVE = frame(MessageType.KEEPALIVE, b"")


def encode_notification(notification: Notification) -> bytes:
    """The whole message."""
    return frame(MessageType.NOTIFICATION, notification.encode())


def encode_refresh(family: Family, what: Refresh = Refresh.REQUEST) -> bytes:
    """The whole message."""
    body = struct.pack("!HBB", family.afi, what, family.safi)
    return frame(MessageType.ROUTE_REFRESH, body)


class Framer:
    """A stream of octets to messages; keeps at most one message that is not whole."""

    def __init__(self) -> None:
        self.limit = MAX_MESSAGE
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[MessageType, bytes]]:
        """Type and body of every message that is now whole. Raises ProtocolError."""
        data = self._rest + data if self._rest else data
        self._rest = b""
        at, end = 0, len(data)
        while end - at >= HEADER:
            size = int.from_bytes(data[at + 16 : at + 18], "big")
            kind = self._check(data, at, size)
            if at + size > end:
                break
            body = data[at + HEADER : at + size]
            at += size
            yield kind, body
        self._rest = data[at:]
        if not _MARKER.startswith(self._rest[:16]):  # what is no BGP shall not keep us waiting
            raise _header_error(HeaderError.NOT_SYNCHRONISED)

    def _check(self, data: bytes, at: int, size: int) -> MessageType:
        if data[at : at + 16] != _MARKER:
            raise _header_error(HeaderError.NOT_SYNCHRONISED)
        number = data[at + 18]
        if not 1 <= number <= 5:
            raise _header_error(HeaderError.BAD_TYPE, bytes((number,)))
        kind = _TYPES[number]
        small = kind in (MessageType.OPEN, MessageType.KEEPALIVE)
        limit = MAX_MESSAGE if small else self.limit
        exact = kind is MessageType.KEEPALIVE and size != HEADER
        if size < _MINIMUM[kind] or size > limit or exact:
            raise _header_error(HeaderError.BAD_LENGTH, size.to_bytes(2, "big"))
        return kind


_TYPES: tuple[MessageType, ...] = (MessageType.OPEN, *MessageType)  # by number


def decode_open(body: bytes) -> Open:
    """Raises ProtocolError with the reason of RFC 4271 §6.2."""
    version, short, hold_time = struct.unpack_from("!BHH", body)
    if version != 4:
        raise _open_error(OpenError.UNSUPPORTED_VERSION, b"\0\4")
    router_id = body[5:9]
    capabilities = Capabilities.decode(_parameters(body))
    asn = capabilities.asn or short
    if asn == 0 or (asn == AS_TRANS and capabilities.asn is None):
        raise _open_error(OpenError.BAD_PEER_AS)
    if hold_time in (1, 2):
        raise _open_error(OpenError.UNACCEPTABLE_HOLD_TIME, hold_time.to_bytes(2, "big"))
    if router_id == b"\0\0\0\0":
        raise _open_error(OpenError.BAD_IDENTIFIER, router_id)
    return Open(asn, hold_time, router_id, capabilities)


def _parameters(body: bytes) -> bytes:
    """The capabilities of every optional parameter, one after the other."""
    size, at, wide = body[9], 10, False
    if size and len(body) > 12 and body[10] == 255:  # RFC 9072
        size, at, wide = int.from_bytes(body[11:13], "big"), 13, True
    if at + size != len(body):
        raise _open_error(0)
    found = []
    head = 3 if wide else 2
    while at < len(body):
        if at + head > len(body):
            raise _open_error(0)
        length = int.from_bytes(body[at + 1 : at + head], "big")
        if body[at] != 2:
            raise _open_error(OpenError.UNSUPPORTED_PARAMETER)
        if at + head + length > len(body):
            raise _open_error(0)
        found.append(body[at + head : at + head + length])
        at += head + length
    return b"".join(found)


def decode_notification(body: bytes) -> Notification:
    """Any body of two octets or more."""
    return Notification(body[0], body[1], body[2:])


def decode_refresh(body: bytes) -> tuple[int, int, Refresh | None]:
    """AFI, SAFI and what is asked; None for a subtype to be ignored. Raises ProtocolError."""
    if len(body) != 4:
        if len(body) > 4 and body[2] == 0:
            raise ProtocolError(Notification(Code.ROUTE_REFRESH, RefreshError.BAD_LENGTH))
        raise _header_error(HeaderError.BAD_LENGTH, (HEADER + len(body)).to_bytes(2, "big"))
    afi, what, safi = struct.unpack("!HBB", body)
    return afi, safi, Refresh(what) if what <= Refresh.END else None


def _header_error(subcode: HeaderError, data: bytes = b"") -> ProtocolError:
    return ProtocolError(Notification(Code.HEADER, subcode, data))


def _open_error(subcode: int, data: bytes = b"") -> ProtocolError:
    return ProtocolError(Notification(Code.OPEN, subcode, data))
