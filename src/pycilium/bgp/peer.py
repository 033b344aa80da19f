# SPDX-License-Identifier: Apache-2.0
"""Peers as values: who they are and how a session with them is to be (templates share the how)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import ip_address, ip_network
from typing import Any

import attrs

from pycilium.bgp.as_path import check_asn
from pycilium.bgp.capabilities import Role
from pycilium.bgp.family import Family
from pycilium.bgp.policy import Policy
from pycilium.errors import SpecError

_FAMILY_WORDS = {str(one): one for one in Family}


def _within(low: int, high: int) -> Callable[[Any, Any, Any], None]:
    def check(_: object, field: attrs.Attribute[int], value: object) -> None:
        allowed = f"a number from {low} to {high}"
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise SpecError(field.name, value, allowed)

    return check


def _hold_time(_: object, field: attrs.Attribute[int], value: object) -> None:
    if not isinstance(value, int) or not (value == 0 or 3 <= value <= 65535):
        raise SpecError(field.name, value, "0 or seconds from 3 to 65535")


def _numbers(values: Iterable[int]) -> tuple[int, ...]:
    return tuple(values)


def _families(values: Iterable[Family | str]) -> tuple[Family, ...]:
    found = []
    for one in [values] if isinstance(values, str) else values:
        family = one if isinstance(one, Family) else _FAMILY_WORDS.get(one)
        if family is None:
            raise SpecError("families", one, f"any of {', '.join(_FAMILY_WORDS)}")
        found.append(family)
    if not found:
        raise SpecError("families", list(found), "at least one")
    return tuple(dict.fromkeys(found))


def _address(value: str | None) -> str | None:
    if value is None:
        return None
    try:
        return str(ip_address(value))
    except ValueError:
        raise SpecError("address", value, "an IPv4 or IPv6 address") from None


def _password(_: object, field: attrs.Attribute[str], value: object) -> None:
    if value is not None and not (isinstance(value, str) and 0 < len(value.encode()) <= 80):
        raise SpecError(field.name, "a password", "text of 1 to 80 octets")


@attrs.frozen(kw_only=True)
class PeerOptions:
    """How a session is to be; a template when several peers are given the same.

    hold_time, connect_retry, graceful_restart and long_lived are seconds (0: off). ttl_security is
    the number of hops that packets may have come (GTSM, RFC 5082; 1 for a neighbour), multihop the
    TTL of a session beyond the next router; neither means 1 for external peers. add_path_send is
    how many paths for a prefix the peer may be sent. max_prefixes, for each family, ends the
    session with Cease/1 and keeps it down for max_prefixes_restart seconds (0: for good). Without
    an export policy a peer is sent what this speaker itself announces, and no more.
    """

    hold_time: int = attrs.field(default=90, validator=_hold_time)
    connect_retry: float = 5.0
    passive: bool = False
    families: tuple[Family, ...] = attrs.field(
        default=(Family.IPV4, Family.IPV6), converter=_families
    )
    port: int = attrs.field(default=179, validator=_within(1, 65535))
    local_address: str | None = attrs.field(default=None, converter=_address)
    password: str | None = attrs.field(default=None, repr=False, validator=_password)
    ttl_security: int = attrs.field(default=0, validator=_within(0, 254))
    multihop: int = attrs.field(default=0, validator=_within(0, 255))
    graceful_restart: int = attrs.field(default=120, validator=_within(0, 4095))
    long_lived: int = attrs.field(default=0, validator=_within(0, 16777215))
    add_path_send: int = attrs.field(default=0, validator=_within(0, 255))
    add_path_receive: bool = False
    extended_message: bool = True
    extended_next_hop: bool = True
    route_refresh: bool = True
    role: Role | None = None
    strict_role: bool = False
    max_prefixes: int = attrs.field(default=2_000_000, validator=_within(1, 0xFFFFFFFF))
    max_prefixes_restart: int = attrs.field(default=0, validator=_within(0, 86400))
    next_hop: str | None = attrs.field(default=None, converter=_address)
    next_hop6: str | None = attrs.field(default=None, converter=_address)
    allow_own_as: int = attrs.field(default=0, validator=_within(0, 255))
    enforce_first_as: bool = True
    import_policy: Policy | None = None
    export_policy: Policy | None = None

    def __attrs_post_init__(self) -> None:
        if self.ttl_security and self.multihop:
            raise SpecError("multihop", self.multihop, "0 beside ttl_security")
        if not self.connect_retry > 0:
            raise SpecError("connect_retry", self.connect_retry, "seconds above 0")
        for name, bits in (("next_hop", 32), ("next_hop6", 128)):
            value = getattr(self, name)
            if value is not None and (":" in value) != (bits == 128):
                raise SpecError(name, value, f"an IPv{4 if bits == 32 else 6} address")


@attrs.frozen
class Peer:
    """A neighbour's address and AS, and the options of the session with it."""

    address: str = attrs.field()
    asn: int = attrs.field(kw_only=True)
    options: PeerOptions = attrs.field(default=PeerOptions(), kw_only=True)

    @address.validator
    def _check_address(self, _: object, value: str) -> None:
        try:
            one = ip_address(value)
        except ValueError:
            raise SpecError("peer.address", value, "an IPv4 or IPv6 address") from None
        if one.is_multicast or one.is_unspecified:
            raise SpecError("peer.address", value, "the address of one host")

    @asn.validator
    def _check_asn(self, _: object, value: int) -> None:
        check_asn(value, "peer.asn")

    def __str__(self) -> str:
        return f"{self.address} AS {self.asn}"


@attrs.frozen
class DynamicPeers:
    """Neighbours that are not known before they connect: a prefix, and the AS numbers allowed."""

    prefix: str = attrs.field()
    asns: tuple[int, ...] = attrs.field(kw_only=True, converter=_numbers)
    options: PeerOptions = attrs.field(default=PeerOptions(), kw_only=True)
    limit: int = attrs.field(default=1000, kw_only=True, validator=_within(1, 65535))

    @prefix.validator
    def _check_prefix(self, _: object, value: str) -> None:
        try:
            ip_network(value)
        except ValueError as error:
            raise SpecError("dynamic peers", value, f"a prefix ({error})") from None

    @asns.validator
    def _check_asns(self, _: object, value: tuple[int, ...]) -> None:
        if not value:
            raise SpecError("asns", value, "at least one AS number")
        for one in value:
            check_asn(one, "asns")

    def peer(self, address: str) -> Peer:
        """A neighbour that has come; it is never called from here."""
        options = attrs.evolve(self.options, passive=True)
        return Peer(address, asn=self.asns[0], options=options)

    def matches(self, address: str) -> bool:
        """Whether an address is inside."""
        one, network = ip_address(address), ip_network(self.prefix)
        return one.version == network.version and one in network
