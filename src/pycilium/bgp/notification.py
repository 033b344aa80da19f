# SPDX-License-Identifier: Apache-2.0
"""NOTIFICATION: why a session ends, in numbers and in words (RFC 4271 §4.5, 4486, 8538, 9003)."""

from __future__ import annotations

import enum

import attrs


class Code(enum.IntEnum):
    """The first number."""

    HEADER = 1
    OPEN = 2
    UPDATE = 3
    HOLD_TIMER = 4
    FSM = 5
    CEASE = 6
    ROUTE_REFRESH = 7


class HeaderError(enum.IntEnum):
    """Of a message header."""

    NOT_SYNCHRONISED = 1
    BAD_LENGTH = 2
    BAD_TYPE = 3


class OpenError(enum.IntEnum):
    """Of an OPEN."""

    UNSUPPORTED_VERSION = 1
    BAD_PEER_AS = 2
    BAD_IDENTIFIER = 3
    UNSUPPORTED_PARAMETER = 4
    UNACCEPTABLE_HOLD_TIME = 6
    UNSUPPORTED_CAPABILITY = 7
    ROLE_MISMATCH = 11


class UpdateError(enum.IntEnum):
    """Of an UPDATE."""

    MALFORMED_ATTRIBUTE_LIST = 1
    UNRECOGNISED_WELL_KNOWN = 2
    MISSING_WELL_KNOWN = 3
    ATTRIBUTE_FLAGS = 4
    ATTRIBUTE_LENGTH = 5
    INVALID_ORIGIN = 6
    INVALID_NEXT_HOP = 8
    OPTIONAL_ATTRIBUTE = 9
    INVALID_NETWORK_FIELD = 10
    MALFORMED_AS_PATH = 11


class FsmError(enum.IntEnum):
    """A message in the wrong state (RFC 6608)."""

    UNSPECIFIED = 0
    IN_OPEN_SENT = 1
    IN_OPEN_CONFIRM = 2
    IN_ESTABLISHED = 3


class Cease(enum.IntEnum):
    """An end without an error (RFC 4486, 8538, 9384)."""

    MAX_PREFIXES = 1
    SHUTDOWN = 2
    DECONFIGURED = 3
    RESET = 4
    REJECTED = 5
    CHANGED = 6
    COLLISION = 7
    OUT_OF_RESOURCES = 8
    HARD_RESET = 9
    BFD_DOWN = 10


class RefreshError(enum.IntEnum):
    """Of a ROUTE-REFRESH (RFC 7313)."""

    BAD_LENGTH = 1


_SUBCODES: dict[int, type[enum.IntEnum]] = {
    Code.HEADER: HeaderError,
    Code.OPEN: OpenError,
    Code.UPDATE: UpdateError,
    Code.FSM: FsmError,
    Code.CEASE: Cease,
    Code.ROUTE_REFRESH: RefreshError,
}
_WITH_TEXT = (Cease.SHUTDOWN, Cease.RESET)


@attrs.frozen
class Notification:
    """Code, subcode and data as on the wire."""

    code: int
    subcode: int = 0
    data: bytes = attrs.field(default=b"", repr=lambda data: data[:32].hex())

    @classmethod
    def cease(cls, why: Cease, text: str = "") -> Notification:
        """An administrative end; text of up to 255 octets goes with SHUTDOWN and RESET."""
        raw = text.encode()[:255] if why in _WITH_TEXT else b""
        return cls(Code.CEASE, why, bytes((len(raw),)) + raw if raw else b"")

    @classmethod
    def hard_reset(cls, why: Notification) -> Notification:
        """An end that takes routes away although graceful restart was agreed (RFC 8538 §3)."""
        return cls(Code.CEASE, Cease.HARD_RESET, why.encode())

    @property
    def text(self) -> str:
        """The operator's words in a shutdown (RFC 9003), without control characters."""
        if self.code != Code.CEASE or self.subcode not in _WITH_TEXT or not self.data:
            return ""
        raw = self.data[1 : 1 + self.data[0]].decode(errors="replace")
        return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in raw)

    @property
    def is_hard(self) -> bool:
        """Whether routes must go even where graceful restart was agreed (RFC 8538)."""
        return self.code == Code.CEASE and self.subcode == Cease.HARD_RESET

    @property
    def inner(self) -> Notification | None:
        """What a hard reset wraps."""
        if not self.is_hard or len(self.data) < 2:
            return None
        return Notification(self.data[0], self.data[1], self.data[2:])

    def encode(self) -> bytes:
        """The body of the message."""
        return bytes((self.code, self.subcode)) + self.data

    def __str__(self) -> str:
        words = f"{_name(Code, self.code)} ({self.code}/{self.subcode})"
        subcodes = _SUBCODES.get(self.code)
        if subcodes is not None and self.subcode:
            words = f"{_name(Code, self.code)}: {_name(subcodes, self.subcode)}"
            words += f" ({self.code}/{self.subcode})"
        if self.inner is not None:
            return f"{words} because of {self.inner}"
        shown = self.text or _detail(self)
        return f"{words}: {shown}" if shown else words


def _name(kind: type[enum.IntEnum], number: int) -> str:
    try:
        name = kind(number).name
    except ValueError:
        return f"unknown {number}"
    return _WORDS.get(name, name.lower().replace("_", " "))


_WORDS = {  # where the name alone would not do
    "HEADER": "message header error",
    "OPEN": "OPEN refused",
    "UPDATE": "UPDATE error",
    "HOLD_TIMER": "hold timer expired",
    "FSM": "message in the wrong state",
    "CEASE": "Cease",
    "ROUTE_REFRESH": "ROUTE-REFRESH error",
    "BAD_PEER_AS": "bad peer AS",
    "BAD_IDENTIFIER": "bad BGP identifier",
    "INVALID_ORIGIN": "invalid ORIGIN",
    "INVALID_NEXT_HOP": "invalid NEXT_HOP",
    "MALFORMED_AS_PATH": "malformed AS_PATH",
    "MAX_PREFIXES": "maximum number of prefixes reached",
    "SHUTDOWN": "administrative shutdown",
    "DECONFIGURED": "peer de-configured",
    "RESET": "administrative reset",
    "REJECTED": "connection rejected",
    "CHANGED": "other configuration change",
    "COLLISION": "connection collision resolution",
    "BFD_DOWN": "BFD down",
}


def _detail(one: Notification) -> str:
    """Numbers that some data holds."""
    data = one.data
    if one.code == Code.OPEN and one.subcode == OpenError.BAD_PEER_AS and len(data) in (2, 4):
        return f"AS {int.from_bytes(data, 'big')}"
    if one.code == Code.CEASE and one.subcode == Cease.MAX_PREFIXES and len(data) == 7:
        return f"limit {int.from_bytes(data[3:], 'big')}"
    return f"data {data[:32].hex()}" if data else ""
