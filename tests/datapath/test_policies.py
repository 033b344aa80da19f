# SPDX-License-Identifier: Apache-2.0
"""Policies: apply writes what plan said and nothing twice; revocation and capacity."""

from __future__ import annotations

import pytest

from pycilium import Datapath, MapFullError, Policy, SpecError
from pycilium.datapath.render import changes
from pycilium.model import Labels
from pycilium.net import NetNS

from .conftest import State, state
from .traffic import listening, open_connection, reaches

pytestmark = pytest.mark.root

WEB_TO_DB = {"from_": "app=web", "to": "app=db", "ports": "5432/tcp"}


def written(dp: Datapath, before: State, after: State) -> set[object]:
    """The changes between two states, in the words of a Delta."""
    spec, found = dp._core.spec.maps, set()
    for name, entries in after.entries.items():
        found.update(changes(spec[name], name, before.entries[name], entries))
    for slot, pairs in after.sets.items():
        old = before.sets.get(slot, {})
        found.update(changes(spec["pcl_policies"].inner, f"pcl_policies[{slot}]", old, pairs))
    return found


def two(dp: Datapath) -> tuple[object, object]:
    web = dp.endpoints.create("10.1.0.10", labels={"app": "web"})
    return web, dp.endpoints.create("10.1.0.20", labels={"app": "db"})


@pytest.mark.parametrize(
    "policies",
    [
        [Policy.allow(**WEB_TO_DB)],
        [Policy.allow(**WEB_TO_DB), Policy.deny(from_="app=web", to="app=db", ports="22/tcp")],
        [
            Policy.allow(from_="app=web", to="192.0.2.0/24"),
            Policy.deny(from_="app=web", to="192.0.2.128/25"),
        ],
        [Policy.allow(from_="entity:world", to="app=db", ports="1000-2000/udp")],
        [],
    ],
)
def test_plan_is_exactly_what_apply_writes(dp: Datapath, policies: list[Policy]) -> None:
    two(dp)
    dp.policies.apply(Policy.allow(from_="app=db", to="10.9.0.0/16"))
    start = state(dp)
    plan = dp.policies.plan(policies)
    assert state(dp) == start
    delta = dp.policies.apply(policies)
    assert delta == plan
    assert delta.entries == plan.entries
    assert set(delta.entries) == written(dp, start, state(dp))


def test_second_apply_writes_nothing(dp: Datapath) -> None:
    two(dp)
    policies = [Policy.allow(**WEB_TO_DB), Policy.allow(from_="app=web", to="192.0.2.0/24")]
    assert dp.policies.apply(policies).added == 2
    before = state(dp)
    delta = dp.policies.apply(policies)
    assert not delta
    assert delta.entries == ()
    assert state(dp) == before


def test_untouched_sets_stay_the_same_maps(dp: Datapath) -> None:
    web, db = two(dp)
    before = state(dp)
    dp.policies.apply(Policy.allow(**WEB_TO_DB))
    after = state(dp)
    assert after.set_ids[web.slot] == before.set_ids[web.slot]
    assert after.epochs[web.slot] == before.epochs[web.slot]
    assert after.set_ids[db.slot] != before.set_ids[db.slot]
    assert after.epochs[db.slot] == before.epochs[db.slot] + 1


def test_endpoints_with_the_same_labels_share_a_set(dp: Datapath) -> None:
    first = dp.endpoints.create("10.1.0.10", labels={"app": "web"})
    second = dp.endpoints.create("10.1.0.11", labels={"app": "web"})
    assert (first.identity, first.slot) == (second.identity, second.slot)
    first.remove()
    assert second.slot in state(dp).sets
    second.remove()
    assert state(dp).sets == {}


def test_revocation_silences_an_open_connection(dp: Datapath) -> None:
    web, db = two(dp)
    dp.policies.apply(Policy.allow(**WEB_TO_DB))
    with listening(db, 5432) as server:
        client = web.run(open_connection, "10.1.0.20", 5432)
        accepted, _ = server.accept()
        client.sendall(b"before")
        assert accepted.recv(16) == b"before"
        dp.policies.apply([Policy.deny(from_="app=web", to="app=db")])
        accepted.settimeout(0.3)
        client.sendall(b"after")
        with pytest.raises(TimeoutError):
            accepted.recv(16)
        dp.policies.apply(Policy.allow(**WEB_TO_DB))
        accepted.settimeout(5)
        assert accepted.recv(16) == b"after"
        client.close()
        accepted.close()


