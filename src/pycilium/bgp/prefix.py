# SPDX-License-Identifier: Apache-2.0
"""Prefixes as the bytes that BGP sends: a length in bits and as many octets as it needs.

A table of a million routes has a million of these and no object beside them; text is made for
people only. socket.inet_pton is used as a pure function: it is strict, and many times as fast as
ipaddress.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from pycilium.bgp.errors import ProtocolError
from pycilium.bgp.family import Family
from pycilium.bgp.notification import Code, Notification, UpdateError
from pycilium.errors import SpecError

Prefix = bytes
PATH_ID = 4  # octets before a prefix where ADD-PATH is in use (RFC 7911)

_AF = {Family.IPV4: AF_INET, Family.IPV6: AF_INET6}
_LENGTHS = {family: {str(n): n for n in range(family.bits + 1)} for family in Family}
_HEADS = tuple(bytes((n,)) for n in range(129))
_COMMON = {
    Family.IPV4: (24, 22, 23, 20, 21, 19, 16, 18, 17, 32),
    Family.IPV6: (48, 64, 32, 44, 40, 36, 128),
}


def parse_prefix(text: str, field: str = "prefix") -> tuple[Family, Prefix]:
    """From "10.96.0.10/32", "fd00::/64" or a bare address.

    Raises SpecError, also for bits beyond the length.
    """
    address, slash, digits = text.partition("/")
    family = Family.IPV6 if ":" in address else Family.IPV4
    try:
        packed = inet_pton(_AF[family], address)
    except (OSError, ValueError):
        raise SpecError(field, text, "a prefix as in 10.96.0.10/32 or fd00::/64") from None
    bits = _LENGTHS[family].get(digits, -1) if slash else len(packed) << 3
    if bits < 0:
        raise SpecError(field, text, f"a length from 0 to {family.bits}")
    size = (bits + 7) >> 3
    prefix = _HEADS[bits] + packed[:size]
    if len(packed.rstrip(b"\0")) > size or (bits & 7 and prefix[-1] & _LOW[bits & 7]):
        meant = prefix_text(family, normalise(prefix))
        raise SpecError(field, text, f"no bits beyond the length; {meant} contains it")
    return family, prefix


def prefix_text(family: Family, prefix: Prefix) -> str:
    """As people write it."""
    whole = prefix[1:].ljust(family.bits >> 3, b"\0")
    return f"{address_text(whole)}/{prefix[0]}"


def address_text(packed: bytes) -> str:
    """An address of 4 or 16 octets; of a pair of IPv6 next hops the global one."""
    if len(packed) == 4:
        return inet_ntop(AF_INET, packed)
    return inet_ntop(AF_INET6, packed[:16])


def parse_address(text: str, field: str = "address") -> bytes:
    """An address as 4 or 16 octets; SpecError for anything else."""
    try:
        return inet_pton(AF_INET6 if ":" in text else AF_INET, text)
    except (OSError, ValueError):
        raise SpecError(field, text, "an IPv4 or IPv6 address") from None


def normalise(prefix: Prefix) -> Prefix:
    """Without bits beyond the length."""
    low = _LOW[prefix[0] & 7]
    return prefix[:-1] + bytes((prefix[-1] & ~low & 255,)) if low else prefix


def split_nlri(data: bytes, family: Family, *, add_path: bool = False) -> list[Prefix]:
    """Every prefix of a run of NLRI, with its path identifier in front where there is one.

    One pass of a regular expression that knows each length, because a loop in Python costs twice
    as much. What it skips is missing from the sum of lengths, and the slow way says what was wrong.
    Raises ProtocolError for a length that is too large or a run that ends inside a prefix.
    """
    found: list[Prefix] = _PATTERNS[family, add_path].findall(data)
    if sum(map(len, found)) == len(data):
        return found
    return _split_slowly(data, family, PATH_ID if add_path else 0)


def _split_slowly(data: bytes, family: Family, skip: int) -> list[Prefix]:
    found = []
    at, end = 0, len(data)
    while at < end:
        head = at + skip
        if head >= end:
            raise _bad_nlri(UpdateError.MALFORMED_ATTRIBUTE_LIST, data[at:])
        if data[head] > family.bits:
            raise _bad_nlri(UpdateError.INVALID_NETWORK_FIELD, data[head:])
        after = head + 1 + ((data[head] + 7) >> 3)
        if after > end:
            raise _bad_nlri(UpdateError.MALFORMED_ATTRIBUTE_LIST, data[head:])
        found.append(data[at:head] + normalise(data[head:after]))
        at = after
    return found


def _bad_nlri(error: UpdateError, data: bytes) -> ProtocolError:
    return ProtocolError(Notification(Code.UPDATE, error, data[:16]))


def longest(prefixes: Sequence[Prefix]) -> int:
    """Octets of the longest one."""
    return max(map(len, prefixes))


def _pattern(family: Family, add_path: bool) -> re.Pattern[bytes]:
    """One alternative for each length, the usual ones first; host bits must be zero."""
    lengths = dict.fromkeys((*_COMMON[family], *range(family.bits + 1)))
    head = b".{4}" if add_path else b""
    return re.compile(b"(?s)" + head + b"(?:" + b"|".join(map(_alternative, lengths)) + b")")


def _alternative(bits: int) -> bytes:
    whole, rest = divmod(bits, 8)
    text = b"\\x%02x" % bits + (b".{%d}" % whole if whole else b"")
    if rest:
        text += b"[" + b"".join(b"\\x%02x" % v for v in range(0, 256, 1 << (8 - rest))) + b"]"
    return text


_LOW = (0, 127, 63, 31, 15, 7, 3, 1)  # bits of the last octet beyond a length modulo 8
_PATTERNS = {(one, paths): _pattern(one, paths) for one in Family for paths in (False, True)}
