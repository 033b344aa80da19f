# SPDX-License-Identifier: Apache-2.0
"""CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy (cilium.io/v2) to policies.

What is not enforced yet is refused by name: a rule that is read is a rule that holds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import attrs

from pycilium.errors import SpecError
from pycilium.model.policy import (
    PROTOCOLS,
    CidrPeer,
    Direction,
    Entity,
    Network,
    Peer,
    Policy,
    PortRange,
    Rule,
    RuleRef,
    expand,
    parse_entity,
    parse_network,
)
from pycilium.model.selector import Operator, Requirement, Selector
from pycilium.policy.documents import Node, read_documents

_KINDS = ("CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy")
_SPEC = (
    "endpointSelector", "ingress", "ingressDeny", "egress", "egressDeny",
    "enableDefaultDeny", "description", "labels",
)  # fmt: skip
_PEERS = {"Endpoints", "Entities", "CIDR", "CIDRSet"}
_LATER = {
    "toFQDNs", "toServices", "toGroups", "fromGroups", "toNodes", "fromNodes", "toRequires",
    "fromRequires", "authentication", "nodeSelector", "log", "rules", "terminatingTLS",
    "originatingTLS", "serverNames", "listener", "cidrGroupRef", "cidrGroupSelector",
}  # fmt: skip
_ICMP_TYPES = {
    "IPv4": {
        "EchoReply": 0, "DestinationUnreachable": 3, "Redirect": 5, "Echo": 8, "EchoRequest": 8,
        "TimeExceeded": 11, "ParameterProblem": 12, "Timestamp": 13,
    },
    "IPv6": {
        "DestinationUnreachable": 1, "PacketTooBig": 2, "TimeExceeded": 3, "ParameterProblem": 4,
        "EchoRequest": 128, "EchoReply": 129,
    },
}  # fmt: skip


@attrs.frozen
class _Context:
    """What a rule takes from the policy around it."""

    name: str
    namespace: str | None


def load_manifests(source: str | os.PathLike[str]) -> list[Policy]:
    """Policies of a file, of a directory's YAML and JSON files, or of a text.

    A text is told from a path by a line break or a brace. Raises SpecError with file:line.
    """
    return [policy for node in _documents(source) for policy in _policies(node)]


def _documents(source: str | os.PathLike[str]) -> Iterator[Node]:
    text = os.fspath(source)
    if "\n" in text or text.lstrip().startswith("{"):
        yield from read_documents(text, "<text>")
        return
    path = Path(text)
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.suffix in (".yaml", ".yml", ".json"))
    elif path.is_file():
        found = [path]
    else:
        raise SpecError("manifest", text, "an existing file or directory, or YAML text")
    for one in found:
        yield from read_documents(one.read_text(), str(one))


def _policies(document: Node) -> Iterator[Policy]:
    top = document.mapping("apiVersion", "kind", "metadata", "spec", "specs", "status")
    kind = top.get("kind", document)
    if kind.value not in _KINDS:
        raise kind.error(f"one of {', '.join(_KINDS)}", kind.plain() if "kind" in top else None)
    metadata = top.get("metadata", document).mapping()
    name = metadata["name"].text() if "name" in metadata else "unnamed"
    namespace = None
    if kind.value == _KINDS[0]:
        namespace = metadata["namespace"].text() if "namespace" in metadata else "default"
    specs = [top["spec"]] if "spec" in top else []
    specs += top["specs"].items() if "specs" in top else []
    if not specs:
        raise document.error("a spec or specs", "neither")
    for spec in specs:
        yield _policy(spec, _Context(name, namespace))


def _policy(spec: Node, context: _Context) -> Policy:
    fields = _known(spec, _SPEC)
    if "endpointSelector" not in fields:
        raise spec.error("an endpointSelector", "no endpointSelector")
    subject = _selector(fields["endpointSelector"])
    if context.namespace is not None:
        subject = subject.within(context.namespace)
    rules: list[Rule] = []
    for section, direction, deny in (
        ("ingress", Direction.INGRESS, False),
        ("ingressDeny", Direction.INGRESS, True),
        ("egress", Direction.EGRESS, False),
        ("egressDeny", Direction.EGRESS, True),
    ):
        for node in fields[section].items() if section in fields else ():
            rules += _rule(
                node,
                direction,
                deny,
                RuleRef(context.name, node.file, node.line, len(rules)),
                context,
            )
    ingress, egress = _default_deny(fields)
    return Policy(
        context.name,
        subject,
        tuple(rules),
        context.namespace,
        ingress,
        egress,
        spec.file,
        spec.line,
    )


def _default_deny(fields: dict[str, Node]) -> tuple[bool, bool]:
    """A section that is not empty turns it on, unless enableDefaultDeny says otherwise."""
    sections = {
        "ingress": bool(_length(fields, "ingress") + _length(fields, "ingressDeny")),
        "egress": bool(_length(fields, "egress") + _length(fields, "egressDeny")),
    }
    if "enableDefaultDeny" in fields:
        for key, node in fields["enableDefaultDeny"].mapping("ingress", "egress").items():
            sections[key] = node.flag()
    return sections["ingress"], sections["egress"]


def _length(fields: dict[str, Node], section: str) -> int:
    return len(fields[section].items()) if section in fields else 0


def _rule(
    node: Node, direction: Direction, deny: bool, ref: RuleRef, context: _Context
) -> list[Rule]:
    side = "from" if direction is Direction.INGRESS else "to"
    allowed = [f"{side}{peer}" for peer in sorted(_PEERS)]
    fields = _known(node, (*allowed, "toPorts", "icmps"))
    named = [key for key in allowed if key in fields]
    if len(named) > 1:
        raise node.error("one kind of peer in a rule; write two rules", " and ".join(named))
    peers = _peers(fields[named[0]], named[0][len(side) :], context) if named else None
    if "toPorts" in fields and "icmps" in fields:
        raise node.error("toPorts or icmps, not both", "toPorts and icmps")
    ports = _to_ports(fields["toPorts"]) if "toPorts" in fields else None
    if "icmps" in fields:
        ports = _icmps(fields["icmps"])
    if peers is None and ports is None:
        return []  # a rule that says nothing allows nothing
    return [Rule(direction, peers, ports, deny, ref)]


def _peers(node: Node, kind: str, context: _Context) -> tuple[Peer, ...]:
    if kind == "Endpoints":
        return tuple(_peer_selector(one, context) for one in node.items())
    if kind == "Entities":
        return tuple(_entity(one) for one in node.items())
    if kind == "CIDR":
        return tuple(CidrPeer(_network(one)) for one in node.items())
    return tuple(_cidr_set(one) for one in node.items())


def _entity(node: Node) -> Entity:
    try:
        return parse_entity(node.value)
    except SpecError as error:
        raise node.error(error.allowed) from None


def _network(node: Node) -> Network:
    try:
        return parse_network(node.text())
    except SpecError as error:
        raise node.error(error.allowed) from None


def _cidr_set(node: Node) -> CidrPeer:
    fields = _known(node, ("cidr", "except"))
    if "cidr" not in fields:
        raise node.error("a cidr", "no cidr")
    network = _network(fields["cidr"])
    holes = tuple(_network(one) for one in fields["except"].items()) if "except" in fields else ()
    for hole, one in zip(holes, fields["except"].items() if holes else (), strict=True):
        if not _is_part(hole, network):
            raise one.error(f"a part of {network}")
    return CidrPeer(network, holes)


def _is_part(hole: Network, network: Network) -> bool:
    if hole.version != network.version or hole.prefixlen < network.prefixlen:
        return False
    return hole.supernet(new_prefix=network.prefixlen) == network


def _peer_selector(node: Node, context: _Context) -> Selector:
    """In a namespaced policy, peers are of that namespace unless the selector names others."""
    selector = _selector(node)
    if context.namespace is not None and not selector.names_namespace:
        return selector.within(context.namespace)
    return selector


def _selector(node: Node) -> Selector:
    fields = node.mapping("matchLabels", "matchExpressions")
    labels = fields["matchLabels"].mapping() if "matchLabels" in fields else {}
    requirements = [
        Requirement(_key(key), Operator.IN, (value.text(),)) for key, value in labels.items()
    ]
    if "matchExpressions" in fields:
        requirements += [_expression(one) for one in fields["matchExpressions"].items()]
    return Selector(tuple(requirements))


def _key(key: str) -> str:
    """ "any:app" is "app"."""
    return key.removeprefix("any:")


def _expression(node: Node) -> Requirement:
    fields = node.mapping("key", "operator", "values")
    for needed in ("key", "operator"):
        if needed not in fields:
            raise node.error(f"a {needed}", f"no {needed}")
    names = [operator.value for operator in Operator]
    operator = fields["operator"]
    if operator.value not in names:
        raise operator.error(f"one of {', '.join(names)}")
    values = tuple(one.text() for one in fields["values"].items()) if "values" in fields else ()
    try:
        return Requirement(_key(fields["key"].text()), Operator(operator.value), values)
    except SpecError as error:
        raise node.error(error.allowed, list(values)) from None


def _to_ports(node: Node) -> tuple[PortRange, ...]:
    found: list[PortRange] = []
    for one in node.items():
        fields = _known(one, ("ports",))
        ports = fields["ports"].items() if "ports" in fields else []
        if not ports:
            return (PortRange(0),)
        for port in ports:
            found += _port(port)
    return tuple(found)


def _port(node: Node) -> list[PortRange]:
    fields = _known(node, ("port", "endPort", "protocol"))
    protocol_node = fields.get("protocol")
    name = str(protocol_node.value).lower() if protocol_node else "any"
    if name not in PROTOCOLS:
        raise (protocol_node or node).error(f"one of {', '.join(PROTOCOLS).upper()}")
    if "port" not in fields:
        raise node.error("a port", "no port")
    port = fields["port"]
    text = str(port.value)
    if not text.isdigit() or isinstance(port.value, bool):
        raise port.error("a number from 0 to 65535 (named ports are not supported yet)")
    first = int(text)
    last = fields["endPort"].value if "endPort" in fields else first
    if first == 0 and "endPort" not in fields:
        last = 65535
    if not isinstance(last, int) or not first <= last <= 65535:
        raise fields.get("endPort", port).error(f"a number from {first} to 65535")
    return list(expand(PROTOCOLS[name], first, last))


def _icmps(node: Node) -> tuple[PortRange, ...]:
    found: list[PortRange] = []
    for one in node.items():
        found += [_icmp(field) for field in _known(one, ("fields",)).get("fields", one).items()]
    return tuple(found)


def _icmp(node: Node) -> PortRange:
    fields = node.mapping("family", "type")
    family = fields["family"].value if "family" in fields else "IPv4"
    if family not in _ICMP_TYPES:
        raise fields["family"].error("IPv4 or IPv6")
    if "type" not in fields:
        raise node.error("a type", "no type")
    number = _ICMP_TYPES[family].get(str(fields["type"].value), fields["type"].value)
    if isinstance(number, str) and number.isdigit():
        number = int(number)
    if not isinstance(number, int) or not 0 <= number <= 255:
        raise fields["type"].error(f"0 to 255 or one of {', '.join(_ICMP_TYPES[family])}")
    return PortRange(1 if family == "IPv4" else 58, number, number)


def _known(node: Node, keys: tuple[str, ...]) -> dict[str, Node]:
    """The fields, with those that come later refused in words of their own."""
    for key, value in node.mapping().items():
        if key in _LATER:
            raise SpecError(
                value.path,
                key,
                "a feature that pycilium enforces; this one is not supported yet",
                origin=value.origin,
            )
    return node.mapping(*keys)