def test_new_endpoint_is_known_to_sets_that_stand(dp: Datapath) -> None:
    db = dp.endpoints.create("10.1.0.20", labels={"app": "db"})
    dp.policies.apply(Policy.allow(**WEB_TO_DB))
    web = dp.endpoints.create("10.1.0.10", labels={"app": "web"})
    with listening(db, 5432):
        assert reaches(web, "10.1.0.20", 5432)


def test_freed_number_never_inherits_a_verdict(dp: Datapath) -> None:
    web, _ = two(dp)
    dp.policies.apply(Policy.allow(**WEB_TO_DB))
    number = web.identity.number
    web.remove()
    for pairs in state(dp).sets.values():
        assert not any(key[4:8] == number.to_bytes(4, "little") for key in pairs)


@pytest.mark.parametrize(
    ("sizes", "name"),
    [({"pcl_policy_set": 2}, "pcl_policy_set"), ({"pcl_ipcache": 5}, "pcl_ipcache")],
)
def test_what_does_not_fit_leaves_the_old_state(
    node: NetNS, sizes: dict[str, int], name: str
) -> None:
    with node.run(lambda: Datapath.open(sizes=sizes)) as dp:
        dp.endpoints.create("10.1.0.10", labels={"app": "web"})
        before, identities = state(dp), len(dp.identities)
        many = [Policy.allow(from_="app=web", to=f"192.0.{n}.0/24") for n in range(8)]
        for use in (dp.policies.plan, dp.policies.apply):
            with pytest.raises(MapFullError, match=name):
                use(many)
        assert state(dp) == before
        assert len(dp.identities) == identities
        assert len(dp.policies) == 0


def test_no_slot_left_is_refused(node: NetNS) -> None:
    with node.run(lambda: Datapath.open(sizes={"pcl_policies": 2})) as dp:
        dp.endpoints.create("10.1.0.10", labels={"app": "web"})
        before = state(dp)
        with pytest.raises(MapFullError, match="pcl_policies"):
            dp.endpoints.create("10.1.0.20", labels={"app": "db"})
        assert state(dp).entries == before.entries
        assert state(dp).set_ids == before.set_ids


@pytest.mark.parametrize("bad", ["text", 5, None, ["text"], {"a": 1}])
def test_bad_policies(dp: Datapath, bad: object) -> None:
    for use in (dp.policies.plan, dp.policies.apply):
        with pytest.raises(SpecError, match="policies"):
            use(bad)  # type: ignore[operator]


def test_an_identity_that_nobody_has_comes_and_goes_in_place(dp: Datapath) -> None:
    """No set is built anew and no connection judged anew for a pod of another node."""
    _, db = two(dp)
    dp.policies.apply(Policy.allow(to="app=db", from_="tier=front"))
    before = state(dp)
    other = dp.identities.acquire(Labels.of({"tier": "front"}))
    dp.policies.refresh()
    with_it = state(dp)
    assert with_it.set_ids == before.set_ids
    assert with_it.epochs == before.epochs
    number = other.number.to_bytes(4, "little")
    assert any(key[4:8] == number for key in with_it.sets[db.slot])
    dp.identities.release(other)
    dp.policies.refresh()
    assert state(dp) == before


def test_an_address_that_becomes_an_endpoint_is_judged_anew(dp: Datapath) -> None:
    """What was the world's a moment ago is a pod, also where no set changes for it."""
    web, _ = two(dp)
    dp.policies.apply(Policy.allow(from_="app=web", to="0.0.0.0/0", subject="from"))
    epoch = dp.object.maps["pcl_epochs"][0]
    dp.endpoints.create("10.1.0.77", labels=web.labels)
    assert dp.object.maps["pcl_epochs"][0] != epoch
