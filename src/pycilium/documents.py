# SPDX-License-Identifier: Apache-2.0
"""Values of a document with their positions: every one knows its file, line and path."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from pycilium.errors import SpecError

_MAX_DIGITS = 20


@attrs.frozen
class Node:
    """A value of a document: a mapping of nodes, a list of nodes, or a scalar."""

    value: Any = attrs.field(repr=False)
    path: str
    file: str
    line: int

    @property
    def origin(self) -> str:
        """file:line, for errors."""
        return f"{self.file}:{self.line}"

    def error(self, allowed: str, value: object = None) -> SpecError:
        """What is wrong with this value."""
        shown = self.plain() if value is None else value
        return SpecError(self.path or "document", shown, allowed, origin=self.origin)

    def mapping(self, *keys: str, refused: Mapping[str, str] | None = None) -> dict[str, Node]:
        """A mapping with these keys only; a null is an empty one, a key with a null is not there.

        refused: keys that are known and not supported, each with the reason.
        """
        if self.value is None:
            return {}
        if not isinstance(self.value, dict):
            raise self.error("a mapping")
        for key, node in self.value.items():
            if refused and key in refused:
                allowed = f"a feature that pycilium supports: {refused[key]}"
                raise SpecError(node.path, key, allowed, origin=node.origin)
            if keys and key not in keys:
                raise SpecError(node.path, key, one_of(key, keys), origin=node.origin)
        return {key: node for key, node in self.value.items() if node.value is not None}

    def items(self) -> list[Node]:
        """A list without nulls; a null itself is an empty one."""
        if self.value is None:
            return []
        if not isinstance(self.value, list):
            raise self.error("a list")
        for one in self.value:
            if one.value is None:
                raise one.error("an element, or none")
        return self.value

    def refuse_nulls(self) -> None:
        """For kinds whose API takes a null for no value at all."""
        inner = self.value if isinstance(self.value, list) else ()
        for one in self.value.values() if isinstance(self.value, dict) else inner:
            if one.value is None:
                raise one.error("a value; leave the key out if there is none")
            one.refuse_nulls()

    def text(self) -> str:
        """A string of printable characters."""
        if not isinstance(self.value, str):
            quoted = ", in quotes" if isinstance(self.value, (bool, int, float)) else ""
            raise self.error(f"text{quoted}")
        if not self.value.isprintable():
            raise self.error("text of printable characters")
        return self.value

    def one_of(self, words: Sequence[str]) -> str:
        """One of some words, as they are written."""
        if not isinstance(self.value, str) or self.value not in words:
            raise self.error(one_of(self.value, words))
        return self.value

    def flag(self) -> bool:
        """true or false."""
        if not isinstance(self.value, bool):
            raise self.error("true or false")
        return self.value

    def number(self, low: int, high: int, more: str = "", *, or_text: bool = False) -> int:
        """A whole number; or_text: also in quotes."""
        value = self.value
        digits = isinstance(value, str) and value.isascii() and value.isdigit()
        if digits and or_text:
            value = int(value[:_MAX_DIGITS])
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            quotes = ", without quotes" if digits and not or_text else ""
            raise self.error(f"a number from {low} to {high}{quotes} {more}".rstrip())
        return value

    def plain(self) -> Any:
        """The value without positions."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


def one_of(value: object, words: Sequence[str]) -> str:
    """What is allowed, with the word that was likely meant."""
    folded = {word.lower(): word for word in words}
    close = difflib.get_close_matches(str(value)[:64].lower(), folded, n=1, cutoff=0.7)
    hint = f" (did you mean {folded[close[0]]}?)" if close else ""
    return f"one of {', '.join(words)}{hint}"
