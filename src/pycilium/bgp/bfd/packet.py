# SPDX-License-Identifier: Apache-2.0
"""The BFD control packet (RFC 5880 section 4): bytes to a packet or to a named reason."""

from __future__ import annotations

import enum
import struct
from typing import Final

import attrs

from pycilium.errors import SpecError

VERSION: Final = 1
_MANDATORY = struct.Struct("!BBBBIIIII")
_AUTHENTICATED_MINIMUM = _MANDATORY.size + 2


class State(enum.IntEnum):
    """The state of a session (RFC 5880 section 4.1)."""

    ADMIN_DOWN = 0
    DOWN = 1
    INIT = 2
    UP = 3


class Diagnostic(enum.IntEnum):
    """Why a session last changed its state (RFC 5880 section 4.1); 9 to 31 are reserved."""

    NONE = 0
    CONTROL_DETECTION_TIME_EXPIRED = 1
    ECHO_FUNCTION_FAILED = 2
    NEIGHBOR_SIGNALED_SESSION_DOWN = 3
    FORWARDING_PLANE_RESET = 4
    PATH_DOWN = 5
    CONCATENATED_PATH_DOWN = 6
    ADMINISTRATIVELY_DOWN = 7
    REVERSE_CONCATENATED_PATH_DOWN = 8

    @classmethod
    def _missing_(cls, value: object) -> Diagnostic | None:
        """A reserved code keeps its number: a peer may be newer than this list."""
        if not isinstance(value, int) or not 0 <= value < 32:
            return None
        reserved = int.__new__(cls, value)
        reserved._name_, reserved._value_ = f"RESERVED_{value}", value
        return cls._value2member_map_.setdefault(value, reserved)  # type: ignore[return-value]


class Discard(enum.Enum):
    """Why a packet was not used, in the order of RFC 5880 section 6.8.6."""

    TRUNCATED = "shorter than a control packet"
    VERSION = "not version 1"
    LENGTH_BELOW_MINIMUM = "its length field is below the minimum"
    LENGTH_ABOVE_PAYLOAD = "its length field is above what came"
    ZERO_MULTIPLIER = "its detect multiplier is 0"
    MULTIPOINT = "its multipoint bit is set"
    ZERO_MY_DISCRIMINATOR = "its own discriminator is 0"
    ZERO_YOUR_DISCRIMINATOR = "it names no session, though not in state Down or AdminDown"
    NO_SESSION = "it belongs to no session"
    TTL = "its TTL is not 255: it came from more than one hop away"
    AUTHENTICATION_UNEXPECTED = "it is authenticated, the session is not"
    AUTHENTICATION_MISSING = "the session is authenticated, it is not"
    AUTHENTICATION_FAILED = "wrong type, key, digest or sequence number"
    ADMIN_DOWN = "the session is administratively down"


@attrs.frozen
class ControlPacket:
    """One control packet; intervals in microseconds, as on the wire.

    authentication: the whole section, from its type on; empty where there is none.
    """

    state: State
    my_discriminator: int
    your_discriminator: int = 0
    diagnostic: Diagnostic = Diagnostic.NONE
    multiplier: int = 3
    desired_min_tx: int = 1_000_000
    required_min_rx: int = 1_000_000
    required_min_echo_rx: int = 0
    poll: bool = False
    final: bool = False
    control_plane_independent: bool = False
    demand: bool = False
    authentication: bytes = attrs.field(default=b"", repr=False)  # may hold a password


def encode(packet: ControlPacket) -> bytes:
    """The packet as bytes; SpecError where a field does not fit its place."""
    flags = (
        packet.state << 6
        | packet.poll << 5
        | packet.final << 4
        | packet.control_plane_independent << 3
        | bool(packet.authentication) << 2
        | packet.demand << 1
    )
    try:
        mandatory = _MANDATORY.pack(
            VERSION << 5 | packet.diagnostic,
            flags,
            packet.multiplier,
            _MANDATORY.size + len(packet.authentication),
            packet.my_discriminator,
            packet.your_discriminator,
            packet.desired_min_tx,
            packet.required_min_rx,
            packet.required_min_echo_rx,
        )
    except struct.error:
        raise SpecError("packet", packet, "fields that fit RFC 5880 section 4.1") from None
    return mandatory + packet.authentication


def decode(data: bytes) -> ControlPacket | Discard:
    """A packet, or why RFC 5880 section 6.8.6 discards it; never an exception."""
    if len(data) < _MANDATORY.size:
        return Discard.TRUNCATED
    first, flags, multiplier, length, mine, yours, tx, rx, echo = _MANDATORY.unpack_from(data)
    refused = _refuse(data, first, flags, length) or _refuse_fields(flags, multiplier, mine, yours)
    if refused is not None:
        return refused
    return ControlPacket(
        State(flags >> 6),
        mine,
        yours,
        Diagnostic(first & 0x1F),
        multiplier,
        tx,
        rx,
        echo,
        bool(flags & 0x20),
        bool(flags & 0x10),
        bool(flags & 0x08),
        bool(flags & 0x02),
        bytes(data[_MANDATORY.size : length]) if flags & 0x04 else b"",
    )


def _refuse(data: bytes, first: int, flags: int, length: int) -> Discard | None:
    if first >> 5 != VERSION:
        return Discard.VERSION
    if length < (_AUTHENTICATED_MINIMUM if flags & 0x04 else _MANDATORY.size):
        return Discard.LENGTH_BELOW_MINIMUM
    return Discard.LENGTH_ABOVE_PAYLOAD if length > len(data) else None


def _refuse_fields(flags: int, multiplier: int, mine: int, yours: int) -> Discard | None:
    if multiplier == 0:
        return Discard.ZERO_MULTIPLIER
    if flags & 0x01:
        return Discard.MULTIPOINT
    if mine == 0:
        return Discard.ZERO_MY_DISCRIMINATOR
    if yours == 0 and flags >> 6 > State.DOWN:
        return Discard.ZERO_YOUR_DISCRIMINATOR
    return None
