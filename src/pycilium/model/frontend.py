# SPDX-License-Identifier: Apache-2.0
"""The two ends of a service: what clients connect to, and one server behind it."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TypeVar

import attrs

from pycilium.errors import SpecError

Address = IPv4Address | IPv6Address
E = TypeVar("E", bound=enum.Enum)
MAX_WEIGHT = 65535
_PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
_NAMES = {number: name for name, number in _PROTOCOLS.items()}


class BackendState(enum.Enum):
    """What a backend gets: new connections (active), what it has (all but maintenance)."""

    ACTIVE = "active"
    TERMINATING = "terminating"
    QUARANTINED = "quarantined"
    MAINTENANCE = "maintenance"


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
            raise SpecError(field, text, "a protocol of tcp, udp or sctp")
        return cls(address, port, _PROTOCOLS[(protocol or "tcp").lower()])

    def __str__(self) -> str:
        return f"{_joined(self.address, self.port)}/{_NAMES.get(self.protocol, self.protocol)}"


def to_member(kind: type[E], value: E | str) -> E:
    """The member with this value; what is none stays, for a check that knows its owner."""
    try:
        return kind(value)
    except ValueError:
        return value  # type: ignore[return-value]


def words(kind: type[enum.Enum]) -> str:
    """What an error offers in place of a value that is no member."""
    return f"one of {', '.join(str(one.value) for one in kind)}"


def _names(values: Iterable[str]) -> tuple[str, ...]:
    return (values,) if isinstance(values, str) else tuple(values)


def _state(value: BackendState | str) -> BackendState:
    return to_member(BackendState, value)


@attrs.frozen(cache_hash=True)
class Backend:
    """One server of a service.

    weight: its share of new connections beside the others', 0 to 65535; 0 gets none.
    node, zone: where it runs. for_nodes, for_zones: whose clients should use it (the hints of an
    EndpointSlice). Raises SpecError.
    """

    address: Address
    port: int
    weight: int = attrs.field(default=1, kw_only=True)
    state: BackendState = attrs.field(
        default=BackendState.ACTIVE,
        converter=_state,
        kw_only=True,
    )
    node: str = attrs.field(default="", kw_only=True)
    zone: str = attrs.field(default="", kw_only=True)
    for_nodes: tuple[str, ...] = attrs.field(default=(), converter=_names, kw_only=True)
    for_zones: tuple[str, ...] = attrs.field(default=(), converter=_names, kw_only=True)

    def __attrs_post_init__(self) -> None:
        weight = self.weight
        if not isinstance(weight, int) or isinstance(weight, bool) or not 0 <= weight <= MAX_WEIGHT:
            raise SpecError(f"backend {self}: weight", weight, f"0 to {MAX_WEIGHT}")
        if not isinstance(self.state, BackendState):
            raise SpecError(f"backend {self}: state", self.state, words(BackendState))

    @classmethod
    def parse(cls, text: str) -> Backend:
        """From "10.1.0.20:8080" or "[fd00::20]:8080"."""
        return cls(*_address_port(text, text, "backend"))

    def __str__(self) -> str:
        return _joined(self.address, self.port)


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
