# SPDX-License-Identifier: Apache-2.0
"""What configuration documents of every kind have in common: typed fields with their lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pycilium.documents import Node
from pycilium.errors import SpecError

T = TypeVar("T")
Fields = dict[str, Node]


def number(node: Node, low: int = 0, high: int = 0xFFFFFFFF) -> int:
    """A whole number."""
    return node.number(low, high)


def seconds(node: Node) -> float:
    """A time above 0."""
    value = node.value
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not value > 0:
        raise node.error("seconds above 0")
    return float(value)


def texts(node: Node) -> list[str]:
    """A list of text."""
    return [one.text() for one in node.items()]


def need(node: Node, fields: Fields, name: str) -> Node:
    """A field that must be there."""
    if name not in fields:
        raise node.error(f"a field {name}", f"no {name}")
    return fields[name]


def located(node: Node, make: Callable[[], T]) -> T:
    """Build a value; what it refuses is said with the document's file and line."""
    try:
        return make()
    except SpecError as error:
        where = error.origin or node.origin
        path = f"{node.path}: {error.field}" if node.path else error.field
        raise SpecError(path, error.value, error.allowed, origin=where) from None
