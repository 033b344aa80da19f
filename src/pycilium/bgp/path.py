# SPDX-License-Identifier: Apache-2.0
"""Paths, one object for each source and set of attributes, and which of several is best.

The order is that of RFC 4271 §9.1.2.2: LOCAL_PREF, length of AS_PATH, ORIGIN, MED among routes
from the same neighbouring AS, external before internal, identifier, length of CLUSTER_LIST,
address. A long-lived stale path (RFC 9494) comes after every other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from pycilium.bgp.attributes import Attributes
from pycilium.bgp.communities import LLGR_STALE

DEFAULT_LOCAL_PREF = 100


@attrs.frozen(eq=False)
class Source:
    """Where paths come from: a session, or this speaker itself."""

    name: str
    external: bool = False
    local: bool = False
    router_id: bytes = bytes(4)
    address: bytes = b""
    asn: int = 0


class Path:
    """A way to every prefix that holds it; compared by identity, ranked by `head` and `tail`."""

    __slots__ = ("__weakref__", "attributes", "head", "med", "path_id", "source", "tail")

    def __init__(self, source: Source, attributes: Attributes, path_id: bytes = b"") -> None:
        self.source = source
        self.attributes = attributes
        self.path_id = path_id
        one = attributes
        preference = DEFAULT_LOCAL_PREF if one.local_pref is None else one.local_pref
        self.head = (
            LLGR_STALE in one.communities,
            not source.local,
            -preference,
            one.as_path.length,
            one.origin,
        )
        self.med = one.med or 0
        self.tail = (
            not source.external,
            one.originator_id or source.router_id,
            len(one.cluster_list),
            source.address,
            path_id,
            source.name,
        )

    def __repr__(self) -> str:
        return f"<Path from {self.source.name}: {self.attributes}>"


def choose(paths: Iterable[Path]) -> Path:
    """The best of one or more."""
    return min(_equal(list(paths)), key=_tail)


def multipath(paths: Sequence[Path], limit: int) -> list[Path]:
    """The best and those that tie with it down to external or internal, best first (ECMP)."""
    best = choose(paths)
    tied = [one for one in _equal(list(paths)) if one.tail[0] == best.tail[0]]
    return sorted(tied, key=_tail)[:limit]


def ranked(paths: Iterable[Path], limit: int) -> list[Path]:
    """The best, then the best of the others, and so on."""
    rest = list(paths)
    found: list[Path] = []
    while rest and len(found) < limit:
        best = choose(rest)
        found.append(best)
        rest.remove(best)
    return found


def _equal(paths: list[Path]) -> list[Path]:
    """Those that only the last steps of the decision tell apart."""
    if len(paths) == 1:
        return paths
    head = min(one.head for one in paths)
    lowest: dict[int | None, int] = {}
    left = [one for one in paths if one.head == head]
    for one in left:
        neighbour = one.attributes.as_path.first
        lowest[neighbour] = min(lowest.get(neighbour, one.med), one.med)
    return [one for one in left if one.med == lowest[one.attributes.as_path.first]]


def _tail(one: Path) -> tuple[object, ...]:
    return one.tail
