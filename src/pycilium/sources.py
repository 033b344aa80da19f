# SPDX-License-Identifier: Apache-2.0
"""Where documents come from: files, folders, texts, dicts, lists of any of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from pycilium.documents import Node
from pycilium.errors import SpecError
from pycilium.reader import read_documents, read_text

SUFFIXES = (".yaml", ".yml", ".json")


@attrs.frozen
class Text:
    """A text with the name that its errors and rules shall give."""

    text: str
    file: str


Source = str | os.PathLike[str] | Mapping[str, Any] | Text


def documents_of(
    source: Source | Iterable[Source], errors: list[SpecError] | None = None
) -> Iterator[Node]:
    """Every document of what is given, the items of lists in place of the lists.

    A text is told from a path by a line break or a brace. errors: where to collect what is wrong,
    in place of raising the first.
    """
    yield from _unpacked(_documents(source, errors), errors)


def _unpacked(documents: Iterable[Node], errors: list[SpecError] | None) -> Iterator[Node]:
    """The items of lists, as `kubectl get -o yaml` writes them, in place of the lists."""
    for document in documents:
        try:
            top = document.mapping()
            kind = top["kind"].value if "kind" in top else ""
            if isinstance(kind, str) and kind.endswith("List") and "items" in top:
                yield from _unpacked(top["items"].items(), errors)
                continue
        except SpecError as error:
            if errors is None:
                raise
            errors.append(error)
            continue
        yield document


def _documents(source: Source | Iterable[Source], errors: list[SpecError] | None) -> Iterator[Node]:
    for text, file in _texts(source):
        try:
            yield from read_documents(text, file)
        except SpecError as error:
            if errors is None:
                raise
            errors.append(error)


def _texts(source: Source | Iterable[Source]) -> Iterator[tuple[str, str]]:
    if isinstance(source, Text):
        yield source.text, source.file
    elif isinstance(source, Mapping):
        yield _json(source), "<dict>"
    elif isinstance(source, (str, os.PathLike)):
        yield from _of_path(os.fspath(source))
    else:
        for one in source:
            yield from _texts(one)


def _json(source: Mapping[str, Any]) -> str:
    try:
        return json.dumps(source, indent=1, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise SpecError("manifest", type(source).__name__, f"plain data ({error})") from None


def _of_path(text: str) -> Iterator[tuple[str, str]]:
    if "\n" in text or text.lstrip().startswith("{"):
        yield text, "<text>"
        return
    path = Path(text)
    if not text or "\0" in text:
        raise SpecError("manifest", text, "a path, or YAML text")
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES and p.is_file())
    elif path.is_file():
        found = [path]
    else:
        raise SpecError("manifest", text, "an existing file or directory, or YAML text")
    for one in found:
        yield read_text(one), str(one)
