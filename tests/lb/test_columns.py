# SPDX-License-Identifier: Apache-2.0
"""Services in columns: the maps hold what was applied, who stays keeps its number."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycilium import MapFullError, SpecError
from pycilium.lb import Sizes
from pycilium.lb.column_table import ColumnChanges, ColumnState, empty, plan
from pycilium.lb.columns import ServiceColumns

SIZES = Sizes(services=8, slots=64, backends=32)
Table = dict[int, list[int]]
tables = st.dictionaries(
    st.integers(1, 8), st.lists(st.integers(1, 9), max_size=3, unique=True), max_size=5
)


def columns(table: Table) -> ServiceColumns:
    backends = [0x0A010000 + b for several in table.values() for b in several]
    return ServiceColumns.ipv4(
        [0x0A600000 + vip for vip in table],
        [80] * len(table),
        [len(several) for several in table.values()],
        backends,
        [8080] * len(backends),
    )


class Maps:
    """Written in the order that the changes have."""

    def __init__(self) -> None:
        self.backends: dict[int, tuple[int, int, bytes]] = {}  # number, service, place
        self.slots: dict[int, int] = {}
        self.services: dict[bytes, tuple[int, int, int]] = {}  # id, first, count
        self.numbers: set[int] = set()

    def write(self, before: ColumnState, changes: ColumnChanges) -> None:
        after = changes.after
        fresh = {after.keys[row].tobytes() for row in changes.services}
        seen = {key: self.resolve(key) for key in self.services if key not in fresh}
        for row in changes.backends:
            number, index = int(after.number[row]), int(after.index[row])
            assert number not in self.numbers, "a number was used again"
            assert index not in self.backends, "a backend in use was overwritten"
            self.numbers.add(number)
            owner = int(after.ids[after.owners[row]])
            self.backends[index] = number, owner, after.where[row].tobytes()
        self.slots.update(zip(changes.slots.tolist(), changes.slot_values.tolist(), strict=True))
        for key, was in seen.items():
            assert self.resolve(key) == was, "a service in use changed under its packets"
        for row in changes.services:
            values = after.ids[row], after.first[row], after.counts[row]
            self.services[after.keys[row].tobytes()] = tuple(map(int, values))  # type: ignore[assignment]
        for row in changes.removed:
            del self.services[before.keys[row].tobytes()]
        for row in changes.gone:
            del self.backends[int(before.index[row])]

    def resolve(self, key: bytes) -> list[tuple[int, bytes]]:
        number, first, count = self.services[key]
        found = [self.backends[self.slots[first + i]] for i in range(count)]
        assert all(owner == number for _, owner, _ in found)
        return [(number, place) for number, _, place in found]


@settings(max_examples=200, deadline=None)
@given(st.lists(tables, max_size=8))
def test_the_maps_hold_what_was_applied(applies: list[Table]) -> None:
    maps, state = Maps(), empty(1, 1)
    numbers: dict[tuple[int, int], int] = {}
    for table in applies:
        changes = plan(state, columns(table), SIZES)
        maps.write(state, changes)
        state = changes.after
        assert len(maps.services) == len(table)
        held = {}
        for vip, several in table.items():
            key = bytes([10, 96, 0, vip, *bytes(12), 0, 80, 6, 4])
            found = maps.resolve(key)
            assert [place[3] for _, place in found] == several
            held.update({(vip, b): n for b, (n, _) in zip(several, found, strict=True)})
        assert all(numbers.get(pair, number) == number for pair, number in held.items())
        numbers = held
        assert len(maps.backends) == len(held)
        again = plan(state, columns(table), SIZES)
        writes = (again.backends, again.slots, again.services, again.removed, again.gone)
        assert not sum(map(len, writes))


@pytest.mark.parametrize(
    ("table", "name", "needed", "size"),
    [
        ({n: [] for n in range(1, 10)}, "pcl_services", 9, 8),
        ({1: list(range(1, 34))}, "pcl_backends", 33, 32),
    ],
)
def test_what_does_not_fit(table: Table, name: str, needed: int, size: int) -> None:
    with pytest.raises(MapFullError) as caught:
        plan(empty(1, 1), columns(table), SIZES)
    error = caught.value
    assert (error.map_name, error.needed, error.used, error.size) == (name, needed, 0, size)


def test_slots_that_are_free_are_used_again() -> None:
    state = empty(1, 1)
    sizes = attrs.evolve(SIZES, slots=5)
    for n in range(20):
        changes = plan(state, columns({1: [n % 7 + 1, 8]}), sizes)
        state = changes.after
    full = {vip: [1, 2] for vip in (1, 2, 3)}
    with pytest.raises(MapFullError, match="pcl_slots"):
        plan(state, columns(full), sizes)


def test_mistakes_name_column_and_row() -> None:
    good = columns({1: [1, 2], 2: [3]})
    zero = good.ports.copy()
    zero[1] = 0
    for field, change in (
        ("ports[1]", {"ports": zero}),
        ("ports", {"ports": good.ports.astype(float)}),
        ("addresses", {"addresses": good.addresses[:, :4]}),
        ("protocols[0]", {"protocols": np.array([132, 6])}),
        ("families[0]", {"families": np.array([5, 4])}),
        ("counts", {"counts": np.array([1, 1])}),
        ("counts[0]", {"counts": np.array([-1, 4])}),
        ("backend_ports[0]", {"backend_ports": np.array([70000, 1, 1])}),
    ):
        values: dict[str, Any] = change
        with pytest.raises(SpecError) as caught:
            attrs.evolve(good, **values)
        assert caught.value.field == field
    twice = columns({1: [1], 2: [2]})
    twice.addresses[1] = twice.addresses[0]
    with pytest.raises(SpecError, match="one service for each frontend"):
        plan(empty(1, 1), twice, SIZES)
    with pytest.raises(SpecError, match="once for a service"):
        plan(empty(1, 1), columns({1: [4, 4]}), SIZES)
