# SPDX-License-Identifier: Apache-2.0
"""YAML and JSON texts to nodes, whatever a text is made of: nothing is too large or too deep.

PyYAML's parser, which is libyaml, gives events; what they mean is read here. So nothing is built
that a cap refuses, duplicate keys and aliases have a line, and only what a manifest can need is
known: no types of YAML but text, numbers, true, false and null.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pycilium.documents import Node
from pycilium.errors import SpecError

MAX_BYTES = 8 << 20
MAX_VALUES = 250_000
MAX_DOCUMENTS = 20_000
MAX_DEPTH = 64
_MAX_DIRECTIVES = 64
_MAX_DIGITS = 20
_MARKS = ("\n", ":", ",", "[", "{", "- ", "? ")  # a value needs at least one of them
_NULL = {"", "~", "null", "Null", "NULL"}
_FLAGS = {
    **dict.fromkeys(("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"), True),
    **dict.fromkeys(("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"), False),
}
_WHOLE = re.compile(r"[-+]?(?:0x[0-9a-fA-F_]+|0b[01_]+|0[0-7_]*|[1-9][0-9_]*)")
_FLOAT = re.compile(r"[-+]?(?:[0-9][0-9_]*)?\.?[0-9_]+(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*\.")
_TAGS = {f"tag:yaml.org,2002:{name}": name for name in ("str", "map", "seq", "null", "bool", "int")}


def read_documents(text: str, file: str) -> Iterator[Node]:
    """Every document of a YAML or JSON text that is not empty.

    Raises SpecError with file and line.
    """
    import yaml

    _refuse_size(text, file)
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        parser = loader(text)
        parser.get_event()
        while isinstance(parser.get_event(), yaml.DocumentStartEvent):
            root = _Reader(parser, file).read()
            parser.get_event()
            if root.value is not None:
                yield root
    except yaml.MarkedYAMLError as error:
        raise _invalid(text, file, error) from error
    except yaml.YAMLError as error:
        problem = str(error).splitlines()[0]
        raise SpecError("document", problem, "valid YAML", origin=file) from error


def _invalid(text: str, file: str, error: Any) -> SpecError:
    """What the parser says, and the mistake that it is most often."""
    mark = error.problem_mark
    if mark is None:
        return SpecError("document", error.problem, "valid YAML", origin=file)
    line = text.split("\n", mark.line + 1)[mark.line :][:1]
    tabs = line and line[0][: mark.column + 1].lstrip(" ").startswith("\t")
    allowed = "valid YAML: spaces, not tabs, at the start of a line" if tabs else "valid YAML"
    return SpecError("document", error.problem, allowed, origin=f"{file}:{mark.line + 1}")


def read_text(path: Path) -> str:
    """A file in UTF-8, read as far as the cap. Raises SpecError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) <= MAX_BYTES:
            return data.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise SpecError("file", str(path), f"a readable text in UTF-8 ({error})") from None
    raise SpecError("file", str(path), f"at most {MAX_BYTES} bytes")


