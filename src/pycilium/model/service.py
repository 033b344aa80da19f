# SPDX-License-Identifier: Apache-2.0
"""Services: a frontend that clients use, and the backends that serve it."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address

import attrs

from pycilium.errors import SpecError

Address = IPv4Address | IPv6Address
_PROTOCOLS = {"tcp": 6, "udp": 17}
_NAMES = {number: name for name, number in _PROTOCOLS.items()}


@attrs.frozen(cache_hash=True)  # keys of large tables
class Frontend:
    """Address, port and protocol that clients connect to."""

    address: Address
    port: int
    protocol: int = 6

    @classmethod
    def parse(cls, text: str, field: str = "frontend") -> Frontend:
        """From "10.96.0.10:80/tcp" or "[fd00::1]:53/udp"; tcp where none is named."""
        where, _, protocol = text.partition("/")
        address, port = _address_port(where, text, field)
        if (protocol or "tcp").lower() not in _PROTOCOLS:
            raise SpecError(field, text, "a protocol of tcp or udp")
        return cls(address, port, _PROTOCOLS[(protocol or "tcp").lower()])

    def __str__(self) -> str:
        return f"{_joined(self.address, self.port)}/{_NAMES.get(self.protocol, self.protocol)}"


@attrs.frozen(cache_hash=True)
class Backend:
    """Address and port of one server."""

    address: Address
    port: int

    @classmethod
    def parse(cls, text: str) -> Backend:
        """From "10.1.0.20:8080" or "[fd00::20]:8080"."""
        return cls(*_address_port(text, text, "backend"))

    def __str__(self) -> str:
        return _joined(self.address, self.port)


def _frontend(value: Frontend | str) -> Frontend:
    return value if isinstance(value, Frontend) else Frontend.parse(value)


def _backends(values: Iterable[Backend | str]) -> tuple[Backend, ...]:
    if isinstance(values, str):
        raise SpecError("backends", values, "a list")
    found = (one if isinstance(one, Backend) else Backend.parse(one) for one in values)
    return tuple(dict.fromkeys(found))


@attrs.frozen
class ServiceLB:
    """One frontend over any number of backends of the same address family.

    ServiceLB("10.96.0.10:5432/tcp", backends=["10.1.0.20:5432"])
    """

    frontend: Frontend = attrs.field(converter=_frontend)
    backends: tuple[Backend, ...] = attrs.field(converter=_backends, kw_only=True)
    name: str = attrs.field(default="", kw_only=True)

    def __attrs_post_init__(self) -> None:
        for backend in self.backends:
            if backend.address.version != self.frontend.address.version:
                family = f"an IPv{self.frontend.address.version} address, like its frontend"
                raise SpecError("backend", str(backend), family)

    def __str__(self) -> str:
        return f"{self.name or 'service'} {self.frontend} over {len(self.backends)} backends"


def _address_port(text: str, whole: str, field: str) -> tuple[Address, int]:
    address, colon, port = text.rpartition(":")
    bracketed = address.startswith("[") and address.endswith("]")
    try:
        parsed = ip_address(address[1:-1] if bracketed else address)
    except ValueError:
        raise SpecError(
            field, whole, 'address:port, as in "10.96.0.10:80" or "[fd00::1]:80"'
        ) from None
    if parsed.version == 6 and not bracketed:
        raise SpecError(field, whole, "an IPv6 address in brackets")
    if not colon or not port.isdigit() or not 0 < int(port) < 65536:
        raise SpecError(field, whole, "a port from 1 to 65535")
    return parsed, int(port)


def _joined(address: Address, port: int) -> str:
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
