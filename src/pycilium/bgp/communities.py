# SPDX-License-Identifier: Apache-2.0
"""Standard, extended and large communities, as numbers on the wire and as people write them.

RFC 1997, 4360, 8092; the well-known ones by name (RFC 1997, 3765, 7999, 8326, 9494).
"""

from __future__ import annotations

from pycilium.bgp.prefix import address_text, parse_address
from pycilium.errors import SpecError

NO_EXPORT = 0xFFFFFF01
NO_ADVERTISE = 0xFFFFFF02
NO_EXPORT_SUBCONFED = 0xFFFFFF03
GRACEFUL_SHUTDOWN = 0xFFFF0000
BLACKHOLE = 0xFFFF029A
LLGR_STALE = 0xFFFF0006
NO_LLGR = 0xFFFF0007

WELL_KNOWN = {
    "no-export": NO_EXPORT,
    "no-advertise": NO_ADVERTISE,
    "no-export-subconfed": NO_EXPORT_SUBCONFED,
    "no-peer": 0xFFFFFF04,
    "graceful-shutdown": GRACEFUL_SHUTDOWN,
    "blackhole": BLACKHOLE,
    "llgr-stale": LLGR_STALE,
    "no-llgr": NO_LLGR,
}
_NAMES = {number: name for name, number in WELL_KNOWN.items()}
_EXTENDED = {"rt": 2, "soo": 3}
_EXTENDED_NAMES = {number: name for name, number in _EXTENDED.items()}

Large = tuple[int, int, int]


def parse_community(text: str) -> int | bytes | Large:
    """A community of any kind, told apart by its shape.

    "64512:100" and "no-export" are standard (a number), "64512:1:2" is large (three numbers),
    "rt:64512:100", "soo:10.0.0.1:5" and "0x" with 16 digits are extended (8 octets).
    """
    lower = text.strip().lower()
    if lower in WELL_KNOWN:
        return WELL_KNOWN[lower]
    head, *rest = lower.split(":")
    if head in _EXTENDED and len(rest) == 2:
        return _extended(text, _EXTENDED[head], *rest)
    if lower.startswith("0x") and len(lower) == 18:
        return _hexadecimal(text, lower[2:])
    numbers = [_number(text, part) for part in (head, *rest)]
    if len(numbers) == 2 and max(numbers) <= 0xFFFF:
        return numbers[0] << 16 | numbers[1]
    if len(numbers) == 3:
        return numbers[0], numbers[1], numbers[2]
    raise _refused(text)


def community_text(value: int) -> str:
    """A standard community."""
    return _NAMES.get(value) or f"{value >> 16}:{value & 0xFFFF}"


def large_text(value: Large) -> str:
    """A large community."""
    return ":".join(map(str, value))


def extended_text(value: bytes) -> str:
    """An extended community; route targets and sites of origin by name."""
    kind, name = value[0] & 0xBF, _EXTENDED_NAMES.get(value[1])
    if name is None or kind > 2:
        return f"0x{value.hex()}"
    if kind == 0:
        return f"{name}:{int.from_bytes(value[2:4], 'big')}:{int.from_bytes(value[4:], 'big')}"
    who = address_text(value[2:6]) if kind == 1 else str(int.from_bytes(value[2:6], "big"))
    return f"{name}:{who}:{int.from_bytes(value[6:], 'big')}"


def is_transitive(value: bytes) -> bool:
    """Whether an extended community crosses the border of an AS."""
    return not value[0] & 0x40


def _extended(text: str, subtype: int, who: str, what: str) -> bytes:
    if "." in who:
        value = _number(text, what, 0xFFFF)
        return bytes((1, subtype)) + parse_address(who, "community") + value.to_bytes(2, "big")
    asn = _number(text, who)
    if asn <= 0xFFFF:
        return bytes((0, subtype)) + asn.to_bytes(2, "big") + _number(text, what).to_bytes(4, "big")
    return (
        bytes((2, subtype))
        + asn.to_bytes(4, "big")
        + _number(text, what, 0xFFFF).to_bytes(2, "big")
    )


def _number(text: str, part: str, limit: int = 0xFFFFFFFF) -> int:
    if not (part.isascii() and part.isdigit() and len(part) < 11 and int(part) <= limit):
        raise _refused(text)
    return int(part)


def _hexadecimal(text: str, digits: str) -> bytes:
    try:
        return bytes.fromhex(digits)
    except ValueError:
        raise _refused(text) from None


def _refused(text: str) -> SpecError:
    allowed = "a community as in 64512:100, 64512:1:2, rt:64512:100 or no-export"
    return SpecError("community", text, allowed)
