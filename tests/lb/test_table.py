# SPDX-License-Identifier: Apache-2.0
"""The service table: whatever is applied, the maps would hold exactly that."""

from __future__ import annotations

from ipaddress import ip_address

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycilium import MapFullError, ServiceLB, SpecError
from pycilium.lb import (
    BackendRow,
    Changes,
    Place,
    ServiceRow,
    ServiceTable,
    Sizes,
    Standing,
    candidates,
)
from pycilium.lb.choice import MAX_RUN, shares
from pycilium.model import Backend, BackendState, Frontend, SessionAffinity, TrafficPolicy
from pycilium.model.service import Network

SIZES = Sizes(services=16, slots=96, backends=64)
VIP = "10.96.0.1:80"

backends = st.dictionaries(
    st.integers(1, 9),
    st.tuples(st.sampled_from(BackendState), st.integers(0, 3), st.sampled_from(["", "n1", "n2"])),
    max_size=4,
).map(
    lambda table: [
        Backend(ip_address(f"10.1.0.{n}"), 8080, state=state, weight=weight, node=node)
        for n, (state, weight, node) in table.items()
    ]
)
options = st.fixed_dictionaries(
    {
        "backends": backends,
        "internal_traffic_policy": st.sampled_from(TrafficPolicy),
        "session_affinity": st.sampled_from(SessionAffinity),
        "source_ranges": st.lists(st.sampled_from(["10.0.0.0/8", "10.1.0.0/16"]), max_size=2),
    }
)
services = st.dictionaries(st.integers(1, 6), options, max_size=6).map(
    lambda table: [ServiceLB(f"10.96.0.{vip}:80", **one) for vip, one in table.items()]
)
PLACE = Place("n1")


class Maps:
    """The service maps, written in the order that the table gives."""

    def __init__(self) -> None:
        self.backends: dict[int, BackendRow] = {}
        self.slots: dict[int, int] = {}
        self.services: dict[Frontend, ServiceRow] = {}
        self.sources: set[tuple[int, Network]] = set()
        self.seen: set[int] = set()

    def write(self, changes: Changes) -> None:
        before = {f: self.resolve(f) for f in self.services if f not in changes.services}
        for row in changes.backends:
            old = self.backends.get(row.index)
            if old is None or old.id != row.id:
                assert row.id not in self.seen, "a number was used again"
                assert old is None or old.gone, "a backend in use was overwritten"
            self.seen.add(row.id)
            self.backends[row.index] = row
        self.sources |= set(changes.sources)
        self.slots.update(dict(changes.slots))
        for frontend, seen in before.items():
            assert self.resolve(frontend) == seen, "a service in use changed under its packets"
        self.services.update(changes.services)
        for frontend in changes.removed:
            del self.services[frontend]
        self.backends.update({row.index: row for row in changes.retired})
        self.sources -= set(changes.unused)

    def resolve(self, frontend: Frontend) -> list[tuple[int, Backend]]:
        """Number and backend of each slot, with what a map holds of it."""
        row = self.services[frontend]
        found = [self.backends[self.slots[row.first + i]] for i in range(row.count)]
        assert all(one.service == row.id for one in found), "another service's backend"
        return [(one.id, held(one.backend)) for one in found]

    def standing(self) -> dict[Frontend, Standing]:
        """As adopt() reads it."""
        rows = sorted(self.backends.values(), key=lambda row: row.index)
        return {
            frontend: Standing(
                row,
                tuple(one for one in rows if one.service == row.id and not one.gone),
                tuple(self.slots[row.first + i] for i in range(row.count)),
                tuple(network for number, network in self.sources if number == row.sources),
            )
            for frontend, row in self.services.items()
        }


def held(backend: Backend) -> Backend:
    return Backend(backend.address, backend.port, state=backend.state)


def check(maps: Maps, desired: list[ServiceLB]) -> None:
    """Only active backends are chosen, in proportion; every backend there is has a row."""
    assert set(maps.services) == {s.frontend for s in desired}
    for service in desired:
        chosen = [one for _, one in maps.resolve(service.frontend)]
        wanted = candidates(service, PLACE)
        assert list(dict.fromkeys(chosen)) == [held(one) for one in wanted]
        assert all(one.state is BackendState.ACTIVE and one.weight for one in wanted)
        share = {one: chosen.count(held(one)) for one in wanted}
        for one in wanted:
            assert share[one] * wanted[0].weight == share[wanted[0]] * one.weight
        row = maps.services[service.frontend]
        named = {network for number, network in maps.sources if number == row.sources}
        assert named == set(service.source_ranges)
    rows = {r.index: r for r in maps.backends.values() if not r.gone}.values()
    assert sorted(str(r.backend) for r in rows) == sorted(
        str(b) for s in desired for b in s.backends
    )


