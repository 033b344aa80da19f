# SPDX-License-Identifier: Apache-2.0
"""The service table: whatever is applied, the maps would hold exactly that."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycilium import MapFullError, ServiceLB, SpecError
from pycilium.lb import Changes, ServiceTable
from pycilium.model import Frontend

services = st.dictionaries(
    st.integers(1, 6), st.lists(st.integers(1, 9), max_size=4, unique=True), max_size=6
).map(
    lambda table: [
        ServiceLB(f"10.96.0.{vip}:80", backends=[f"10.1.0.{b}:8080" for b in backends])
        for vip, backends in table.items()
    ]
)


class Maps:
    """The three maps, written in the order that the table gives."""

    def __init__(self) -> None:
        self.backends: dict[int, object] = {}
        self.slots: dict[int, int] = {}
        self.services: dict[Frontend, object] = {}

    def write(self, changes: Changes) -> None:
        for row in changes.backends:
            self.backends[row.index] = row.backend
        before = {f: self.resolve(f) for f in self.services if f not in changes.services}
        self.slots.update(dict(changes.slots))
        for frontend, seen in before.items():
            assert self.resolve(frontend) == seen, "a service in use changed under its packets"
        self.services.update(changes.services)
        for frontend in changes.removed:
            del self.services[frontend]

    def resolve(self, frontend: Frontend) -> list[object]:
        row = self.services[frontend]
        return [self.backends[self.slots[row.first + i]] for i in range(row.count)]  # type: ignore[attr-defined]


@settings(max_examples=200, deadline=None)
@given(st.lists(services, max_size=8))
def test_the_maps_hold_what_was_applied(applies: list[list[ServiceLB]]) -> None:
    table, maps = ServiceTable((16, 64, 32)), Maps()
    for desired in applies:
        planned = table.plan(desired)
        changes = table.commit(desired)
        assert planned == changes
        maps.write(changes)
        assert set(maps.services) == {s.frontend for s in desired}
        for service in desired:
            assert maps.resolve(service.frontend) == list(service.backends)
        assert table.commit(desired).writes == 0


def test_what_does_not_fit_changes_nothing() -> None:
    table = ServiceTable((1, 8, 8))
    one = ServiceLB("10.96.0.1:80", backends=["10.1.0.1:80"])
    table.commit([one])
    with pytest.raises(MapFullError) as caught:
        table.commit([one, ServiceLB("10.96.0.2:80", backends=[])])
    assert (caught.value.map_name, caught.value.used, caught.value.size) == ("pcl_services", 1, 1)
    assert table.services == (one,)
    with pytest.raises(MapFullError):
        table.commit([ServiceLB("10.96.0.1:80", backends=[f"10.1.0.{i}:80" for i in range(1, 20)])])
    assert table.services == (one,)


@pytest.mark.parametrize(
    "frontend",
    ["10.96.0.1", "10.96.0.1:0", "10.96.0.1:99999", "x:80", "fd00::1:80", "10.0.0.1:80/x"],
)
def test_bad_frontends(frontend: str) -> None:
    with pytest.raises(SpecError):
        ServiceLB(frontend, backends=[])


def test_one_family_and_one_claim() -> None:
    with pytest.raises(SpecError, match="IPv4"):
        ServiceLB("10.96.0.1:80", backends=["[fd00::1]:80"])
    one = ServiceLB("10.96.0.1:80", backends=[])
    with pytest.raises(SpecError, match="one service"):
        ServiceTable((4, 4, 4)).plan([one, one])
