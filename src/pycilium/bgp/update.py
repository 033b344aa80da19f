# SPDX-License-Identifier: Apache-2.0
"""UPDATE messages to prefixes and attributes, with the error handling of RFC 7606.

Whatever the octets are, the result is routes, routes taken away, attributes passed over, or one
ProtocolError whose NOTIFICATION ends the session; never any other exception.
"""

from __future__ import annotations

from weakref import WeakValueDictionary

import attrs

from pycilium.bgp.attributes import EXTENDED_LENGTH, Attributes, Type, intern
from pycilium.bgp.errors import ProtocolError
from pycilium.bgp.family import Family, find_family
from pycilium.bgp.negotiation import Negotiated
from pycilium.bgp.notification import Code, Notification, UpdateError
from pycilium.bgp.prefix import Prefix, split_nlri
from pycilium.bgp.read import Fault, Found, Problem, Severity, read_attribute, settle

_MAX_SEEN = 1 << 16  # octets of an attribute block that is worth remembering


@attrs.frozen
class Update:
    """What one message says, prefixes in bulk."""

    withdrawn: tuple[tuple[Family, list[Prefix]], ...] = ()
    announced: tuple[tuple[Family, list[Prefix], Attributes], ...] = ()
    problems: tuple[Problem, ...] = ()
    end_of_rib: Family | None = None


