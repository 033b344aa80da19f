# SPDX-License-Identifier: Apache-2.0
"""What explain() is asked to reach: an endpoint or an address, and a port or ICMP echo."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import attrs

from pycilium.datapath.endpoint import Endpoint
from pycilium.datapath.wire import PROTOCOLS, Address
from pycilium.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pycilium.datapath.endpoints import Endpoints

_ALLOWED = '"80/tcp", "53/udp" or "icmp"'
_EXAMPLE = 'an endpoint, or an address as in "10.96.0.10:80/tcp" or "[fd00::1]:80/tcp"'


@attrs.frozen
class Target:
    """Endpoint or address; protocol 1 is ICMP echo of either family."""

    endpoint: Endpoint | None
    plain: Address | None
    port: int
    protocol: int

    @property
    def is_icmp(self) -> bool:
        """Whether it is an echo request."""
        return self.protocol == PROTOCOLS["icmp"]

    def address(self, peers: Iterable[Address] | None) -> Address:
        """The address itself; of an endpoint the first whose family a peer's address has."""
        if self.plain is not None:
            return self.plain
        assert self.endpoint is not None
        families = None if peers is None else {one.version for one in peers}
        for own in self.endpoint.addresses:
            if families is None or own.version in families:
                return own
        raise SpecError("destination", self.endpoint.name, "an address of the source's family")

    def __str__(self) -> str:
        return str(self.plain) if self.endpoint is None else self.endpoint.name


def parse_target(destination: Any, port: str | int | None, endpoints: Endpoints) -> Target:
    """From what Datapath.explain takes; SpecError says what is wrong with it."""
    if isinstance(destination, tuple) and len(destination) == 2 and port is None:
        destination, port = destination
    if isinstance(destination, Endpoint):
        return Target(destination, None, *_port(port))
    text = str(destination)
    named = endpoints.get(text)
    if named is not None:
        return Target(named, None, *_port(port))
    if port is None:
        text, port = _split(text)
    number = _port(port)
    try:
        return Target(None, ip_address(text.strip("[]")), *number)
    except ValueError:
        raise SpecError("destination", destination, _EXAMPLE) from None


def _split(text: str) -> tuple[str, str]:
    """An address with its port: "10.0.0.1:80/tcp", "[::1]:80/tcp", "10.0.0.1/icmp"."""
    where, slash, protocol = text.partition("/")
    if protocol in ("icmp", "icmpv6"):
        return where, protocol
    address, colon, number = where.rpartition(":")
    if not colon or (":" in address and not address.endswith("]")):
        raise SpecError("destination", text, _EXAMPLE)
    return address, f"{number}{slash}{protocol}"


def _port(port: str | int | None) -> tuple[int, int]:
    """Number and protocol; tcp where none is named."""
    if port in ("icmp", "icmpv6"):
        return 0, PROTOCOLS["icmp"]
    number, _, protocol = str(port).partition("/")
    wanted = (protocol or "tcp").lower()
    if wanted not in ("tcp", "udp") or not number.isdigit() or not 0 < int(number) < 65536:
        raise SpecError("port", port, _ALLOWED)
    return int(number), PROTOCOLS[wanted]
