# SPDX-License-Identifier: Apache-2.0
"""Protocols and destination ports, by number and by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from pycilium.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterable

PROTOCOLS = {"any": 0, "icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58, "sctp": 132}
PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}
WITH_PORTS = (6, 17, 132)


@attrs.frozen
class PortRange:
    """Destination ports of a protocol; ICMP: types. Protocol 0 is any, with every port."""

    protocol: int
    first: int = 0
    last: int = 65535

    def __attrs_post_init__(self) -> None:
        if not 0 <= self.first <= self.last <= 65535:
            raise SpecError(
                "port", f"{self.first}-{self.last}", "0 to 65535, the first not above the last"
            )
        if self.protocol == 0 and (self.first, self.last) != (0, 65535):
            raise SpecError("port", f"{self.first}-{self.last}", "a protocol with ports")

    def __str__(self) -> str:
        name = PROTOCOL_NAMES.get(self.protocol, str(self.protocol))
        if (self.first, self.last) == (0, 65535):
            return f"any/{name}"
        ports = str(self.first) if self.first == self.last else f"{self.first}-{self.last}"
        return f"{ports}/{name}"


@attrs.frozen
class NamedPort:
    """A port that each workload may give another number; protocol 0 is any with that name."""

    protocol: int
    name: str

    def __str__(self) -> str:
        return f"{self.name}/{PROTOCOL_NAMES.get(self.protocol, str(self.protocol))}"


PortMatch = PortRange | NamedPort


def parse_ports(text: str | None) -> tuple[PortMatch, ...] | None:
    """From "80/tcp,8000-8080/udp,web/tcp,any/icmp"; None is everything."""
    if text is None:
        return None
    return tuple(one for part in text.split(",") for one in _port_ranges(part.strip(), text))


def expand(protocol: int, first: int, last: int) -> Iterable[PortRange]:
    """A range of any protocol is one of each protocol that has ports."""
    if protocol == 0 and (first, last) != (0, 65535):
        return [PortRange(one, first, last) for one in WITH_PORTS]
    return [PortRange(protocol, first, last)]


def _port_ranges(part: str, text: str) -> Iterable[PortMatch]:
    ports, _, protocol = part.partition("/")
    first, dash, last = ports.partition("-")
    if (protocol or "tcp").lower() not in PROTOCOLS:
        raise SpecError("ports", text, f"a protocol of {', '.join(PROTOCOLS)}")
    number = PROTOCOLS[(protocol or "tcp").lower()]
    if ports == "any":
        return [PortRange(number)]
    if is_port_name(ports):
        return [NamedPort(number, ports)]
    if not _is_number(first) or (dash and not _is_number(last)):
        raise SpecError(
            "ports", text, '"80/tcp", "8000-8080/udp", "web/tcp" or "any/icmp", with commas between'
        )
    return expand(number, int(first), int(last) if dash else int(first))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 20


def is_port_name(text: object) -> bool:
    """Whether it can name a port: IANA_SVC_NAME, RFC 6335 section 5.1."""
    if not isinstance(text, str) or not 0 < len(text) <= 15:
        return False
    letters = text.replace("-", "")
    return (
        letters.isascii()
        and letters.isalnum()
        and letters == letters.lower()
        and not letters.isdigit()
        and not text.startswith("-")
        and not text.endswith("-")
        and "--" not in text
    )
