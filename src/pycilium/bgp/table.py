# SPDX-License-Identifier: Apache-2.0
"""The Loc-RIB of one family: for each prefix its path, or its paths with the best in front.

Most prefixes have one path, and most messages bring prefixes that are new; both go through a dict's
own update, not through a loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pycilium.bgp.path import Path, Source, choose
from pycilium.bgp.prefix import Prefix

_MAX_CHOICES = 1 << 16
Entry = Path | tuple[Path, ...]


class Table:
    """Prefix → path or paths."""

    def __init__(self) -> None:
        self._routes: dict[Prefix, Entry] = {}
        self._choices: dict[tuple[Entry, Path], Entry] = {}

    def __len__(self) -> int:
        return len(self._routes)

    def __contains__(self, prefix: Prefix) -> bool:
        return prefix in self._routes

    def __iter__(self) -> Iterator[Prefix]:
        return iter(self._routes)

    @property
    def routes(self) -> dict[Prefix, Entry]:
        """The table itself, to be read only."""
        return self._routes

    def best(self, prefix: Prefix) -> Path | None:
        """The path in use."""
        entry = self._routes.get(prefix)
        return entry[0] if isinstance(entry, tuple) else entry

    def paths(self, prefix: Prefix) -> tuple[Path, ...]:
        """Every path, the best in front."""
        entry = self._routes.get(prefix)
        if entry is None:
            return ()
        return entry if isinstance(entry, tuple) else (entry,)

    def add(self, prefixes: list[Prefix], path: Path) -> None:
        """A source's path for some prefixes; it takes the place of the source's former one."""
        routes = self._routes
        if routes.keys().isdisjoint(prefixes):
            routes.update(dict.fromkeys(prefixes, path))
            return
        choices = self._choices
        for prefix in prefixes:
            old = routes.get(prefix)
            if old is None:
                routes[prefix] = path
            elif old is not path:
                found = choices.get((old, path))
                routes[prefix] = self._choose(old, path) if found is None else found

    def remove(self, prefixes: Iterable[Prefix], source: Source, path_id: bytes = b"") -> None:
        """A source has no path for these prefixes any more; what is absent is fine."""
        routes = self._routes
        for prefix in prefixes:
            old = routes.get(prefix)
            if old is None:
                continue
            if isinstance(old, tuple):
                left = [one for one in old if not _same(one, source, path_id)]
                routes[prefix] = _entry(left)
            elif _same(old, source, path_id):
                del routes[prefix]

    def forget(self) -> None:
        """Let go of decisions about paths that are gone."""
        self._choices.clear()

    def _choose(self, old: Entry, path: Path) -> Entry:
        paths = old if isinstance(old, tuple) else (old,)
        others = [one for one in paths if not _same(one, path.source, path.path_id)]
        found = _entry([*others, path])
        if len(self._choices) >= _MAX_CHOICES:
            self._choices.clear()
        self._choices[old, path] = found
        return found


def _same(one: Path, source: Source, path_id: bytes) -> bool:
    return one.source is source and one.path_id == path_id


def _entry(paths: list[Path]) -> Entry:
    if len(paths) == 1:
        return paths[0]
    best = choose(paths)
    return (best, *(one for one in paths if one is not best))
