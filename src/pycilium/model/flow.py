# SPDX-License-Identifier: Apache-2.0
"""Flows: what the kernel reported of a packet, with names and rules put to the numbers."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import attrs

from pycilium.model.identity import Identity
from pycilium.model.policy import DEFAULT_DENY, Direction, RuleRef
from pycilium.model.port import PROTOCOL_NAMES


@attrs.frozen
class Party:
    """One end of a flow; name is the endpoint's, empty where it is none of this node's."""

    address: IPv4Address | IPv6Address
    port: int
    identity: Identity
    name: str = ""

    def __str__(self) -> str:
        who = self.name or str(self.identity.labels) or f"identity {self.identity.number}"
        return f"{who} {self.address}" + (f":{self.port}" if self.port else "")


@attrs.frozen
class Flow:
    """One verdict or drop. time: seconds of CLOCK_MONOTONIC. reason: the C enum's name.

    audited: the direction in which a policy in audit mode would have denied what was allowed.
    log: the word that the deciding rule's policy has for it.
    """

    time: float
    source: Party
    destination: Party
    protocol: int
    allowed: bool
    reason: str
    location: str
    egress_rule: RuleRef | None
    ingress_rule: RuleRef | None
    service: str
    backend: str
    tcp_flags: int
    length: int
    audited: Direction | None = None
    log: str = ""

    @property
    def rule(self) -> RuleRef | None:
        """The rule that decided: ingress comes after egress; no entry is the default.

        Of an audited flow the one that would have denied it.
        """
        if self.audited is not None:
            egress = self.audited is Direction.EGRESS
            return (self.egress_rule if egress else self.ingress_rule) or DEFAULT_DENY
        if self.reason.removeprefix("PCL_") == "DROP_POLICY":
            return DEFAULT_DENY
        return self.ingress_rule or self.egress_rule

    def __str__(self) -> str:
        word = "ALLOWED" if self.allowed else f"DROPPED ({self.reason} at {self.location})"
        if self.audited is not None:
            word = f"AUDITED at {self.audited}"
        protocol = PROTOCOL_NAMES.get(self.protocol, str(self.protocol))
        via = f" via {self.backend}" if self.backend else ""
        by = f" by {self.rule}" if self.rule else ""
        log = f" [{self.log}]" if self.log else ""
        return f"{self.source} -> {self.destination}{via} {protocol} {word}{by}{log}"
