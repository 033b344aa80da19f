# SPDX-License-Identifier: Apache-2.0
"""The service table in columns: what differs between two states of many services, in bulk.

The same rules as the table of objects: who stays keeps index and number, a changed service gets a
fresh run of slots, and numbers of backends are never used again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from pycilium.errors import MapFullError, SpecError
from pycilium.lb.rows import Sizes

if TYPE_CHECKING:
    import numpy as np

    from pycilium.lb.columns import ServiceColumns


@attrs.frozen(eq=False)
class ColumnState:
    """Services in the maps. keys: (N, 20) bytes of address, port, protocol and family.

    ids, first, counts: (N,); slots: how many of those its run has; plain: whether the service is
    as columns have them, without affinity and the like. Backends in the order of their services:
    where: (M, 18) bytes of address and port; index, number, active: (M,).
    """

    keys: np.ndarray
    ids: np.ndarray
    first: np.ndarray
    counts: np.ndarray
    slots: np.ndarray
    plain: np.ndarray
    where: np.ndarray
    index: np.ndarray
    number: np.ndarray
    active: np.ndarray
    next_service: int = 1
    next_number: int = 1

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def owners(self) -> np.ndarray:
        """The row of the service of each backend."""
        import numpy as np

        return np.repeat(np.arange(len(self)), self.counts)


@attrs.frozen(eq=False)
class ColumnChanges:
    """The state after it, and which of its rows to write; then what of the old one to delete.

    backends: rows of `after`; slots and their values; services: rows of `after`; removed: rows of
    the old services; gone: rows of the old backends.
    """

    after: ColumnState
    backends: np.ndarray
    slots: np.ndarray
    slot_values: np.ndarray
    services: np.ndarray
    removed: np.ndarray
    gone: np.ndarray
    added: int
    changed: int


def plan(before: ColumnState, wanted: ServiceColumns, sizes: Sizes) -> ColumnChanges:
    """What leads to exactly these services. Raises SpecError and MapFullError."""
    import numpy as np

    keys, where = keys_of(wanted), places_of(wanted.backend_addresses, wanted.backend_ports)
    counts = wanted.counts.astype(np.int64)
    _require_once("frontend", keys, "one service for each frontend")
    standing = _find(before.keys, keys)
    kept = standing >= 0
    removed = np.setdiff1d(np.arange(len(before)), standing[kept])
    _require_room("pcl_services", int((~kept).sum()), len(before), len(keys), sizes.services)
    ids = np.zeros(len(keys), dtype=np.int64)
    ids[kept] = before.ids[standing[kept]]
    ids[~kept] = before.next_service + np.arange(int((~kept).sum()))

    owners = np.repeat(np.arange(len(keys)), counts)
    old_owned = _owned(before.ids[before.owners], before.where)
    new_owned = _owned(ids[owners], where)
    _require_once("backend", new_owned, "each address and port once for a service")
    held = _find(old_owned, new_owned)
    stays = held >= 0
    index, number = np.zeros(len(where), np.int64), np.zeros(len(where), np.int64)
    index[stays], number[stays] = before.index[held[stays]], before.number[held[stays]]
    fresh = int((~stays).sum())
    index[~stays] = _free(before.index, fresh, sizes.backends, "pcl_backends")
    number[~stays] = before.next_number + np.arange(fresh)

    written = ~stays
    written[stays] = ~before.active[held[stays]]
    moved = _moved(before, standing, counts, index)
    need = int(counts[moved].sum())
    first = np.zeros(len(keys), dtype=np.int64)
    first[~moved] = before.first[standing[~moved]]
    start = _gap(before, need, sizes.slots)
    first[moved] = start + np.concatenate(([0], np.cumsum(counts[moved])))[:-1]
    first[counts == 0] = 0
    after = ColumnState(
        keys, ids, first, counts, counts, np.ones(len(keys), bool),
        where, index, number, np.ones(len(where), bool),
        before.next_service + int((~kept).sum()), before.next_number + fresh,
    )  # fmt: skip
    return ColumnChanges(
        after=after,
        backends=np.flatnonzero(written),
        slots=start + np.arange(need),
        slot_values=index[np.repeat(moved, counts)],
        services=np.flatnonzero(moved),
        removed=removed,
        gone=np.setdiff1d(np.arange(len(before.index)), held[stays]),
        added=int((~kept).sum()),
        changed=int((moved & kept).sum()),
    )


def keys_of(columns: ServiceColumns) -> np.ndarray:
    """Frontends as rows of bytes."""
    import numpy as np

    places = places_of(columns.addresses, columns.ports)
    rest = np.stack([columns.protocols, columns.families], axis=1).astype(np.uint8)
    return np.concatenate([places, rest], axis=1)


def places_of(addresses: np.ndarray, ports: np.ndarray) -> np.ndarray:
    """Address and port, as the maps have them, as rows of bytes."""
    import numpy as np

    packed = ports.astype(">u2").view(np.uint8).reshape(-1, 2)
    return np.concatenate([addresses.astype(np.uint8, copy=False), packed], axis=1)


def _void(rows: np.ndarray) -> np.ndarray:
    """Rows of bytes as one value each, to sort and to compare."""
    import numpy as np

    rows = np.ascontiguousarray(rows)
    return rows.view(np.dtype((np.void, rows.shape[1]))).reshape(-1)


def _owned(ids: np.ndarray, where: np.ndarray) -> np.ndarray:
    import numpy as np

    owner = ids.astype(">u4").view(np.uint8).reshape(-1, 4)
    return np.concatenate([owner, where], axis=1)


def _mixed(rows: np.ndarray) -> np.ndarray:
    """A number for each row, the same for the same row: sorted ten times as fast as the bytes."""
    import numpy as np

    words = np.zeros((len(rows), -(-rows.shape[1] // 8)), dtype=np.uint64)
    words.view(np.uint8)[:, : rows.shape[1]] = rows
    found = np.zeros(len(rows), dtype=np.uint64)
    for column in words.T:
        found = (found ^ column) * np.uint64(0x9E3779B97F4A7C15)
        found ^= found >> np.uint64(29)
    return found


def _find(rows: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """For each wanted row the number of the same one; -1 for none."""
    import numpy as np

    if not len(rows) or not len(wanted):
        return np.full(len(wanted), -1)
    have, want = _mixed(rows), _mixed(wanted)
    order = np.argsort(have)
    if (np.diff(have[order]) == 0).any():  # two rows with one number: as rare as it is harmless
        have, want = _void(rows), _void(wanted)
        order = np.argsort(have)
    at = np.minimum(np.searchsorted(have, want, sorter=order), len(have) - 1)
    same = (rows[order[at]] == wanted).all(axis=1)
    found: np.ndarray = np.where(same, order[at], -1)
    return found


def _require_once(field: str, rows: np.ndarray, allowed: str) -> None:
    import numpy as np

    if not (np.diff(np.sort(_mixed(rows))) == 0).any():
        return
    _, first = np.unique(_void(rows), return_index=True)
    if len(first) != len(rows):
        row = int(np.setdiff1d(np.arange(len(rows)), first)[0])
        raise SpecError(f"{field}s[{row}]", bytes(rows[row]).hex(), allowed)


def empty(next_service: int, next_number: int) -> ColumnState:
    """No services; the numbers that come next."""
    import numpy as np

    none, flags = np.zeros(0, np.int64), np.zeros(0, bool)
    keys, where = np.zeros((0, 20), np.uint8), np.zeros((0, 18), np.uint8)
    return ColumnState(
        keys, none, none, none, none, flags, where, none, none, flags, next_service, next_number
    )


def _require_room(name: str, needed: int, used: int, after: int, size: int) -> None:
    if after > size:
        raise MapFullError(name, needed=needed, used=used, size=size)


def _free(used: np.ndarray, count: int, size: int, name: str) -> Any:
    """Indexes that nothing has: those beyond the highest first."""
    import numpy as np

    end = int(used.max()) + 1 if len(used) else 0
    beyond = np.arange(end, min(size, end + count))
    if len(beyond) == count:
        return beyond
    between = np.setdiff1d(np.arange(end), used)[: count - len(beyond)]
    if len(beyond) + len(between) < count:
        raise MapFullError(name, needed=count, used=len(used), size=size)
    return np.concatenate([beyond, between])


def _moved(
    before: ColumnState, standing: np.ndarray, counts: np.ndarray, index: np.ndarray
) -> np.ndarray:
    """Services that are new, or whose run of slots is another."""
    import numpy as np

    kept = standing >= 0
    moved = ~kept
    moved[kept] = before.counts[standing[kept]] != counts[kept]
    moved[kept] |= ~before.plain[standing[kept]]
    starts = np.concatenate(([0], np.cumsum(before.counts)))[:-1]
    own = np.concatenate(([0], np.cumsum(counts)))[:-1]
    alike = ~moved
    row = np.repeat(np.flatnonzero(alike), counts[alike])
    within = np.arange(len(row)) - np.repeat(
        np.concatenate(([0], np.cumsum(counts[alike])))[:-1], counts[alike]
    )
    other = before.index[starts[standing[row]] + within] != index[own[row] + within]
    moved[row[other]] = True
    return moved


def _gap(before: ColumnState, need: int, size: int) -> int:
    """Where a run of free slots begins that holds all: beyond the last, or between."""
    import numpy as np

    order = np.argsort(before.first)
    order = order[before.slots[order] > 0]
    begins, ends = before.first[order], (before.first + before.slots)[order]
    last = int(ends[-1]) if len(ends) else 0
    if last + need <= size:
        return last
    holes = begins - np.concatenate(([0], ends))[:-1]
    fits = np.flatnonzero(holes >= need)
    if not len(fits):
        used = int(before.slots.sum())
        raise MapFullError("pcl_slots", needed=need, used=used, size=size)
    return int(begins[fits[0]] - holes[fits[0]])
