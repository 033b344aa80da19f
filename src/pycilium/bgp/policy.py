# SPDX-License-Identifier: Apache-2.0
"""Import and export policies, as data or as a Python predicate.

A policy is asked with a family, a prefix and attributes; it gives attributes back, or refuses. One
that never looks at the prefix (uses_prefix is False) is asked once for all routes that share their
attributes.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, Protocol

import attrs

from pycilium.bgp.as_path import check_asn
from pycilium.bgp.attributes import Attributes, add_communities
from pycilium.bgp.communities import Large, parse_community
from pycilium.bgp.family import Family
from pycilium.bgp.prefix import Prefix, address_text, parse_address, parse_prefix, prefix_text
from pycilium.errors import SpecError

Community = int | bytes | Large


class Action(enum.Enum):
    """What a rule that matches does."""

    ACCEPT = "accept"
    REJECT = "reject"
    CONTINUE = "continue"  # with what it has set


@attrs.frozen
class Decision:
    """What became of a route (None: refused), and by which rule."""

    attributes: Attributes | None
    by: str


class Policy(Protocol):
    """Whatever decides on routes."""

    @property
    def uses_prefix(self) -> bool:
        """Whether two routes with equal attributes may fare differently."""

    def decide(self, family: Family, prefix: Prefix, attributes: Attributes) -> Decision:
        """Give the route's attributes, changed or not, or refuse it."""


@attrs.frozen
class Range:
    """Prefixes inside a prefix, of lengths from low to high: "10.0.0.0/8 ge 16 le 24"."""

    family: Family
    bits: int
    value: int
    low: int
    high: int

    @classmethod
    def parse(cls, text: str) -> Range:
        """Without words only the prefix itself; SpecError for anything else."""
        prefix, *words = text.split()
        family, nlri = parse_prefix(prefix)
        limits = {"ge": nlri[0], "le": family.bits if "ge" in words else nlri[0]}
        pairs = dict(zip(words[::2], words[1::2], strict=False))
        if len(words) % 2 or not pairs.keys() <= limits.keys():
            raise SpecError("prefix", text, "a prefix, then ge LENGTH, le LENGTH")
        for word, digits in pairs.items():
            if not digits.isdigit() or not nlri[0] <= int(digits) <= family.bits:
                raise SpecError("prefix", text, f"a length from {nlri[0]} to {family.bits}")
            limits[word] = int(digits)
        value = _as_number(family, nlri)
        return cls(family, nlri[0], value, limits["ge"], limits["le"])

    def matches(self, family: Family, prefix: Prefix) -> bool:
        """Whether a prefix is one of these."""
        if family is not self.family or not self.low <= prefix[0] <= self.high:
            return False
        return not (_as_number(family, prefix) ^ self.value) >> (family.bits - self.bits)


def _as_number(family: Family, prefix: Prefix) -> int:
    return int.from_bytes(prefix[1:].ljust(family.bits >> 3, b"\0"), "big")


def _communities(values: Iterable[str | Community]) -> tuple[Community, ...]:
    listed = [values] if isinstance(values, str) else values
    return tuple(parse_community(one) if isinstance(one, str) else one for one in listed)


def _ranges(values: Iterable[str | Range]) -> tuple[Range, ...]:
    listed = [values] if isinstance(values, str) else values
    return tuple(Range.parse(one) if isinstance(one, str) else one for one in listed)


def _networks(values: Iterable[str]) -> tuple[IPv4Network | IPv6Network, ...]:
    found = []
    for one in [values] if isinstance(values, str) else values:
        try:
            found.append(ip_network(one))
        except ValueError:
            raise SpecError("next_hop", one, "an address or prefix") from None
    return tuple(found)


@attrs.frozen(kw_only=True)
class Match:
    """What a rule is about: every field that is given must fit, any of its values will do."""

    prefixes: tuple[Range, ...] | None = attrs.field(
        default=None, converter=attrs.converters.optional(_ranges)
    )
    communities: tuple[Community, ...] | None = attrs.field(
        default=None, converter=attrs.converters.optional(_communities)
    )
    next_hops: tuple[IPv4Network | IPv6Network, ...] | None = attrs.field(
        default=None, converter=attrs.converters.optional(_networks)
    )
    family: Family | None = None
    as_path_contains: int | None = None
    as_path_first: int | None = None
    as_path_origin: int | None = None
    as_path_max: int | None = None

    @property
    def uses_prefix(self) -> bool:
        """Whether it looks at the prefix."""
        return self.prefixes is not None

    def matches(self, family: Family, prefix: Prefix, one: Attributes) -> bool:
        """Whether a route is meant."""
        if self.family is not None and family is not self.family:
            return False
        if self.prefixes is not None and not any(r.matches(family, prefix) for r in self.prefixes):
            return False
        if self.communities is not None and not any(map(one.has, self.communities)):
            return False
        return self._path_fits(one) and self._next_hop_fits(one)

    def _path_fits(self, one: Attributes) -> bool:
        path = one.as_path
        wrong = (
            self.as_path_contains is not None and self.as_path_contains not in path,
            self.as_path_first is not None and self.as_path_first != path.first,
            self.as_path_origin is not None and self.as_path_origin != path.origin,
            self.as_path_max is not None and path.length > self.as_path_max,
        )
        return not any(wrong)

    def _next_hop_fits(self, one: Attributes) -> bool:
        if self.next_hops is None:
            return True
        if not one.next_hop:
            return False
        address = ip_address(address_text(one.next_hop))
        return any(address in net for net in self.next_hops if net.version == address.version)