class UpdateDecoder:
    """Reads the UPDATEs of one session; attributes seen before are not read again."""

    def __init__(self, session: Negotiated) -> None:
        self._session = session
        self._seen: WeakValueDictionary[bytes, Attributes] = WeakValueDictionary()

    def decode(self, body: bytes) -> Update:
        """One message's body. Raises ProtocolError where the session must end."""
        withdrawn, block, nlri = _sections(body)
        if not block and not nlri and not withdrawn:
            return Update(end_of_rib=Family.IPV4)
        gone = self._split(Family.IPV4, withdrawn)
        prefixes = self._split(Family.IPV4, nlri)
        seen = self._seen.get(block)
        if seen is not None:
            return Update(_one(gone), ((Family.IPV4, prefixes, seen),) if prefixes else ())
        if not block:
            return self._bare(gone, prefixes)
        return self._read(block, gone, prefixes)

    def _bare(self, gone: list[Prefix], prefixes: list[Prefix]) -> Update:
        """Without attributes; prefixes among them cannot be announced."""
        if not prefixes:
            return Update(_one(gone))
        problem = Problem(Type.ORIGIN, Severity.WITHDRAW, "no attributes")
        return Update(_one(gone + prefixes), problems=(problem,))

    def _read(self, block: bytes, gone: list[Prefix], prefixes: list[Prefix]) -> Update:
        found = Found()
        self._attributes(block, found, bool(prefixes or gone))
        reach = self._reach(found)
        unreach = self._unreach(found)
        if unreach is not None and not unreach[1] and not (gone or prefixes or reach):
            return Update(end_of_rib=unreach[0])
        if not prefixes and not reach:
            return Update(_one(gone) + _some(unreach), problems=tuple(found.problems))
        common = settle(found, self._session, plain=bool(prefixes))
        if found.must_withdraw:
            everything = _one(gone + prefixes) + _some(reach) + _some(unreach)
            return Update(everything, problems=tuple(found.problems))
        return self._routes(block, found, common, gone, prefixes, reach, unreach)

    def _routes(
        self,
        block: bytes,
        found: Found,
        common: Attributes,
        gone: list[Prefix],
        prefixes: list[Prefix],
        reach: tuple[Family, list[Prefix]] | None,
        unreach: tuple[Family, list[Prefix]] | None,
    ) -> Update:
        announced: list[tuple[Family, list[Prefix], Attributes]] = []
        if prefixes:
            one = intern(common)
            announced.append((Family.IPV4, prefixes, one))
            if reach is None and unreach is None and not found.problems:
                self._remember(block, one)
        if reach is not None:
            moved = attrs.evolve(common, next_hop=found.next_hop)
            announced.append((*reach, intern(moved)))
        taken = _one(gone) + _some(unreach)
        return Update(taken, tuple(announced), tuple(found.problems))

    def _remember(self, block: bytes, one: Attributes) -> None:
        if len(block) < _MAX_SEEN:
            self._seen[block] = one

    def _attributes(self, block: bytes, found: Found, located: bool) -> None:
        """Every attribute; what follows one that leads beyond the end cannot be read."""
        at, end = 0, len(block)
        while at < end:
            flags = block[at]
            head = 4 if flags & EXTENDED_LENGTH else 3
            size = int.from_bytes(block[at + 2 : at + head], "big")
            after = at + head + size
            if at + head > end or after > end:
                if not located and found.mp_reach is None and found.mp_unreach is None:
                    raise _update_error(UpdateError.MALFORMED_ATTRIBUTE_LIST)
                too_long = Fault(Severity.WITHDRAW, "longer than what is left")
                found.note(too_long, block[at + 1] if at + 1 < end else 0)
                return
            read_attribute(found, block[at + 1], flags, block[at + head : after], self._session)
            at = after

    def _reach(self, found: Found) -> tuple[Family, list[Prefix]] | None:
        value = found.mp_reach
        if value is None:
            return None
        if len(value) < 5 or len(value) < 5 + value[3]:
            raise _optional(Type.MP_REACH, value)
        family = self._family(found, value)
        if family is None:
            return None
        after = 4 + value[3]
        found.next_hop = self._next_hop(family, value[4:after], value)
        prefixes = self._split(family, value[after + 1 :])
        return (family, prefixes) if prefixes else None

    def _next_hop(self, family: Family, hop: bytes, value: bytes) -> bytes:
        sizes: tuple[int, ...] = (4,) if family is Family.IPV4 else (16, 32)
        if family is Family.IPV4 and self._session.extended_next_hop:
            sizes = (4, 16, 32)
        if len(hop) not in sizes:
            raise _optional(Type.MP_REACH, value)
        return hop

    def _unreach(self, found: Found) -> tuple[Family, list[Prefix]] | None:
        value = found.mp_unreach
        if value is None:
            return None
        if len(value) < 3:
            raise _optional(Type.MP_UNREACH, value)
        family = self._family(found, value)
        return None if family is None else (family, self._split(family, value[3:]))

    def _family(self, found: Found, value: bytes) -> Family | None:
        """The family of a multiprotocol attribute; None, and noted, if it was not agreed on."""
        afi, safi = int.from_bytes(value[:2], "big"), value[2]
        family = find_family(afi, safi)
        if family is None or family not in self._session.families:
            fault = Fault(Severity.DISCARD, f"family {afi}/{safi} was not negotiated")
            found.note(fault, Type.MP_REACH)
            return None
        return family

    def _split(self, family: Family, data: bytes) -> list[Prefix]:
        if not data:
            return []
        return split_nlri(data, family, add_path=family in self._session.add_path_receive)


def _sections(body: bytes) -> tuple[bytes, bytes, bytes]:
    """Withdrawn routes, attributes, NLRI."""
    withdrawn = int.from_bytes(body[:2], "big")
    start = 4 + withdrawn
    if start > len(body):
        raise _update_error(UpdateError.MALFORMED_ATTRIBUTE_LIST)
    end = start + int.from_bytes(body[start - 2 : start], "big")
    if end > len(body):
        raise _update_error(UpdateError.MALFORMED_ATTRIBUTE_LIST)
    return body[2 : start - 2], body[start:end], body[end:]


def _one(prefixes: list[Prefix]) -> tuple[tuple[Family, list[Prefix]], ...]:
    return ((Family.IPV4, prefixes),) if prefixes else ()


def _some(
    routes: tuple[Family, list[Prefix]] | None,
) -> tuple[tuple[Family, list[Prefix]], ...]:
    return (routes,) if routes is not None and routes[1] else ()


def _update_error(subcode: UpdateError, data: bytes = b"") -> ProtocolError:
    return ProtocolError(Notification(Code.UPDATE, subcode, data))


def _optional(kind: Type, value: bytes) -> ProtocolError:
    return _update_error(UpdateError.OPTIONAL_ATTRIBUTE, bytes((kind,)) + value[:64])
