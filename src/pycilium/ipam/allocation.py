# SPDX-License-Identifier: Apache-2.0
"""What an owner holds, and how full a pool is."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import attrs

Address = IPv4Address | IPv6Address


@attrs.frozen
class Allocation:
    """Addresses of one owner, IPv4 first, and the pool that they are from."""

    owner: str
    pool: str
    addresses: tuple[Address, ...]

    def __str__(self) -> str:
        return f"{self.owner}: {', '.join(map(str, self.addresses))} of {self.pool}"


@attrs.frozen
class Usage:
    """Addresses of one family of a pool: size = allocated + quarantined + reserved + free.

    reserved counts what is kept aside and not held by anybody.
    """

    pool: str
    family: int
    size: int
    allocated: int
    quarantined: int
    reserved: int

    @property
    def free(self) -> int:
        """What the next owners can get at once."""
        return self.size - self.allocated - self.quarantined - self.reserved
