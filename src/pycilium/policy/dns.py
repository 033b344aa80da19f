# SPDX-License-Identifier: Apache-2.0
"""DNS answers that policies by name rest on; whoever sees answers feeds them in."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address

import attrs

from pycilium.errors import SpecError
from pycilium.policy.kinds.names import MAX_NAME, name_matches, normal

Address = IPv4Address | IPv6Address
MAX_ADDRESSES = 1000


@attrs.frozen
class DnsCache:
    """Names to addresses, each until its time; a value: feeding it gives another one.

    Times are seconds of one monotonic clock, which the caller reads. An answer counts until its
    TTL, at least `min_ttl` seconds, has passed and expire() was called.
    """

    answers: tuple[tuple[str, Address, float], ...] = ()
    min_ttl: float = 0.0

    def feed(
        self, name: str, addresses: Iterable[str | Address], *, ttl: float, now: float = 0.0
    ) -> DnsCache:
        """With one answer more. Raises SpecError for a bad name, address or TTL."""
        if not name or len(name) > MAX_NAME:
            raise SpecError("name", name, f"a DNS name of at most {MAX_NAME} characters")
        if ttl < 0:
            raise SpecError("ttl", ttl, "seconds from 0")
        end = now + max(ttl, self.min_ttl)
        kept = {(known, address): until for known, address, until in self.answers}
        for one in addresses:
            key = (normal(name), _address(one))
            kept[key] = max(end, kept.get(key, 0.0))
        if sum(known == normal(name) for known, _ in kept) > MAX_ADDRESSES:
            raise SpecError("addresses", name, f"at most {MAX_ADDRESSES} of one name")
        return attrs.evolve(self, answers=tuple((*key, until) for key, until in kept.items()))

    def expire(self, now: float) -> DnsCache:
        """Without the answers whose time has passed."""
        kept = tuple(one for one in self.answers if one[2] > now)
        return self if len(kept) == len(self.answers) else attrs.evolve(self, answers=kept)

    def addresses(self, pattern: str) -> tuple[Address, ...]:
        """All addresses of names that a pattern matches, in the order of the answers."""
        wanted = normal(pattern)
        found = (address for name, address, _ in self.answers if name_matches(wanted, name))
        return tuple(dict.fromkeys(found))


def _address(value: str | Address) -> Address:
    try:
        return ip_address(value)
    except ValueError:
        raise SpecError("address", value, "an address, as in 10.0.0.4") from None