def _numbers(values: Iterable[int]) -> tuple[int, ...]:
    return tuple(values)


def _packed(value: str | bytes | None) -> bytes | None:
    return parse_address(value, "next_hop") if isinstance(value, str) else value


@attrs.frozen(kw_only=True)
class Change:
    """What a rule sets; communities to remove go before those to add."""

    med: int | None = None
    local_pref: int | None = None
    next_hop: bytes | None = attrs.field(default=None, converter=_packed)
    add: tuple[Community, ...] = attrs.field(default=(), converter=_communities)
    remove: tuple[Community, ...] = attrs.field(default=(), converter=_communities)
    remove_all: bool = False
    prepend: tuple[int, ...] = attrs.field(default=(), converter=_numbers)

    def __attrs_post_init__(self) -> None:
        for name in ("med", "local_pref"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 0xFFFFFFFF:
                raise SpecError(name, value, "a number from 0 to 4294967295")
        for one in self.prepend:
            check_asn(one, "prepend")

    def apply(self, one: Attributes) -> Attributes:
        """The attributes with everything set."""
        if self.remove or self.remove_all:
            one = self._without(one)
        if self.add:
            one = add_communities(one, self.add)
        fields = {
            name: value
            for name in ("med", "local_pref", "next_hop")
            if (value := getattr(self, name)) is not None
        }
        for asn in reversed(self.prepend):
            fields["as_path"] = fields.get("as_path", one.as_path).prepend(asn)
        return attrs.evolve(one, **fields) if fields else one

    def _without(self, one: Attributes) -> Attributes:
        def kept(values: tuple[Any, ...]) -> tuple[Any, ...]:
            return () if self.remove_all else tuple(v for v in values if v not in self.remove)

        return attrs.evolve(
            one,
            communities=kept(one.communities),
            large_communities=kept(one.large_communities),
            extended_communities=kept(one.extended_communities),
        )


@attrs.frozen
class Rule:
    """One step of a policy."""

    match: Match = Match()
    change: Change = Change()
    action: Action = Action.ACCEPT
    name: str = ""


def _rules(values: Iterable[Rule]) -> tuple[Rule, ...]:
    return tuple(values)


@attrs.frozen
class RulePolicy:
    """Rules in order; the first that accepts or rejects decides, else the default."""

    rules: tuple[Rule, ...] = attrs.field(converter=_rules)
    default: Action = Action.REJECT
    name: str = "policy"

    @property
    def uses_prefix(self) -> bool:
        """Whether any rule looks at the prefix."""
        return any(one.match.uses_prefix for one in self.rules)

    def decide(self, family: Family, prefix: Prefix, attributes: Attributes) -> Decision:
        """Go through the rules."""
        for number, rule in enumerate(self.rules, 1):
            if not rule.match.matches(family, prefix, attributes):
                continue
            by = rule.name or f"rule {number} of {self.name}"
            if rule.action is Action.REJECT:
                return Decision(None, by)
            attributes = rule.change.apply(attributes)
            if rule.action is Action.ACCEPT:
                return Decision(attributes, by)
        accepted = self.default is Action.ACCEPT
        return Decision(attributes if accepted else None, f"the default of {self.name}")


@attrs.frozen
class Predicate:
    """A function of a prefix's text and its attributes: True, False, or other attributes."""

    function: Callable[[str, Attributes], bool | Attributes]
    name: str = "the predicate"
    uses_prefix: bool = True

    def decide(self, family: Family, prefix: Prefix, attributes: Attributes) -> Decision:
        """Ask the function."""
        found = self.function(prefix_text(family, prefix), attributes)
        if isinstance(found, Attributes):
            return Decision(found, self.name)
        return Decision(attributes if found else None, self.name)


ACCEPT_ALL = RulePolicy((), Action.ACCEPT, "accept all")
REJECT_ALL = RulePolicy((), Action.REJECT, "reject all")
