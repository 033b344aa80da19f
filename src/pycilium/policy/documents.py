# SPDX-License-Identifier: Apache-2.0
"""YAML with positions: every value knows its line and path, and nothing is too large.

Text goes through PyYAML's CSafeLoader as far as nodes; what they mean is read here, so that
duplicate keys, aliases without end and depth without bottom are refused with a line.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from pycilium.errors import SpecError

MAX_BYTES = 8 << 20
MAX_DEPTH = 64
MAX_ALIASES = 64
_BRACKETS = re.compile(r"[][{}]")


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
        """A mapping with these keys only; a null is an empty one.

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
                raise SpecError(node.path, key, _one_of(key, keys), origin=node.origin)
        return self.value

    def items(self) -> list[Node]:
        """A list; a null is an empty one."""
        if self.value is None:
            return []
        if not isinstance(self.value, list):
            raise self.error("a list")
        return self.value

    def text(self) -> str:
        """A string."""
        if not isinstance(self.value, str):
            raise self.error("text")
        return self.value

    def one_of(self, words: Sequence[str]) -> str:
        """One of some words, as they are written."""
        if not isinstance(self.value, str) or self.value not in words:
            raise self.error(_one_of(self.value, words))
        return self.value

    def flag(self) -> bool:
        """true or false."""
        if not isinstance(self.value, bool):
            raise self.error("true or false")
        return self.value

    def plain(self) -> Any:
        """The value without positions."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


def _one_of(value: object, words: Sequence[str]) -> str:
    """What is allowed, with the word that was likely meant."""
    folded = {word.lower(): word for word in words}
    close = difflib.get_close_matches(str(value)[:64].lower(), folded, n=1, cutoff=0.7)
    hint = f" (did you mean {folded[close[0]]}?)" if close else ""
    return f"one of {', '.join(words)}{hint}"


def read_documents(text: str, file: str) -> Iterator[Node]:
    """Every document of a YAML or JSON text that is not empty.

    Raises SpecError with file and line.
    """
    import yaml

    if len(text.encode(errors="surrogatepass")) > MAX_BYTES:
        raise SpecError(
            "document", f"{len(text)} characters", f"at most {MAX_BYTES} bytes", origin=file
        )
    _refuse_depth(text, file)
    loader_type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        for root in yaml.compose_all(text, Loader=loader_type):
            if root is not None:
                yield _Reader(file, loader_type).read(root)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise SpecError("document", error.problem, "valid YAML", origin=f"{file}:{line}") from error
    except yaml.YAMLError as error:
        raise SpecError("document", str(error), "valid YAML", origin=file) from error


class _Reader:
    """Nodes of PyYAML to nodes of ours, counting depth and aliases."""

    def __init__(self, file: str, loader: Any) -> None:
        self._file = file
        self._seen: dict[int, int] = {}
        self._aliases = 0
        self._scalars = loader("")

    def read(self, root: Any) -> Node:
        """The whole document."""
        try:
            return self._read(root, "", 0)
        finally:
            self._scalars.dispose()

    def _read(self, node: Any, path: str, depth: int) -> Node:
        import yaml

        line = node.start_mark.line + 1
        self._count(node, path, line, depth)
        if isinstance(node, yaml.MappingNode):
            value: Any = self._mapping(node, path, depth)
        elif isinstance(node, yaml.SequenceNode):
            value = [self._read(one, f"{path}[{i}]", depth + 1) for i, one in enumerate(node.value)]
        else:
            value = self._scalars.construct_object(node)
        return Node(value, path, self._file, line)

    def _mapping(self, node: Any, path: str, depth: int) -> dict[str, Node]:
        found: dict[str, Node] = {}
        for key_node, value_node in node.value:
            key, line = key_node.value, key_node.start_mark.line + 1
            where = f"{path}.{key}" if path else str(key)
            if not isinstance(key, str):
                raise SpecError(path, "a key", "text", origin=f"{self._file}:{line}")
            if key in found:
                raise SpecError(where, key, "each key once", origin=f"{self._file}:{line}")
            found[key] = self._read(value_node, where, depth + 1)
        return found

    def _count(self, node: Any, path: str, line: int, depth: int) -> None:
        import yaml

        origin = f"{self._file}:{line}"
        if depth > MAX_DEPTH:
            raise SpecError(path, f"{depth} levels", f"at most {MAX_DEPTH}", origin=origin)
        if isinstance(node, yaml.ScalarNode):
            return
        self._seen[id(node)] = self._seen.get(id(node), 0) + 1
        self._aliases += self._seen[id(node)] > 1
        if self._aliases > MAX_ALIASES:
            raise SpecError(path, "aliases", f"at most {MAX_ALIASES}", origin=origin)


def _refuse_depth(text: str, file: str) -> None:
    """The parser composes recursively: flow brackets are counted before it sees them."""
    depth = 0
    for number, line in enumerate(text.splitlines(), 1):
        deepest, depth = _flow_depth(line, depth)
        indent = len(line) - len(line.lstrip(" -"))
        if deepest > MAX_DEPTH * 2 or indent > 4096:
            allowed = f"at most {MAX_DEPTH} levels"
            raise SpecError("document", "nesting", allowed, origin=f"{file}:{number}")


def _flow_depth(line: str, depth: int) -> tuple[int, int]:
    """The deepest flow level of a line, and the one at its end."""
    opened = line.count("[") + line.count("{")
    end = depth + opened - line.count("]") - line.count("}")
    if depth + opened <= MAX_DEPTH * 2:
        return depth + opened, end
    deepest = depth
    for bracket in _BRACKETS.findall(line):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest, end