class _Reader:
    """The events of one document to nodes."""

    def __init__(self, parser: Any, file: str) -> None:
        self._next = parser.get_event
        self._file = file
        self._values = 0
        self._deepest = 0
        self._anchors: dict[str, tuple[Node, int, int]] = {}

    def read(self) -> Node:
        """The whole document."""
        return self._node(self._next(), "", 0)

    def _node(self, event: Any, path: str, depth: int) -> Node:
        import yaml

        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, path, depth)
        before, deepest, self._deepest = self._values, self._deepest, depth
        self._values += 1
        self._check_depth(event, path, depth)
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event, path)
        elif isinstance(event, yaml.MappingStartEvent):
            value = self._mapping(event, path, depth)
        else:
            value = self._sequence(event, path, depth)
        node = Node(value, path, self._file, event.start_mark.line + 1)
        if event.anchor is not None:
            size, height = self._values - before, self._deepest - depth
            self._anchors[event.anchor] = (node, size, height)
        self._deepest = max(deepest, self._deepest)
        return node

    def _alias(self, event: Any, path: str, depth: int) -> Node:
        """What it stands for, counted as if it were written here."""
        found = self._anchors.get(event.anchor)
        if found is None:
            raise self._error(event, path, f"*{event.anchor}", "an anchor that ends before it")
        node, size, height = found
        self._values += size
        self._deepest = max(self._deepest, depth + height)
        if self._values > MAX_VALUES:
            raise self._error(event, path, "aliases", f"at most {MAX_VALUES} values with them")
        self._check_depth(event, path, depth + height)
        return node

    def _mapping(self, event: Any, path: str, depth: int) -> dict[str, Node]:
        import yaml

        self._tag(event, path, ("map",))
        found: dict[str, Node] = {}
        while not isinstance(key := self._next(), yaml.MappingEndEvent):
            if not isinstance(key, yaml.ScalarEvent):
                raise self._error(key, path, "a key", "text")
            name = key.value
            where = f"{path}.{name}" if path else name
            if name in found:
                raise self._error(key, where, name, "each key once")
            if name == "<<":
                raise self._error(key, where, name, "the keys themselves: nothing is merged")
            found[name] = self._node(self._next(), where, depth + 1)
        return found

    def _sequence(self, event: Any, path: str, depth: int) -> list[Node]:
        import yaml

        self._tag(event, path, ("seq",))
        found: list[Node] = []
        while not isinstance(one := self._next(), yaml.SequenceEndEvent):
            found.append(self._node(one, f"{path}[{len(found)}]", depth + 1))
        return found

    def _scalar(self, event: Any, path: str) -> Any:
        tag = self._tag(event, path, ("str", "null", "bool", "int"))
        if tag == "str" or not (tag or event.implicit[0]):
            return event.value
        value = _plain(event.value)
        if tag and type(value) is not {"null": type(None), "bool": bool, "int": int}[tag]:
            raise self._error(event, path, event.value, f"a value of its tag, {tag}")
        return value

    def _tag(self, event: Any, path: str, allowed: tuple[str, ...]) -> str:
        """The name of a tag that says what is known here anyway; "" without one."""
        if event.tag is None:
            return ""
        name = "str" if event.tag == "!" and "str" in allowed else _TAGS.get(event.tag, "")
        if name not in allowed:
            raise self._error(event, path, event.tag, "a value without a tag")
        return name

    def _check_depth(self, event: Any, path: str, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise self._error(event, path, f"{depth} levels", f"at most {MAX_DEPTH}")

    def _error(self, event: Any, path: str, value: object, allowed: str) -> SpecError:
        origin = f"{self._file}:{event.start_mark.line + 1}"
        return SpecError(path or "document", value, allowed, origin=origin)


def _plain(text: str) -> Any:
    """What a scalar without quotes means: YAML 1.1 without dates and without base 60."""
    if text in _NULL:
        return None
    if text in _FLAGS:
        return _FLAGS[text]
    if _WHOLE.fullmatch(text) and len(text) <= _MAX_DIGITS:
        digits = text.replace("_", "")
        base = 8 if re.fullmatch(r"[-+]?0[0-7]+", digits) else 0
        try:
            return int(digits, base)
        except ValueError:  # 0x_
            return text
    if _FLOAT.fullmatch(text):
        return float(text.replace("_", "") or "nan")
    return text


def _refuse_size(text: str, file: str) -> None:
    """Counts what is cheap to count before anything is parsed."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        shown = repr(text[error.start])
        raise SpecError("document", shown, "Unicode text", origin=f"{file}:{line}") from None
    if size > MAX_BYTES:
        raise SpecError("document", f"{size} bytes", f"at most {MAX_BYTES} bytes", origin=file)
    documents = text.split("\n---")
    if len(documents) > MAX_DOCUMENTS:
        count = f"{len(documents)} documents"
        raise SpecError("document", count, f"at most {MAX_DOCUMENTS} in one text", origin=file)
    if text.count("\n%") > _MAX_DIRECTIVES:
        raise SpecError("document", "% directives", f"at most {_MAX_DIRECTIVES}", origin=file)
    _refuse_values(documents, file)


def _refuse_values(documents: list[str], file: str) -> None:
    line = 1
    for one in documents:
        marks = sum(map(one.count, _MARKS)) if len(one) > MAX_VALUES else 0
        if marks > MAX_VALUES:
            raise SpecError(
                "document",
                f"about {marks} values",
                f"at most {MAX_VALUES} in one document; split it",
                origin=f"{file}:{line}",
            )
        line += one.count("\n") + 1
