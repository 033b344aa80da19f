# SPDX-License-Identifier: Apache-2.0
"""What a session is asked to be, checked before anything is opened."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import attrs

from pycilium.bgp.bfd.authentication import Authentication
from pycilium.errors import SpecError

Address = IPv4Address | IPv6Address
MICROSECOND = 1_000_000  # of a second: intervals are seconds outside, microseconds inside

_SHORTEST, _LONGEST = 0.01, 4294.0  # the wire has 32 bits of microseconds
_INTERFACE_BYTES = 15


def _address(field: str, value: object) -> Address:
    try:
        if isinstance(value, str | IPv4Address | IPv6Address):
            return ip_address(value)
    except ValueError:
        pass
    raise SpecError(field, value, "an address as in 10.0.0.254, fd00::1 or fe80::1%eth0")


def _peer(value: object) -> Address:
    return _address("peer", value)


def _local(value: object) -> Address | None:
    return None if value is None else _address("local", value)


def _unicast(_: object, attribute: attrs.Attribute[Any], value: Address | None) -> None:
    if value is not None and (value.is_multicast or value.is_unspecified):
        raise SpecError(attribute.name, str(value), "the unicast address of one system")


def _interval(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not _SHORTEST <= value <= _LONGEST:  # type: ignore[operator]
        raise SpecError(attribute.name, value, f"seconds from {_SHORTEST} to {_LONGEST:g}")


def _multiplier(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if type(value) is not int or not 1 <= value <= 255:
        raise SpecError(attribute.name, value, "a number from 1 to 255")


def _boolean(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, bool):
        raise SpecError(attribute.name, value, "True or False")


def _interface(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is None:
        return
    if not isinstance(value, str) or not 0 < len(value.encode()) <= _INTERFACE_BYTES:
        raise SpecError(attribute.name, value, "an interface name of 1 to 15 bytes")


@attrs.frozen(kw_only=True)
class Timers:
    """What a session offers, and may change while it runs.

    interval: seconds between packets that we send; receive_interval: what we can take.
    """

    interval: float = attrs.field(default=0.3, validator=_interval)
    receive_interval: float = attrs.field(
        default=attrs.Factory(lambda self: self.interval, takes_self=True), validator=_interval
    )
    multiplier: int = attrs.field(default=3, validator=_multiplier)

    @property
    def desired_min_tx(self) -> int:
        """`interval` in microseconds."""
        return round(self.interval * MICROSECOND)

    @property
    def required_min_rx(self) -> int:
        """`receive_interval` in microseconds."""
        return round(self.receive_interval * MICROSECOND)


@attrs.frozen(kw_only=True)
class Settings:
    """One session: with whom, from where, how fast, and how it is proved.

    interface: where the peer is; needed for link-local addresses only. passive: send nothing
    before the peer has.
    """

    peer: Address = attrs.field(converter=_peer, validator=_unicast)
    local: Address | None = attrs.field(default=None, converter=_local, validator=_unicast)
    interface: str | None = attrs.field(default=None, validator=_interface)
    timers: Timers = attrs.field(factory=Timers)
    multihop: bool = attrs.field(default=False, validator=_boolean)
    passive: bool = attrs.field(default=False, validator=_boolean)
    authentication: Authentication | None = None

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.authentication, Authentication | None):
            raise SpecError("authentication", "…", "an Authentication or None")
        if self.local is not None:
            self._check_local(self.local)
        scope = getattr(self.peer, "scope_id", None)
        if scope and self.interface not in (None, scope):
            raise SpecError("interface", self.interface, f"{scope}, the scope of the peer")
        if self.peer.is_link_local and self.peer.version == 6 and not self.device:
            raise SpecError("interface", None, "the interface of a link-local peer")
        if self.peer.is_link_local and self.multihop:
            raise SpecError("multihop", True, "False for a link-local peer")

    def _check_local(self, local: Address) -> None:
        if local.version != self.peer.version:
            allowed = f"an IPv{self.peer.version} address, like its peer"
            raise SpecError("local", str(local), allowed)
        if local == self.peer:
            raise SpecError("local", str(local), "another address than the peer's")

    @property
    def device(self) -> str | None:
        """The interface, from its name or from the peer's scope."""
        return self.interface or getattr(self.peer, "scope_id", None)
