# SPDX-License-Identifier: Apache-2.0
"""A pool, as a value: its prefixes, whom it serves, what is kept aside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

import attrs

from pycilium.errors import SpecError
from pycilium.model.selector import Selector

Network = IPv4Network | IPv6Network
QUARANTINE = 60.0  # seconds: longer than a change takes to reach every node


def _ipv4(value: IPv4Network | str | None) -> IPv4Network | None:
    network = _network("ipv4", value)
    if network is not None and not isinstance(network, IPv4Network):
        raise SpecError("ipv4", str(network), "a prefix of IPv4")
    return network


def _ipv6(value: IPv6Network | str | None) -> IPv6Network | None:
    network = _network("ipv6", value)
    if network is not None and not isinstance(network, IPv6Network):
        raise SpecError("ipv6", str(network), "a prefix of IPv6")
    return network


def _network(field: str, value: object) -> Network | None:
    if value is None or isinstance(value, IPv4Network | IPv6Network):
        return value
    return parse_prefix(field, value)


def _selector(value: Selector | str) -> Selector:
    return value if isinstance(value, Selector) else Selector.parse(value)


def _prefixes(values: Iterable[Network | str]) -> tuple[Network, ...]:
    if isinstance(values, str):
        raise SpecError("reserved", values, "a list of prefixes and addresses")
    return tuple(
        one if isinstance(one, IPv4Network | IPv6Network) else parse_prefix("reserved", one)
        for one in values
    )


@attrs.frozen(kw_only=True)
class Pool:
    """IPv4, IPv6, or both: then every owner gets one of each.

    selector: the owners that it serves, by their labels ("*": all). reserved: prefixes that are
    given only to who asks for such an address by itself. quarantine: seconds that an address
    rests before another owner gets it. The first and last address of an IPv4 prefix and the first
    of an IPv6 prefix (RFC 4291 section 2.6.1) are never given. Raises SpecError.
    """

    name: str = "default"
    ipv4: IPv4Network | None = attrs.field(default=None, converter=_ipv4)
    ipv6: IPv6Network | None = attrs.field(default=None, converter=_ipv6)
    selector: Selector = attrs.field(default=Selector(), converter=_selector)
    reserved: tuple[Network, ...] = attrs.field(default=(), converter=_prefixes)
    quarantine: float = QUARANTINE

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name or self.name.split() != [self.name]:
            raise SpecError("name", self.name, "text without a space")
        if self.ipv4 is None and self.ipv6 is None:
            raise SpecError(f"pool {self.name}", None, "ipv4, ipv6 or both")
        number = isinstance(self.quarantine, int | float) and self.quarantine is not True
        if not number or not 0 <= self.quarantine < 1e9:
            raise SpecError("quarantine", self.quarantine, "seconds, 0 or more")
        for one in self.reserved:
            network = self.network(one.version)
            if network is None or not one.subnet_of(network):  # type: ignore[arg-type]
                raise SpecError("reserved", str(one), f"a part of pool {self.name}")

    @property
    def networks(self) -> tuple[Network, ...]:
        """Its prefixes, IPv4 first."""
        return tuple(one for one in (self.ipv4, self.ipv6) if one is not None)

    def network(self, family: int) -> Network | None:
        """Its prefix of family 4 or 6."""
        return self.ipv4 if family == 4 else self.ipv6

    @classmethod
    def from_dict(cls, content: object) -> Pool:
        """From a mapping with this class's own field names, as in a configuration file."""
        known = [one.name for one in attrs.fields(cls)]
        if not isinstance(content, Mapping):
            raise SpecError("pool", content, f"a mapping of {', '.join(known)}")
        for key in content:
            if key not in known:
                raise SpecError("pool", key, f"one of {', '.join(known)}")
        return cls(**content)


def parse_prefix(field: str, value: object) -> Network:
    """Text to a prefix; SpecError for a host's bits and for what is none."""
    try:
        return ip_network(value if isinstance(value, str) else "")
    except ValueError:
        allowed = "a prefix such as 10.1.0.0/24 or fd00:1::/64"
        raise SpecError(field, value, allowed) from None


def parse_address(field: str, value: object) -> IPv4Address | IPv6Address:
    """Text to an address; SpecError for anything else."""
    if isinstance(value, IPv4Address | IPv6Address):
        return value
    try:
        return ip_address(value if isinstance(value, str) else "")
    except ValueError:
        raise SpecError(field, value, "an address such as 10.1.0.7 or fd00:1::7") from None
