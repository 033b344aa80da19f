# SPDX-License-Identifier: Apache-2.0
"""BMP messages, version 3 (RFC 7854): what a router tells a monitoring station. Pure."""

from __future__ import annotations

import enum
import struct
from collections import defaultdict
from collections.abc import Iterator

from pycilium.bgp.adj_in import AdjIn
from pycilium.bgp.attributes import Attributes
from pycilium.bgp.encode import encode_end_of_rib, encode_reach, encode_unreach
from pycilium.bgp.message import MAX_EXTENDED, encode_notification
from pycilium.bgp.negotiation import Negotiated
from pycilium.bgp.prefix import Prefix
from pycilium.bgp.session import Ended
from pycilium.bgp.update import Update

_VERSION = 3
_V6 = 0x80


class BmpType(enum.IntEnum):
    """Message types."""

    ROUTE_MONITORING = 0
    STATISTICS = 1
    PEER_DOWN = 2
    PEER_UP = 3
    INITIATION = 4
    TERMINATION = 5


class Statistic(enum.IntEnum):
    """Types of counters (RFC 7854 §4.8)."""

    REJECTED = 0
    ADJ_IN = 7


def frame_bmp(kind: BmpType, body: bytes) -> bytes:
    """A message with its header."""
    return struct.pack("!BIB", _VERSION, len(body) + 6, kind) + body


def initiation(name: str, description: str) -> bytes:
    """The first message of a connection."""
    parts = [(2, name), (1, description)]
    return frame_bmp(BmpType.INITIATION, b"".join(_text(kind, text) for kind, text in parts))


def termination() -> bytes:
    """The last one: closed by the administrator."""
    return frame_bmp(BmpType.TERMINATION, struct.pack("!HHH", 1, 2, 0))


def peer_header(session: Negotiated, when: float) -> bytes:
    """Who a message is about."""
    address = session.peer_address or bytes(4)
    seconds = int(when)
    return b"".join(
        (
            struct.pack("!BB8x", 0, _V6 if len(address) == 16 else 0),
            address.rjust(16, b"\0"),
            session.peer_asn.to_bytes(4, "big"),
            session.peer_id,
            struct.pack("!II", seconds, int((when - seconds) * 1e6)),
        )
    )


def peer_up(
    session: Negotiated, when: float, ports: tuple[int, int], opens: tuple[bytes, bytes]
) -> bytes:
    """A session is established; opens: the whole messages, ours first."""
    local = session.local_address.rjust(16, b"\0") if session.local_address else bytes(16)
    body = peer_header(session, when) + local + struct.pack("!HH", *ports) + b"".join(opens)
    return frame_bmp(BmpType.PEER_UP, body)


def peer_down(session: Negotiated, when: float, event: Ended) -> bytes:
    """A session has ended."""
    if event.sent is not None:
        reason = b"\1" + encode_notification(event.sent)
    elif event.received is not None:
        reason = b"\3" + encode_notification(event.received)
    else:
        reason = b"\4"
    return frame_bmp(BmpType.PEER_DOWN, peer_header(session, when) + reason)


def statistics(session: Negotiated, when: float, *, rejected: int, routes: int) -> bytes:
    """Counters."""
    body = peer_header(session, when) + struct.pack("!I", 2)
    body += struct.pack("!HHI", Statistic.REJECTED, 4, rejected & 0xFFFFFFFF)
    body += struct.pack("!HHQ", Statistic.ADJ_IN, 8, routes)
    return frame_bmp(BmpType.STATISTICS, body)


def monitoring(session: Negotiated, when: float, update: Update) -> Iterator[bytes]:
    """What an UPDATE changed in the Adj-RIB-In, before policy."""
    header = peer_header(session, when)
    for family, gone in update.withdrawn:
        for message in encode_unreach(family, gone, limit=MAX_EXTENDED):
            yield frame_bmp(BmpType.ROUTE_MONITORING, header + message)
    for family, prefixes, one in update.announced:
        for message in encode_reach(family, one, prefixes, limit=MAX_EXTENDED):
            yield frame_bmp(BmpType.ROUTE_MONITORING, header + message)
    if update.end_of_rib is not None:
        end = encode_end_of_rib(update.end_of_rib)
        yield frame_bmp(BmpType.ROUTE_MONITORING, header + end)


def table(session: Negotiated, when: float, adj_in: AdjIn) -> Iterator[bytes]:
    """A whole Adj-RIB-In, for a station that has just connected."""
    groups: defaultdict[Attributes, list[Prefix]] = defaultdict(list)
    for prefix, one in adj_in.routes.items():
        groups[one].append(prefix)
    announced = tuple((adj_in.family, prefixes, one) for one, prefixes in groups.items())
    yield from monitoring(session, when, Update(announced=announced))
    yield from monitoring(session, when, Update(end_of_rib=adj_in.family))


def _text(kind: int, text: str) -> bytes:
    raw = text.encode()[:1000]
    return struct.pack("!HH", kind, len(raw)) + raw
