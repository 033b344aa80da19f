# SPDX-License-Identifier: Apache-2.0
"""What several kinds have in common: label selectors, prefixes, ports, names."""

from __future__ import annotations

import attrs

from pycilium.errors import SpecError
from pycilium.model.labels import NAMESPACE_KEY, NAMESPACE_LABELS
from pycilium.model.peer import CidrPeer, Network, parse_network
from pycilium.model.policy import RuleRef
from pycilium.model.port import NamedPort, PortMatch, PortRange, expand, is_port_name
from pycilium.model.selector import Operator, Requirement, Selector
from pycilium.policy.documents import Node


@attrs.frozen
class Context:
    """What a rule takes from the document around it."""

    name: str
    namespace: str | None
    file: str

    def ref(self, node: Node, index: int) -> RuleRef:
        """The place of a rule."""
        return RuleRef(self.name, node.file, node.line, index)

    @property
    def own_namespace(self) -> str:
        """Of a kind that always has one."""
        return self.namespace or "default"


def selector(node: Node, *, prefix: str = "") -> Selector:
    """A LabelSelector; prefix comes before every key."""
    fields = node.mapping("matchLabels", "matchExpressions")
    labels = fields["matchLabels"].mapping() if "matchLabels" in fields else {}
    requirements = [
        Requirement(prefix + key, Operator.IN, (value.text(),)) for key, value in labels.items()
    ]
    if "matchExpressions" in fields:
        requirements += [_expression(one, prefix) for one in fields["matchExpressions"].items()]
    return Selector(tuple(requirements))


def pods(node: Node | None, namespaces: Node | None, own: str | None) -> Selector:
    """A podSelector and a namespaceSelector together; own: the namespace without the second."""
    chosen = selector(node) if node is not None else Selector()
    if namespaces is None:
        return chosen if own is None else chosen.within(own)
    around = selector(namespaces, prefix=NAMESPACE_LABELS).requirements
    return Selector(
        (*chosen.requirements, *(around or (Requirement(NAMESPACE_KEY, Operator.EXISTS),)))
    )


def _expression(node: Node, prefix: str) -> Requirement:
    fields = node.mapping("key", "operator", "values")
    for needed in ("key", "operator"):
        if needed not in fields:
            raise node.error(f"a {needed}", f"no {needed}")
    operator = fields["operator"].one_of([operator.value for operator in Operator])
    values = tuple(one.text() for one in fields["values"].items()) if "values" in fields else ()
    try:
        return Requirement(prefix + fields["key"].text(), Operator(operator), values)
    except SpecError as error:
        raise node.error(error.allowed, list(values)) from None


def network(node: Node) -> Network:
    """A prefix; bits beyond its length are an error, as in 10.0.0.1/8."""
    try:
        return parse_network(node.text())
    except SpecError as error:
        raise node.error(error.allowed) from None


def cidr_with_holes(node: Node, fields: dict[str, Node]) -> CidrPeer:
    """`cidr` and `except`, each hole a part of the prefix."""
    if "cidr" not in fields:
        raise node.error("a cidr", "no cidr")
    whole = network(fields["cidr"])
    return CidrPeer(whole, holes(fields, whole))


def holes(fields: dict[str, Node], whole: Network | None) -> tuple[Network, ...]:
    """`except`; whole: what each must be a part of."""
    found = []
    for one in fields["except"].items() if "except" in fields else ():
        hole = network(one)
        if whole is not None and not _is_part(hole, whole):
            raise one.error(f"a part of {whole}")
        found.append(hole)
    return tuple(found)


def _is_part(hole: Network, whole: Network) -> bool:
    if hole.version != whole.version or hole.prefixlen < whole.prefixlen:
        return False
    return hole.supernet(new_prefix=whole.prefixlen) == whole


def port(fields: dict[str, Node], protocol: int) -> list[PortMatch]:
    """`port`, a number or a name, with `endPort`."""
    if "port" not in fields:
        if "endPort" in fields:
            raise fields["endPort"].error("a port beside it")
        return [PortRange(protocol)]
    first, last = fields["port"], fields.get("endPort")
    if isinstance(first.value, str) and is_port_name(first.value):
        if last is not None:
            raise last.error("no endPort beside a port's name")
        return [NamedPort(protocol, first.value)]
    start = number(first, 0, 65535, "or a port's name")
    end = start if last is None else number(last, start, 65535)
    if start == 0 and last is None:
        end = 65535
    return list(expand(protocol, start, end))


def number(node: Node, low: int, high: int, more: str = "") -> int:
    """A whole number, also as text."""
    value = node.value
    if isinstance(value, str) and value.isdigit() and len(value) < 20:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise node.error(f"a number from {low} to {high} {more}".rstrip())
    return value
