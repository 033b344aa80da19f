# SPDX-License-Identifier: Apache-2.0
"""What two speakers agreed on in their OPENs."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from pycilium.bgp.capabilities import AddPath, Capabilities, Restart, Role
from pycilium.bgp.errors import ProtocolError
from pycilium.bgp.family import Family
from pycilium.bgp.message import MAX_EXTENDED, MAX_MESSAGE, Open
from pycilium.bgp.notification import Code, Notification, OpenError

_PAIRS = {
    (Role.PROVIDER, Role.CUSTOMER),
    (Role.CUSTOMER, Role.PROVIDER),
    (Role.ROUTE_SERVER, Role.ROUTE_SERVER_CLIENT),
    (Role.ROUTE_SERVER_CLIENT, Role.ROUTE_SERVER),
    (Role.PEER, Role.PEER),
}


@attrs.frozen
class Negotiated:
    """The common ground of a session; everything that codec and tables need to know of it."""

    local_asn: int
    peer_asn: int
    local_id: bytes = bytes(4)
    peer_id: bytes = bytes(4)
    hold_time: int = 90
    families: tuple[Family, ...] = (Family.IPV4,)
    wide: bool = True
    max_message: int = MAX_MESSAGE
    add_path_receive: frozenset[Family] = frozenset()
    add_path_send: frozenset[Family] = frozenset()
    extended_next_hop: bool = False
    refresh: bool = True
    enhanced_refresh: bool = False
    role: Role | None = None
    restart: Restart | None = None
    long_lived: Mapping[Family, int] = attrs.field(factory=dict)
    local_address: bytes = b""
    peer_address: bytes = b""
    enforce_first_as: bool = False

    @property
    def external(self) -> bool:
        """Whether the peer is of another AS."""
        return self.local_asn != self.peer_asn

    @property
    def kept(self) -> dict[Family, int]:
        """Families of graceful restart, with the seconds that the peer asks to wait."""
        if self.restart is None:
            return {}
        return {one: self.restart.time for one in self.restart.families if one in self.families}


def negotiate(
    ours: Open,
    theirs: Open,
    *,
    strict_role: bool = False,
    enforce_first_as: bool = False,
    local_address: bytes = b"",
    peer_address: bytes = b"",
) -> Negotiated:
    """Raises ProtocolError where the two cannot speak."""
    mine, other = ours.capabilities, theirs.capabilities
    _check_identifier(ours, theirs)
    families = _families(mine, other)
    return Negotiated(
        ours.asn,
        theirs.asn,
        ours.router_id,
        theirs.router_id,
        min(ours.hold_time, theirs.hold_time),
        families,
        wide=mine.asn is not None and other.asn is not None,
        max_message=_max_message(mine, other),
        add_path_receive=_add_path(families, mine, other, AddPath.RECEIVE, AddPath.SEND),
        add_path_send=_add_path(families, mine, other, AddPath.SEND, AddPath.RECEIVE),
        extended_next_hop=mine.extended_next_hop and other.extended_next_hop,
        refresh=mine.route_refresh and other.route_refresh,
        enhanced_refresh=mine.enhanced_refresh and other.enhanced_refresh,
        role=_role(ours, theirs, strict_role),
        restart=other.restart if mine.restart is not None else None,
        long_lived=other.long_lived if mine.long_lived and other.restart is not None else {},
        local_address=local_address,
        peer_address=peer_address,
        enforce_first_as=enforce_first_as,
    )


def _check_identifier(ours: Open, theirs: Open) -> None:
    if ours.asn == theirs.asn and ours.router_id == theirs.router_id:
        raise ProtocolError(Notification(Code.OPEN, OpenError.BAD_IDENTIFIER, theirs.router_id))


def _families(mine: Capabilities, other: Capabilities) -> tuple[Family, ...]:
    """A peer without the capability speaks IPv4 only (RFC 4760 §8)."""
    theirs = other.families or (Family.IPV4,)
    common = tuple(one for one in mine.families if one in theirs)
    if not common:
        wanted = b"".join(
            bytes((1, 4)) + one.afi.to_bytes(2, "big") + bytes((0, one.safi))
            for one in mine.families
        )
        raise ProtocolError(Notification(Code.OPEN, OpenError.UNSUPPORTED_CAPABILITY, wanted))
    return common


def _max_message(mine: Capabilities, other: Capabilities) -> int:
    both = mine.extended_message and other.extended_message
    return MAX_EXTENDED if both else MAX_MESSAGE


def _add_path(
    families: tuple[Family, ...],
    mine: Capabilities,
    other: Capabilities,
    own: AddPath,
    needed: AddPath,
) -> frozenset[Family]:
    return frozenset(
        one
        for one in families
        if mine.add_path.get(one, AddPath.NONE) & own
        and other.add_path.get(one, AddPath.NONE) & needed
    )


def _role(ours: Open, theirs: Open, strict: bool) -> Role | None:
    """Our role, where it fits theirs; roles do not exist inside an AS (RFC 9234 §4.2)."""
    mine, other = ours.capabilities.role, theirs.capabilities.role
    if ours.asn == theirs.asn or mine is None:
        return None
    missing = other is None and strict
    if missing or (other is not None and (mine, other) not in _PAIRS):
        raise ProtocolError(Notification(Code.OPEN, OpenError.ROLE_MISMATCH))
    return mine
