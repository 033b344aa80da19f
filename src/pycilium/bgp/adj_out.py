# SPDX-License-Identifier: Apache-2.0
"""What a peer has been sent and what it has yet to be sent, for one family.

Changes are marked by prefix and turned into messages when the transport has room: a slow peer costs
one set of prefixes, and sees only the last state of each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pycilium.bgp.attributes import Attributes
from pycilium.bgp.encode import encode_reach, encode_unreach
from pycilium.bgp.export import Exporter
from pycilium.bgp.path import Path, Source, ranked
from pycilium.bgp.prefix import Prefix
from pycilium.bgp.table import Table
from pycilium.errors import SpecError

SLAB = 20_000  # prefixes in one go, so that other peers and timers get their turn
_AGAIN = Attributes(unknown=())  # stands for "sent, but to be sent anew"; compared by identity

Bucket = tuple[Attributes | None, list[Prefix]]
PathIds = Callable[[Path], bytes]


class AdjOut:
    """Prefix → attributes as sent; the attributes are shared."""

    def __init__(self, exporter: Exporter, table: Table, path_ids: PathIds) -> None:
        session, family = exporter.session, exporter.family
        self.exporter = exporter
        self.sent: dict[Prefix, Attributes] = {}
        self.too_large: set[Prefix] = set()  # attributes that fit in no message
        self._table = table
        self._path_ids = path_ids
        self._limit, self._wide = session.max_message, session.wide
        self._paths = exporter.options.add_path_send if family in session.add_path_send else 0
        self._keys: dict[Prefix, tuple[Prefix, ...]] = {}  # with identifiers; ADD-PATH only
        self._marked: set[Prefix] = set()
        self._slabs: list[list[Prefix]] = []
        self._before: list[bytes] = []
        self._after: list[bytes] = []

    @property
    def is_idle(self) -> bool:
        """Whether the peer knows everything."""
        return not (self._marked or self._slabs or self._before or self._after)

    @property
    def pending(self) -> int:
        """Prefixes that may have changed and were not looked at yet."""
        return len(self._marked) + sum(map(len, self._slabs))

    def has_sent(self, prefix: Prefix) -> bool:
        """Whether the peer knows the prefix, by any path."""
        return prefix in (self._keys if self._paths else self.sent)

    def mark(self, prefixes: Iterable[Prefix], source: Source) -> None:
        """Something about these prefixes has changed."""
        if self.exporter.wants(source):
            self._marked.update(prefixes)

    def mark_all(self) -> None:
        """Everything in the table, and what is not there any more."""
        self._marked.update(self._table, self._keys if self._paths else self.sent)

    def finish_with(self, message: bytes) -> None:
        """A message that follows when nothing is left to be said."""
        self._after.append(message)

    def repeat(self, before: list[bytes], after: list[bytes]) -> None:
        """Say everything again, between two marks (RFC 2918, 7313)."""
        self.sent = dict.fromkeys(self.sent, _AGAIN)
        self.mark_all()
        self._before += before
        self._after += after

    def drain(self) -> list[bytes]:
        """Messages for the next slab of changes; nothing when idle."""
        messages, self._before = self._before, []
        slab = self._next_slab()
        if slab:
            buckets = self._sort_paths(slab) if self._paths else self._sort(slab)
            messages += self._messages(buckets)
        if not self._slabs and not self._marked:
            messages += self._after
            self._after = []
        return messages

    def _next_slab(self) -> list[Prefix]:
        if not self._slabs and self._marked:
            everything = list(self._marked)
            self._marked = set()
            self._slabs = [everything[at : at + SLAB] for at in range(0, len(everything), SLAB)]
            self._slabs.reverse()
        return self._slabs.pop() if self._slabs else []

    def _sort(self, slab: list[Prefix]) -> list[Bucket]:
        """Prefixes that must be sent, by the attributes that they get; None: to be withdrawn."""
        routes, sent = self._table.routes, self.sent
        gone: list[Prefix] = []
        buckets: dict[int, Bucket] = {}
        shared: dict[Path, Bucket] = {}
        uses_prefix = self.exporter.uses_prefix
        for prefix in slab:
            path = routes.get(prefix)
            if path.__class__ is tuple:
                path = path[0]
            if path is None:
                bucket: Bucket | None = (None, gone)
            else:
                bucket = None if uses_prefix else shared.get(path)  # type: ignore[arg-type]
            if bucket is None:
                bucket = shared[path] = self._bucket(prefix, path, buckets, gone)  # type: ignore
            if sent.get(prefix) is not bucket[0]:
                bucket[1].append(prefix)
        return [(None, gone), *buckets.values()]

    def _bucket(
        self, prefix: Prefix, path: Path, buckets: dict[int, Bucket], gone: list[Prefix]
    ) -> Bucket:
        one = self.exporter.decide(prefix, path).attributes
        if one is None:
            return None, gone
        return buckets.setdefault(id(one), (one, []))

    def _sort_paths(self, slab: list[Prefix]) -> list[Bucket]:
        """The same with several paths for each prefix, told apart by identifiers (RFC 7911)."""
        gone: list[Prefix] = []
        buckets: dict[int, Bucket] = {}
        for prefix in slab:
            wanted = self._wanted(prefix)
            gone += [key for key in self._keys.pop(prefix, ()) if key not in wanted]
            if wanted:
                self._keys[prefix] = tuple(wanted)
            for key, one in wanted.items():
                if self.sent.get(key) is not one:
                    buckets.setdefault(id(one), (one, []))[1].append(key)
        return [(None, gone), *buckets.values()]

    def _wanted(self, prefix: Prefix) -> dict[Prefix, Attributes]:
        found: dict[Prefix, Attributes] = {}
        for path in ranked(self._table.paths(prefix), self._paths + 1):
            one = self.exporter.decide(prefix, path).attributes
            if one is not None and len(found) < self._paths:
                found[self._path_ids(path) + prefix] = one
        return found

    def _messages(self, buckets: list[Bucket]) -> list[bytes]:
        family = self.exporter.family
        messages: list[bytes] = []
        for one, prefixes in buckets:
            if one is None:
                for prefix in prefixes:
                    self.sent.pop(prefix, None)
                if prefixes:
                    messages += encode_unreach(family, prefixes, limit=self._limit)
            elif prefixes:
                messages += self._reach(one, prefixes)
        return messages

    def _reach(self, one: Attributes, prefixes: list[Prefix]) -> list[bytes]:
        """Attributes that fit into no message are not sent, and what they replace is withdrawn."""
        family = self.exporter.family
        try:
            found = list(encode_reach(family, one, prefixes, limit=self._limit, wide=self._wide))
        except SpecError:
            self.too_large.update(prefixes)
            known = [prefix for prefix in prefixes if self.sent.pop(prefix, None) is not None]
            return list(encode_unreach(family, known, limit=self._limit)) if known else []
        self.sent.update(dict.fromkeys(prefixes, one))
        if self.too_large:
            self.too_large.difference_update(prefixes)
        return found
