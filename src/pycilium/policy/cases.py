# SPDX-License-Identifier: Apache-2.0
"""Files of peers and of cases: who asks whom, and what is expected.

namespaces: {shop: {team: a}}
peers:
  web: {namespace: shop, labels: {app: web}, ip: 10.0.0.4}
  internet: {ip: 192.0.2.1}
ports: [80, 53/udp]
cases:
  - {from: web, to: internet, port: 443/tcp, expect: deny}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from pycilium.documents import Node
from pycilium.errors import SpecError
from pycilium.model.port import PROTOCOL_NAMES, PortRange
from pycilium.model.verdict import Verdict
from pycilium.policy.peer import Peer
from pycilium.policy.policy_set import PolicySet, parse_port_list
from pycilium.reader import read_documents, read_text


@attrs.frozen
class Case:
    """One expectation; `by` is part of the deciding rule's text, if it is to be checked."""

    name: str
    source: str
    destination: str
    port: PortRange
    allowed: bool
    by: str
    origin: str


@attrs.frozen
class Outcome:
    """What a case got."""

    case: Case
    verdict: Verdict

    @property
    def passed(self) -> bool:
        """Whether it is what was expected."""
        if self.verdict.allowed != self.case.allowed:
            return False
        return self.case.by in str(self.verdict.rule)

    def __str__(self) -> str:
        case = self.case
        want = f"{'allow' if case.allowed else 'deny'}{f' by {case.by}' if case.by else ''}"
        pair = f"{case.source} → {case.destination}:{case.port}"
        return f"{case.origin}: {case.name}: {pair}: expected {want}, but {self.verdict}"


@attrs.frozen
class Suite:
    """Peers, ports and cases of one file."""

    peers: Mapping[str, Peer]
    namespaces: Mapping[str, Mapping[str, str]] = attrs.field(factory=dict)
    ports: tuple[PortRange, ...] = ()
    cases: tuple[Case, ...] = ()

    @classmethod
    def read(cls, path: str | Path) -> Suite:
        """From a YAML file. Raises SpecError with file and line."""
        documents = list(read_documents(read_text(Path(path)), str(path)))
        if len(documents) != 1:
            raise SpecError("cases", f"{len(documents)} documents", "one", origin=str(path))
        top = documents[0].mapping("namespaces", "peers", "ports", "cases")
        peers = {name: _peer(one) for name, one in _mapping(top, "peers").items()}
        spaces = {name: _texts(one) for name, one in _mapping(top, "namespaces").items()}
        ports = map(_port, _items(top, "ports"))
        cases = tuple(_case(one, peers, i) for i, one in enumerate(_items(top, "cases"), 1))
        return cls(peers, spaces, tuple(ports), cases)

    def run(self, policies: PolicySet) -> list[Outcome]:
        """Ask every case."""
        return [Outcome(case, self.ask(policies, case)) for case in self.cases]

    def ask(self, policies: PolicySet, case: Case) -> Verdict:
        """One case's verdict."""
        ends = self.peers[case.source], self.peers[case.destination]
        return policies.verdict(*ends, case.port.first, PROTOCOL_NAMES[case.port.protocol])


def _mapping(top: dict[str, Node], key: str) -> dict[str, Node]:
    return top[key].mapping() if key in top else {}


def _items(top: dict[str, Node], key: str) -> list[Node]:
    return top[key].items() if key in top else []


def _texts(node: Node) -> dict[str, str]:
    return {key: one.text() for key, one in node.mapping().items()}


def _peer(node: Node) -> Peer:
    parts = node.mapping("namespace", "labels", "ip", "named_ports", "service_account", "entity")
    values: dict[str, Any] = {key: one.plain() for key, one in parts.items()}
    if "labels" in parts:
        values["labels"] = _texts(parts["labels"])
    try:
        return Peer(**values)
    except SpecError as error:
        raise node.error(error.allowed, error.value) from None


def _port(node: Node) -> PortRange:
    try:
        (port,) = parse_port_list([node.plain()])
    except (SpecError, ValueError):
        raise node.error('one port, as in 80, "53/udp" or "8/icmp"') from None
    return port


def _case(node: Node, peers: dict[str, Peer], number: int) -> Case:
    parts = node.mapping("name", "from", "to", "port", "expect", "by")
    for needed in ("from", "to", "port", "expect"):
        if needed not in parts:
            raise node.error(f"a field {needed}", f"no {needed}")
    return Case(
        parts["name"].text() if "name" in parts else f"case {number}",
        parts["from"].one_of(list(peers)),
        parts["to"].one_of(list(peers)),
        _port(parts["port"]),
        parts["expect"].one_of(["allow", "deny"]) == "allow",
        parts["by"].text() if "by" in parts else "",
        node.origin,
    )
