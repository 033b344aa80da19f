# SPDX-License-Identifier: Apache-2.0
"""From one set of VIPs to another, without a kernel: what is used, given back and never shared."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycilium import MapFullError, ServiceLB, SpecError
from pycilium.datapath import xdp_plan
from pycilium.datapath.xdp_settings import VipSettings
from pycilium.model import Backend, Frontend

sizes = st.sampled_from((7, 13))
desired = st.dictionaries(
    st.integers(1, 6),
    st.tuples(st.sets(st.integers(1, 5)), sizes, st.booleans(), st.sampled_from(("ipip", "l2"))),
)


def wanted(number: int, backends: object) -> ServiceLB:
    frontend = Frontend(ip_address(f"192.0.2.{number}"), 80)
    listed = [Backend(ip_address(f"10.0.0.{one}"), 80) for one in backends]  # type: ignore[attr-defined]
    return ServiceLB(frontend, backends=listed)


def fresh(rings: int = 200, rows: int = 80) -> xdp_plan.State:
    return xdp_plan.State(xdp_plan.Runs("pcl_xdp_rings", rings), xdp_plan.Runs("rows", rows))


def apply(state: xdp_plan.State, content: dict) -> tuple[xdp_plan.State, xdp_plan.Changes]:
    services = [wanted(number, one[0]) for number, one in content.items()]
    settings = {
        service.frontend: VipSettings(ring=ring, remember=remember, forward=forward)
        for service, (_, ring, remember, forward) in zip(services, content.values(), strict=True)
    }
    return xdp_plan.plan(state, services, settings)


def check(state: xdp_plan.State) -> None:
    """Rings and rows belong to one VIP each, and what is counted as used is what is used."""
    slots = [
        slot
        for vip in state.vips.values()
        for slot in range(vip.first, vip.first + vip.settings.ring)
    ]
    rows = [member.index for vip in state.vips.values() for member in vip.members.values()]
    assert len(set(slots)) == len(slots) == state.rings.used
    assert len(set(rows)) == len(rows) == state.rows.used


@given(st.lists(desired, max_size=12))
def test_any_walk_shares_nothing(steps: list) -> None:
    state = fresh()
    pairs: dict[tuple[int, int], object] = {}
    for content in steps:
        before = state
        state, changes = apply(before, content)
        check(state)
        for vip, member in changes.rows:
            pair = (member.index, member.generation)
            assert pairs.setdefault(pair, (vip.number, member.backend)) == (
                vip.number,
                member.backend,
            ), "a flow's number never comes to mean another backend"
        left = {m.index for vip in before.vips.values() for m in vip.members.values()}
        assert not left & {m.index for _, m in changes.rows}, "used again in the same step"
        assert changes.added + changes.changed <= len(content)
        again, nothing = apply(state, content)
        assert nothing == xdp_plan.Changes()
        assert again.vips == state.vips


def test_a_backend_that_stays_keeps_its_row() -> None:
    settings = {wanted(1, ()).frontend: VipSettings(ring=7)}
    state, _ = xdp_plan.plan(fresh(), [wanted(1, (1, 2))], settings)
    (before,) = state.vips.values()
    state, changes = xdp_plan.plan(state, [wanted(1, (2, 3))], settings)
    (after,) = state.vips.values()
    assert after.members["10.0.0.2:80"] == before.members["10.0.0.2:80"]
    assert [str(member.backend) for _, member in changes.rows] == ["10.0.0.3:80"]
    assert [str(member.backend) for _, member in changes.gone] == ["10.0.0.1:80"]
    assert changes.vips == []


def test_what_does_not_fit_changes_nothing() -> None:
    state, _ = xdp_plan.plan(
        fresh(14), [wanted(1, (1,))], {wanted(1, ()).frontend: VipSettings(ring=7)}
    )
    before = state.copy()
    services = [wanted(1, (1,)), wanted(2, (1,)), wanted(3, (1,))]
    with pytest.raises(MapFullError, match="needs 7 more entries, 14 of 14") as refused:
        xdp_plan.plan(state, services, {one.frontend: VipSettings(ring=7) for one in services})
    assert (refused.value.needed, refused.value.used, refused.value.size) == (7, 14, 14)
    assert (state.vips, state.rings.used) == (before.vips, 7)


def test_runs_that_are_free_side_by_side_become_one() -> None:
    runs = xdp_plan.Runs("x", 30)
    first = [runs.take(10) for _ in range(3)]
    for one in first:
        runs.give_back(one, 10)
    assert runs.take(30) == 0
    assert runs.used == 30


def test_one_service_for_each_frontend() -> None:
    with pytest.raises(SpecError, match="one service for each frontend"):
        xdp_plan.plan(fresh(), [wanted(1, ()), wanted(1, ())], {})


def test_ports_are_not_rewritten() -> None:
    other = ServiceLB("192.0.2.1:80/tcp", backends=["10.0.0.1:8080"])
    with pytest.raises(SpecError, match=r"10.0.0.1:8080.* port 80, the frontend's"):
        xdp_plan.plan(fresh(), [other], {})


def stated(*backends: Backend) -> ServiceLB:
    return ServiceLB(Frontend(ip_address("192.0.2.1"), 80), backends=backends)


def one(number: int, **fields: object) -> Backend:
    return Backend(ip_address(f"10.0.0.{number}"), 80, **fields)  # type: ignore[arg-type]


def test_weights_and_states_are_the_services() -> None:
    settings = {wanted(1, ()).frontend: VipSettings(ring=7)}
    service = stated(one(1, weight=5), one(2, state="terminating"), one(3, state="maintenance"))
    state, _ = xdp_plan.plan(fresh(), [service], settings)
    (vip,) = state.vips.values()
    weights = {name: member.weight for name, member in vip.members.items()}
    assert weights == {"10.0.0.1:80": 5, "10.0.0.2:80": 0}
    state, changes = xdp_plan.plan(state, [stated(one(1, weight=2), one(2))], settings)
    (after,) = state.vips.values()
    assert [member.weight for member in after.members.values()] == [2, 1]
    assert [m.target for m in after.members.values()] == [m.target for m in vip.members.values()]
    assert (changes.rows, changes.gone, changes.changed) == ([], [], 1)
    _, changes = xdp_plan.plan(state, [stated(one(1, weight=2, state="maintenance"))], settings)
    assert len(changes.gone) == 2
    assert len(changes.vips) == 1


def test_a_weight_that_was_set_stays_until_the_services_changes() -> None:
    settings = {wanted(1, ()).frontend: VipSettings(ring=7)}
    state, _ = xdp_plan.plan(fresh(), [stated(one(1), one(2))], settings)
    (vip,) = state.vips.values()
    state, _ = xdp_plan.reweigh(state, vip, "10.0.0.1:80", 9)
    state, _ = xdp_plan.plan(state, [stated(one(1), one(2), one(3))], settings)
    assert [m.weight for v in state.vips.values() for m in v.members.values()] == [9, 1, 1]
    state, _ = xdp_plan.plan(state, [stated(one(1, weight=4), one(2))], settings)
    assert [m.weight for v in state.vips.values() for m in v.members.values()] == [4, 1]
