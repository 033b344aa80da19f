# SPDX-License-Identifier: Apache-2.0
"""What several kinds have in common: label selectors, prefixes, ports, names."""

from __future__ import annotations

import re
import unicodedata

import attrs

from pycilium.documents import Node
from pycilium.errors import SpecError
from pycilium.model.labels import NAMESPACE_KEY, NAMESPACE_LABELS
from pycilium.model.peer import CidrPeer, Network, parse_network
from pycilium.model.policy import RuleRef
from pycilium.model.port import NamedPort, PortMatch, PortRange, expand, is_port_name
from pycilium.model.selector import Operator, Requirement, Selector

MAX_WORD, MAX_DOMAIN = 63, 253
_WORD = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?")
_WORDS = f"at most {MAX_WORD} ASCII letters, digits, - _ . inside of letters or digits"


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
        Requirement(prefix + label_key(value, key), Operator.IN, (label_value(value),))
        for key, value in labels.items()
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
    operator = Operator(fields["operator"].one_of([operator.value for operator in Operator]))
    values = tuple(map(label_value, fields["values"].items())) if "values" in fields else ()
    key = label_key(fields["key"], fields["key"].text())
    try:
        return Requirement(prefix + key, operator, values)
    except SpecError as error:
        raise node.error(f"{error.allowed} with {operator.value}", list(values)) from None


def label_key(node: Node, key: str) -> str:
    """A key as Kubernetes has them, with or without a source before it ("k8s:app")."""
    source, colon, name = key.rpartition(":")
    prefix, slash, last = name.rpartition("/")
    domain = not slash or (len(prefix) <= MAX_DOMAIN and _WORD.fullmatch(prefix))
    if not domain or not (len(last) <= MAX_WORD and _WORD.fullmatch(last)):
        raise node.error(f"a label's key: {_WORDS}", _reveal(key))
    if colon and not _WORD.fullmatch(source):
        raise node.error("a source of labels before the colon", _reveal(key))
    return key


def label_value(node: Node) -> str:
    """A value as Kubernetes has them; it may be empty."""
    value = node.text()
    if value and not (len(value) <= MAX_WORD and _WORD.fullmatch(value)):
        raise node.error(f"a label's value: {_WORDS}", _reveal(value))
    return value


def _reveal(text: str) -> str:
    """With the name of the first character that only looks right."""
    odd = next((c for c in text if not c.isascii()), "")
    return f"{text} ({unicodedata.name(odd, ascii(odd))})" if odd else text


def network(node: Node) -> Network:
    """A prefix; bits beyond its length are an error, as in 10.0.0.1/8."""
    text = node.text()
    if not text.partition("/")[2].isdecimal() and "/" in text:
        raise node.error("a prefix as in 10.0.0.0/8, its length in bits")
    try:
        return parse_network(text)
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


def port(fields: dict[str, Node], protocol: int, *, quoted: bool = False) -> list[PortMatch]:
    """`port`, a number or a name, with `endPort`.

    quoted: the number is text, and 0 is every port, as in Cilium's kinds.
    """
    if "port" not in fields:
        if "endPort" in fields:
            raise fields["endPort"].error("a port beside it")
        return [PortRange(protocol)]
    first, last = fields["port"], fields.get("endPort")
    name = first.text().lower() if quoted else first.value
    if is_port_name(name):
        if last is not None:
            raise last.error("no endPort beside a port's name")
        return [NamedPort(protocol, name)]
    start = first.number(0 if quoted else 1, 65535, "or a port's name", or_text=quoted)
    end = start if last is None else last.number(start, 65535)
    if start == 0 and last is None:
        end = 65535
    return list(expand(protocol, start, end))
