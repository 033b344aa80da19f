# SPDX-License-Identifier: Apache-2.0
"""The service maps in bulk: columns to packed entries and back, without an object for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from pycilium.datapath import render
from pycilium.datapath.wire import address_of
from pycilium.libbpf import struct_fields
from pycilium.model import Backend, Frontend, ServiceLB

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np

    from pycilium.datapath.core import Core
    from pycilium.lb.column_table import ColumnChanges, ColumnState
    from pycilium.libbpf import Map
    from pycilium.model import Change


@attrs.frozen(eq=False)
class Batch:
    """Packed keys of one map, with packed values; None: they are deleted."""

    map: str
    keys: np.ndarray
    values: np.ndarray | None


def batches(core: Core, before: ColumnState, changes: ColumnChanges) -> list[Batch]:
    """What carries out the changes, in order: a packet sees the old run or the new one."""
    after, rows = changes.after, changes.backends
    owners = after.owners[rows]
    states = core.spec.enums["pcl_backend_state"]
    backends = _records(core, "pcl_backends", "value", len(rows))
    backends["addr"], backends["port_be"] = after.where[rows, :16], _port(after.where[rows, 16:18])
    backends["state"], backends["family"] = states.PCL_BACKEND_ACTIVE, after.keys[owners, 19]
    backends["id"], backends["service"] = after.number[rows], after.ids[owners]
    backends["index"] = after.index[rows]
    services = _records(core, "pcl_services", "value", len(changes.services))
    services["id"], services["first"] = after.ids[changes.services], after.first[changes.services]
    services["count"] = after.counts[changes.services]
    gone = _records(core, "pcl_backends", "value", len(changes.gone))
    gone["id"] = before.number[changes.gone]
    found = [
        Batch("pcl_backends", _numbers(after.index[rows]), backends),
        Batch("pcl_slots", _numbers(changes.slots), _numbers(changes.slot_values)),
        Batch("pcl_services", _service_keys(core, before.keys[changes.removed]), None),
        Batch("pcl_services", _service_keys(core, after.keys[changes.services]), services),
        Batch("pcl_backends", _numbers(before.index[changes.gone]), gone),
    ]
    return [one for one in found if len(one.keys)]


def carry_out(core: Core, batch: Batch) -> None:
    """Write or delete one batch."""
    table, keys = core.maps[batch.map], _bytes(batch.keys)
    if batch.values is None:
        table.batch_delete(keys, len(batch.keys))
    else:
        table.batch_update(keys, _bytes(batch.values), len(batch.keys))


def entries(core: Core, several: Iterable[Batch]) -> Iterator[Change]:
    """The batches as text."""
    for batch in several:
        spec, keys = core.spec.maps[batch.map], [row.tobytes() for row in batch.keys]
        values = batch.values if batch.values is not None else batch.keys
        pairs = dict(zip(keys, (row.tobytes() for row in values), strict=True))
        before, after = ({}, pairs) if batch.values is not None else (dict.fromkeys(keys, b""), {})
        yield from render.changes(spec, batch.map, before, after)


def read(core: Core) -> ColumnState:
    """What stands in the kernel."""
    import numpy as np

    from pycilium.lb.column_table import ColumnState

    keys, services = _pairs(core, "pcl_services")
    _, backends = _pairs(core, "pcl_backends")
    _, slots = _pairs(core, "pcl_slots")
    last = int(backends["id"].max(initial=0))
    order = np.argsort(services["id"], kind="stable")
    keys, services = keys[order], services[order]
    ids = services["id"].astype(np.int64)
    runs, first = services["count"].astype(np.int64), services["first"].astype(np.int64)
    place = _slot_places(first, runs, slots, len(backends))
    backends, place = _of_services(backends, place, ids)
    owner = np.searchsorted(ids, backends["service"])
    backends = backends[np.lexsort((place[backends["index"]], owner))]
    counts = np.bincount(owner, minlength=len(ids)).astype(np.int64)
    states = core.spec.enums["pcl_backend_state"]
    active = backends["state"] == int(states.PCL_BACKEND_ACTIVE)
    busy = np.bincount(np.sort(owner)[~active], minlength=len(ids)) > 0
    bare = (services["affinity"] == 0) & (services["sources"] == 0) & (services["flags"] == 0)
    plain = bare & (runs == counts) & ~busy
    return ColumnState(
        _key_rows(keys), ids, first, counts, runs, plain,
        _where(backends), backends["index"].astype(np.int64), backends["id"].astype(np.int64),
        active, 1 + int(ids.max(initial=0)), 1 + last,
    )  # fmt: skip


def services_of(state: ColumnState) -> Iterator[ServiceLB]:
    """As objects, one after the other."""
    at = 0
    for row, count in enumerate(state.counts.tolist()):
        yield _service(state, row, at, count)
        at += count


def find(state: ColumnState, number: int) -> ServiceLB | None:
    """By its number."""
    import numpy as np

    rows = np.flatnonzero(state.ids == number)
    if not len(rows):
        return None
    row = int(rows[0])
    return _service(state, row, int(state.counts[:row].sum()), int(state.counts[row]))


def losing(before: ColumnState, changes: ColumnChanges) -> tuple[list[ServiceLB], list[ServiceLB]]:
    """The services that lose backends, as they were, and as they are where they still are."""
    import numpy as np

    rows = np.unique(before.owners[changes.gone])
    old = _services(before, rows)
    keys = {key.tobytes() for key in before.keys[rows]}
    left = [row for row, key in enumerate(changes.after.keys) if key.tobytes() in keys]
    return old, _services(changes.after, left)


def _services(state: ColumnState, rows: Iterable[int]) -> list[ServiceLB]:
    import numpy as np

    starts = np.cumsum(state.counts) - state.counts
    return [_service(state, int(r), int(starts[r]), int(state.counts[r])) for r in rows]


def _service(state: ColumnState, row: int, at: int, count: int) -> ServiceLB:
    key = state.keys[row].tobytes()
    family = key[19]
    frontend = Frontend(address_of(key, family), int.from_bytes(key[16:18], "big"), key[18])
    places = (state.where[at + i].tobytes() for i in range(count))
    backends = [Backend(address_of(p, family), int.from_bytes(p[16:18], "big")) for p in places]
    return ServiceLB(frontend, backends=backends)


def _slot_places(first: Any, runs: Any, slots: Any, size: int) -> Any:
    """For each index of a backend the first slot that leads to it."""
    import numpy as np

    total = int(runs.sum())
    starts = np.repeat(np.concatenate(([0], np.cumsum(runs)))[:-1], runs)
    taken = np.repeat(first, runs) + np.arange(total) - starts
    place = np.full(size, len(slots), dtype=np.int64)
    place[slots[taken[::-1]]] = taken[::-1]
    return place


def _of_services(backends: Any, place: Any, ids: Any) -> tuple[Any, Any]:
    """Rows of backends that belong to a service that there is."""
    import numpy as np

    rows = np.flatnonzero((backends["state"] != 0) & np.isin(backends["service"], ids))
    return backends[rows], place


def _pairs(core: Core, name: str) -> tuple[Any, Any]:
    """All entries of a map as records; of an array in the order of its indexes."""
    import numpy as np

    table: Map = core.maps[name]
    keys, values, _ = table.batch_lookup()
    spec = core.spec.maps[name]
    if name == "pcl_slots":
        return keys, np.frombuffer(values, "<u4")
    key = None if name == "pcl_backends" else np.frombuffer(keys, _dtype(spec.key))
    return key, np.frombuffer(values, _dtype(spec.value))


def _dtype(codec: Any) -> Any:
    """The layout of a struct as BTF has it; unions as bytes."""
    import numpy as np

    fields = struct_fields(codec)
    return np.dtype(
        {
            "names": [name for name, _, _, _ in fields],
            "formats": [f"<u{size}" if whole else ("u1", size) for _, _, size, whole in fields],
            "offsets": [offset for _, offset, _, _ in fields],
            "itemsize": codec.size,
        }
    )


def _records(core: Core, name: str, part: str, count: int) -> Any:
    import numpy as np

    return np.zeros(count, _dtype(getattr(core.spec.maps[name], part)))


def _service_keys(core: Core, rows: Any) -> Any:
    found = _records(core, "pcl_services", "key", len(rows))
    found["addr"], found["port_be"] = rows[:, :16], _port(rows[:, 16:18])
    found["protocol"], found["family"] = rows[:, 18], rows[:, 19]
    return found


def _key_rows(keys: Any) -> Any:
    import numpy as np

    rest = np.stack([keys["protocol"], keys["family"]], axis=1)
    return np.concatenate([_where(keys), rest], axis=1)


def _where(records: Any) -> Any:
    """Address and port of records as rows of bytes."""
    import numpy as np

    ports = np.ascontiguousarray(records["port_be"]).view(np.uint8).reshape(-1, 2)
    return np.concatenate([records["addr"], ports], axis=1)


def _port(rows: Any) -> Any:
    """Two bytes as they lie in memory."""
    import numpy as np

    return np.ascontiguousarray(rows).view("<u2").reshape(-1)


def _numbers(values: Any) -> Any:
    return values.astype("<u4")


def _bytes(array: Any) -> Any:
    """The array's own memory."""
    import numpy as np

    return np.ascontiguousarray(array).view(np.uint8).reshape(-1).data
