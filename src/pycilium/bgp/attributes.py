# SPDX-License-Identifier: Apache-2.0
"""Path attributes: one immutable value that all routes with the same attributes share.

RFC 4271 §5, and those of RFC 1997, 4360, 4456, 6793, 8092 and 9234.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from operator import attrgetter
from typing import Any
from weakref import ReferenceType, WeakKeyDictionary, ref

import attrs

from pycilium.bgp import communities as names
from pycilium.bgp.as_path import EMPTY_PATH, AsPath
from pycilium.bgp.prefix import address_text


class Type(enum.IntEnum):
    """Type codes."""

    ORIGIN = 1
    AS_PATH = 2
    NEXT_HOP = 3
    MED = 4
    LOCAL_PREF = 5
    ATOMIC_AGGREGATE = 6
    AGGREGATOR = 7
    COMMUNITIES = 8
    ORIGINATOR_ID = 9
    CLUSTER_LIST = 10
    MP_REACH = 14
    MP_UNREACH = 15
    EXTENDED_COMMUNITIES = 16
    AS4_PATH = 17
    AS4_AGGREGATOR = 18
    LARGE_COMMUNITIES = 32
    OTC = 35


class Origin(enum.IntEnum):
    """How the route came into BGP."""

    IGP = 0
    EGP = 1
    INCOMPLETE = 2


OPTIONAL, TRANSITIVE, PARTIAL, EXTENDED_LENGTH = 0x80, 0x40, 0x20, 0x10


@attrs.frozen(order=True)
class Unknown:
    """An attribute that the speaker does not know; passed on where it is transitive."""

    type: int
    flags: int
    value: bytes


@attrs.frozen(cache_hash=True)
class Attributes:
    """Everything about a route except its prefix.

    next_hop is packed: 4 octets, 16, or 32 with a link-local address behind; empty stands for the
    speaker's own address. Communities keep no order: they are sorted, so that equal sets are equal.
    """

    origin: Origin = Origin.IGP
    as_path: AsPath = EMPTY_PATH
    next_hop: bytes = b""
    med: int | None = None
    local_pref: int | None = None
    communities: tuple[int, ...] = ()
    large_communities: tuple[names.Large, ...] = ()
    extended_communities: tuple[bytes, ...] = ()
    atomic_aggregate: bool = False
    aggregator: tuple[int, bytes] | None = None
    originator_id: bytes | None = None
    cluster_list: tuple[bytes, ...] = ()
    otc: int | None = None
    unknown: tuple[Unknown, ...] = ()

    def with_communities(self, values: Iterable[int | bytes | names.Large]) -> Attributes:
        """With more communities, of any kinds."""
        return add_communities(self, values)

    def has(self, community: int | bytes | names.Large) -> bool:
        """Whether a community of any kind is set."""
        if isinstance(community, int):
            return community in self.communities
        if isinstance(community, bytes):
            return community in self.extended_communities
        return community in self.large_communities

    def to_dict(self) -> dict[str, object]:
        """What is set, as people write it."""
        rows = (
            ("origin", self.origin.name.lower()),
            ("as_path", str(self.as_path)),
            ("next_hop", address_text(self.next_hop) if self.next_hop else "self"),
            ("med", self.med),
            ("local_pref", self.local_pref),
            ("communities", self.community_texts()),
            ("atomic_aggregate", self.atomic_aggregate or None),
            ("otc", self.otc),
        )
        return {name: value for name, value in rows if value not in (None, [], "")}

    def community_texts(self) -> list[str]:
        """Every community, in the order standard, large, extended."""
        return [
            *map(names.community_text, self.communities),
            *map(names.large_text, self.large_communities),
            *map(names.extended_text, self.extended_communities),
        ]

    def __str__(self) -> str:
        return ", ".join(f"{name} {_shown(value)}" for name, value in self.to_dict().items())


def _shown(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


_NAMES = tuple(field.name for field in attrs.fields(Attributes))
_values_of = attrgetter(*_NAMES)


def changed(attributes: Attributes, fields: dict[str, Any]) -> Attributes:
    """The same attributes with other values in some fields: attrs.evolve(), three times as fast."""
    return Attributes(**{**dict(zip(_NAMES, _values_of(attributes), strict=True)), **fields})


def add_communities(
    attributes: Attributes, values: Iterable[int | bytes | names.Large]
) -> Attributes:
    """The same attributes with more communities, each told apart by its type."""
    values = tuple(values)
    if not values:
        return attributes
    standard, large = set(attributes.communities), set(attributes.large_communities)
    extended = set(attributes.extended_communities)
    for one in values:
        if isinstance(one, int):
            standard.add(one)
        elif isinstance(one, bytes):
            extended.add(one)
        else:
            large.add(one)
    return attrs.evolve(
        attributes,
        communities=tuple(sorted(standard)),
        large_communities=tuple(sorted(large)),
        extended_communities=tuple(sorted(extended)),
    )


_interned: WeakKeyDictionary[Attributes, ReferenceType[Attributes]] = WeakKeyDictionary()


def intern(attributes: Attributes) -> Attributes:
    """The one object for these attributes, as long as a route has it."""
    known = _interned.get(attributes)
    found = known() if known is not None else None
    if found is not None:
        return found
    _interned[attributes] = ref(attributes)
    return attributes
