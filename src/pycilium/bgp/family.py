# SPDX-License-Identifier: Apache-2.0
"""Address families that the speaker knows: IPv4 and IPv6 unicast (RFC 4760)."""

from __future__ import annotations

import enum


class Family(enum.Enum):
    """An AFI and SAFI; prefixes of different families never meet in one table."""

    IPV4 = (1, 1)
    IPV6 = (2, 1)

    # Enum's own hash goes through Python; families are keys on every message.
    __hash__ = object.__hash__

    @property
    def afi(self) -> int:
        """Address family identifier."""
        return self.value[0]

    @property
    def safi(self) -> int:
        """Subsequent address family identifier."""
        return self.value[1]

    @property
    def bits(self) -> int:
        """Length of an address."""
        return 32 if self is Family.IPV4 else 128

    @property
    def wire(self) -> bytes:
        """AFI and SAFI as MP_REACH_NLRI has them."""
        return _WIRE[self]

    def __str__(self) -> str:
        return "ipv4" if self is Family.IPV4 else "ipv6"


_WIRE = {one: one.afi.to_bytes(2, "big") + bytes([one.safi]) for one in Family}
_KNOWN = {one.value: one for one in Family}


def find_family(afi: int, safi: int) -> Family | None:
    """The family of these numbers; None for one that the speaker does not know."""
    return _KNOWN.get((afi, safi))