@settings(max_examples=200, deadline=None)
@given(st.lists(services, max_size=8))
def test_the_maps_hold_what_was_applied(applies: list[list[ServiceLB]]) -> None:
    table, maps = ServiceTable(SIZES, PLACE), Maps()
    for desired in applies:
        planned = table.plan(desired)
        changes = table.commit(desired)
        assert planned == changes
        maps.write(changes)
        check(maps, desired)
        assert table.commit(desired).writes == 0


@settings(max_examples=100, deadline=None)
@given(st.lists(services, min_size=1, max_size=3), services)
def test_what_stands_is_adopted_without_a_write(
    applies: list[list[ServiceLB]], following: list[ServiceLB]
) -> None:
    table, maps = ServiceTable(SIZES, PLACE), Maps()
    for desired in applies:
        maps.write(table.commit(desired))
    last = max((row.id for row in maps.backends.values()), default=0)
    again = ServiceTable.restore(SIZES, maps.standing(), last_backend=last, place=PLACE)
    assert again.commit(applies[-1]).writes == 0
    maps.write(again.commit(following))
    check(maps, following)


def test_an_index_is_used_again_and_a_number_never() -> None:
    table, maps = ServiceTable(attrs.evolve(SIZES, backends=3)), Maps()
    for n in range(20):
        maps.write(table.commit([ServiceLB(VIP, backends=[f"10.1.0.{n % 5 + 1}:80"])]))
    assert len(maps.backends) == 3
    assert len(maps.seen) == 20


def test_who_stays_keeps_its_number() -> None:
    table, maps = ServiceTable(SIZES), Maps()
    maps.write(table.commit([ServiceLB(VIP, backends=["10.1.0.1:80", "10.1.0.2:80"])]))
    before = dict(maps.backends)
    changes = table.commit([ServiceLB(VIP, backends=["10.1.0.2:80", "10.1.0.3:80"])])
    assert [row.index for row in changes.retired] == [0]
    assert changes.retired[0].gone
    maps.write(changes)
    assert maps.backends[1] == before[1]
    assert {row.id for row in maps.backends.values()} == {1, 2, 3}


@pytest.mark.parametrize(
    "state", [one for one in BackendState if one is not BackendState.ACTIVE], ids=str
)
def test_a_state_changes_where_the_backend_stands(state: BackendState) -> None:
    table = ServiceTable(SIZES)
    kept, leaves = Backend.parse("10.1.0.1:80"), Backend.parse("10.1.0.2:80")
    table.commit([ServiceLB(VIP, backends=[kept, leaves])])
    changed = attrs.evolve(leaves, state=state)
    changes = table.commit([ServiceLB(VIP, backends=[kept, changed])])
    assert not changes.backends
    assert [(row.index, row.backend.state, row.gone) for row in changes.retired] == [
        (1, state, False)
    ]
    assert [row.count for row in changes.services.values()] == [1]
    back = table.commit([ServiceLB(VIP, backends=[kept, leaves])])
    assert [row.index for row in back.backends] == [1]
    assert not back.retired


def test_hints_count_where_they_are_complete() -> None:
    def chosen(place: Place, *zones: tuple[str, ...]) -> list[str]:
        several = [
            Backend(ip_address(f"10.1.0.{n}"), 80, for_zones=hints) for n, hints in enumerate(zones)
        ]
        return [str(one)[7] for one in candidates(ServiceLB(VIP, backends=several), place)]

    assert chosen(Place("", "a"), ("a",), ("b",), ("a", "b")) == ["0", "2"]
    assert chosen(Place("", "c"), ("a",), ("b",)) == ["0", "1"]
    assert chosen(Place("", "a"), ("a",), ()) == ["0", "1"]
    assert chosen(Place(), ("a",), ("b",)) == ["0", "1"]


@given(st.lists(st.integers(1, 65535), min_size=1, max_size=20))
def test_large_weights_are_rounded_and_nobody_is_left_out(weights: list[int]) -> None:
    found = shares([Backend(ip_address("10.1.0.1"), 80, weight=weight) for weight in weights])
    assert min(found) >= 1
    assert sum(found) <= MAX_RUN + len(weights)
    total = sum(weights)
    for weight, slots in zip(weights, found, strict=True):
        assert abs(slots / sum(found) - weight / total) < 0.02


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
