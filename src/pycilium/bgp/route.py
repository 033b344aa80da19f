# SPDX-License-Identifier: Apache-2.0
"""What this speaker announces: prefixes and the attributes that they are given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

import attrs

from pycilium.bgp.as_path import AsPath
from pycilium.bgp.attributes import Attributes, Origin, add_communities, intern
from pycilium.bgp.communities import Large, parse_community
from pycilium.bgp.family import Family
from pycilium.bgp.prefix import Prefix, parse_address, parse_prefix, prefix_text
from pycilium.bgp.read import is_martian
from pycilium.errors import SpecError

CommunityText = str | int | bytes | Large


@attrs.frozen(init=False)
class Route:
    """One prefix: Route("10.96.0.10/32", communities=["64512:100"], med=10).

    Without next_hop it is the speaker's own address on each session. Raises SpecError for host
    bits, a next hop that no router can have, a community or number out of range.
    """

    family: Family
    nlri: Prefix
    attributes: Attributes

    def __init__(
        self,
        prefix: str,
        *,
        next_hop: str | None = None,
        communities: Iterable[CommunityText] = (),
        med: int | None = None,
        local_pref: int | None = None,
        as_path: str = "",
        origin: Origin = Origin.IGP,
        attributes: Attributes | None = None,
    ) -> None:
        family, nlri = parse_prefix(prefix)
        if attributes is None:
            attributes = make_attributes(
                next_hop=next_hop,
                communities=communities,
                med=med,
                local_pref=local_pref,
                as_path=as_path,
                origin=origin,
            )
        self.__attrs_init__(family, nlri, attributes)

    @property
    def prefix(self) -> str:
        """As people write it."""
        return prefix_text(self.family, self.nlri)

    def __str__(self) -> str:
        return f"{self.prefix} {self.attributes}"


@attrs.frozen(init=False)
class RouteGroup:
    """Many prefixes with the same attributes, without an object for each."""

    prefixes: dict[Family, list[Prefix]]
    attributes: Attributes

    def __init__(self, prefixes: Iterable[str], attributes: Attributes | None = None) -> None:
        found: dict[Family, list[Prefix]] = {family: [] for family in Family}
        for text in prefixes:
            family, nlri = parse_prefix(text)
            found[family].append(nlri)
        self.__attrs_init__(found, intern(attributes or Attributes()))

    def __len__(self) -> int:
        return sum(map(len, self.prefixes.values()))


Announced = Iterable[Route | RouteGroup | str]


def make_attributes(
    *,
    next_hop: str | None = None,
    communities: Iterable[CommunityText] = (),
    med: int | None = None,
    local_pref: int | None = None,
    as_path: str = "",
    origin: Origin = Origin.IGP,
) -> Attributes:
    """Attributes from text; raises SpecError."""
    listed = (communities,) if isinstance(communities, (str, int, bytes)) else tuple(communities)
    return _make(next_hop, listed, med, local_pref, as_path, origin)


@lru_cache(maxsize=1024)
def _make(
    next_hop: str | None,
    communities: tuple[CommunityText, ...],
    med: int | None,
    local_pref: int | None,
    as_path: str,
    origin: Origin,
) -> Attributes:
    for name, value in (("med", med), ("local_pref", local_pref)):
        if value is not None and not 0 <= value <= 0xFFFFFFFF:
            raise SpecError(name, value, "a number from 0 to 4294967295")
    one = Attributes(
        origin=Origin(origin),
        as_path=AsPath.parse(as_path),
        next_hop=_next_hop(next_hop),
        med=med,
        local_pref=local_pref,
    )
    known = (parse_community(c) if isinstance(c, str) else _checked(c) for c in communities)
    return intern(add_communities(one, known))


def _next_hop(text: str | None) -> bytes:
    if text is None:
        return b""
    packed = parse_address(text, "next_hop")
    if is_martian(packed):
        raise SpecError("next_hop", text, "a router's address: no loopback, multicast or zero")
    return packed


def _checked(value: int | bytes | Large) -> int | bytes | Large:
    fits = (
        (isinstance(value, int) and 0 <= value <= 0xFFFFFFFF)
        or (isinstance(value, bytes) and len(value) == 8)
        or (
            isinstance(value, tuple)
            and len(value) == 3
            and all(0 <= part <= 0xFFFFFFFF for part in value)
        )
    )
    if not fits:
        raise SpecError("community", value, "4 octets, 8 octets, or three numbers of 4 octets")
    return value


def by_family(routes: Announced) -> dict[Family, dict[Prefix, Attributes]]:
    """Routes as tables; a prefix that is listed twice with different attributes is refused."""
    found: dict[Family, dict[Prefix, Attributes]] = {family: {} for family in Family}
    for family, prefixes, one in _flat(routes):
        table = found[family]
        if len(prefixes) == 1:
            if table.setdefault(prefixes[0], one) != one:
                allowed = "each prefix once"
                raise SpecError("routes", prefix_text(family, prefixes[0]), allowed)
        else:
            table.update(dict.fromkeys(prefixes, one))
    return found


def _flat(routes: Announced) -> Iterator[tuple[Family, list[Prefix], Attributes]]:
    if isinstance(routes, str):
        raise SpecError("routes", routes, "a list")
    for route in routes:
        if isinstance(route, str):
            route = Route(route)  # noqa: PLW2901
        if isinstance(route, Route):
            yield route.family, [route.nlri], route.attributes
        elif isinstance(route, RouteGroup):
            for family, prefixes in route.prefixes.items():
                yield family, prefixes, route.attributes
        else:
            raise SpecError("routes", route, "Route, RouteGroup or a prefix")
