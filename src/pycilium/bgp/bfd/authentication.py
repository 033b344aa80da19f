# SPDX-License-Identifier: Apache-2.0
"""Authentication of control packets (RFC 5880 section 6.7).

Keyed digests are what the RFC and its implementations have; a secret is never shown.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import struct
from typing import Any

import attrs

from pycilium.bgp.bfd.packet import ControlPacket, encode
from pycilium.errors import SpecError

_CIRCLE = 1 << 32
_DIGEST_HEADER = struct.Struct("!BBBBI")


class AuthenticationType(enum.IntEnum):
    """The types of RFC 5880 section 4.1."""

    SIMPLE_PASSWORD = 1
    KEYED_MD5 = 2
    METICULOUS_KEYED_MD5 = 3
    KEYED_SHA1 = 4
    METICULOUS_KEYED_SHA1 = 5

    @property
    def digest(self) -> str | None:
        """The name of the hash; None for a password."""
        return {2: "md5", 3: "md5", 4: "sha1", 5: "sha1"}.get(self)

    @property
    def size(self) -> int:
        """Bytes that a secret has at most, and a digest always."""
        return 20 if self.digest == "sha1" else 16

    @property
    def is_meticulous(self) -> bool:
        """Whether every packet has a sequence number of its own."""
        return self in (self.METICULOUS_KEYED_MD5, self.METICULOUS_KEYED_SHA1)


def _type(value: AuthenticationType | str) -> AuthenticationType:
    if isinstance(value, AuthenticationType):
        return value
    names = {one.name.lower().replace("_", "-"): one for one in AuthenticationType}
    if value not in names:
        raise SpecError("authentication.type", value, " or ".join(names))
    return names[value]


def _secret(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _key_id(_: Any, __: Any, value: object) -> None:
    if type(value) is not int or not 0 <= value <= 255:
        raise SpecError("authentication.key_id", value, "a number from 0 to 255")


@attrs.frozen
class Authentication:
    """How a session proves itself: Authentication("meticulous-keyed-sha1", "secret", key_id=1).

    A secret has 1 to 16 bytes, with SHA-1 1 to 20.
    """

    type: AuthenticationType = attrs.field(converter=_type)
    secret: bytes = attrs.field(converter=_secret, repr=False)
    key_id: int = attrs.field(default=1, validator=_key_id, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.secret, bytes) or not 0 < len(self.secret) <= self.type.size:
            raise SpecError("authentication.secret", "…", f"1 to {self.type.size} bytes")


class Signer:
    """Signs what a session sends; `sequence` is a random number to start from."""

    def __init__(self, authentication: Authentication, sequence: int) -> None:
        self._authentication = authentication
        self._sequence = sequence
        self._previous: ControlPacket | None = None

    def sign(self, packet: ControlPacket) -> bytes:
        """The packet as bytes, with its authentication section."""
        if self._authentication.type.digest is None:
            password = _password(self._authentication)
            return encode(attrs.evolve(packet, authentication=password))
        if self._authentication.type.is_meticulous or packet != self._previous:
            self._sequence = (self._sequence + 1) % _CIRCLE
            self._previous = packet
        header = _digest_header(self._authentication, self._sequence)
        section = header + _digest(self._authentication, packet, header)
        return encode(attrs.evolve(packet, authentication=section))


class Verifier:
    """Checks what a session receives, and remembers the sequence number."""

    def __init__(self, authentication: Authentication) -> None:
        self._authentication = authentication
        self._sequence: int | None = None

    def forget(self) -> None:
        """Accept any sequence number next: nothing came for twice the detection time."""
        self._sequence = None

    def accepts(self, packet: ControlPacket) -> bool:
        """Whether the packet proves that its sender knows the secret, and is not an old one."""
        expected = self._authentication
        section = packet.authentication
        if expected.type.digest is None:
            return hmac.compare_digest(section, _password(expected))
        header, digest = section[: _DIGEST_HEADER.size], section[_DIGEST_HEADER.size :]
        if header[:3] != _digest_header(expected, 0)[:3] or len(digest) != expected.type.size:
            return False
        sequence = _DIGEST_HEADER.unpack(header)[4]
        if not self._in_window(sequence, packet.multiplier):
            return False
        if not hmac.compare_digest(digest, _digest(expected, packet, header)):
            return False
        self._sequence = sequence
        return True

    def _in_window(self, sequence: int, multiplier: int) -> bool:
        if self._sequence is None:
            return True
        ahead = (sequence - self._sequence) % _CIRCLE
        first = 1 if self._authentication.type.is_meticulous else 0
        return first <= ahead <= 3 * multiplier


def _password(authentication: Authentication) -> bytes:
    size = 3 + len(authentication.secret)
    return bytes((authentication.type, size, authentication.key_id)) + authentication.secret


def _digest_header(authentication: Authentication, sequence: int) -> bytes:
    size = _DIGEST_HEADER.size + authentication.type.size
    return _DIGEST_HEADER.pack(authentication.type, size, authentication.key_id, 0, sequence)


def _digest(authentication: Authentication, packet: ControlPacket, header: bytes) -> bytes:
    """Over the packet with the secret in the digest's place."""
    keyed = header + authentication.secret.ljust(authentication.type.size, b"\0")
    data = encode(attrs.evolve(packet, authentication=keyed))
    return hashlib.new(authentication.type.digest or "", data).digest()
