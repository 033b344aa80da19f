# SPDX-License-Identifier: Apache-2.0
"""Endpoints: real namespaces that reach one another, and what is refused before any change."""

from __future__ import annotations

from typing import Any

import pytest

from pycilium import (
    ClosedError,
    ConflictError,
    Datapath,
    KernelError,
    MapFullError,
    Policy,
    SpecError,
)
from pycilium.libbpf import Hook, attachments
from pycilium.net import NetNS, addresses, links

from .conftest import state
from .traffic import listening, reaches

pytestmark = pytest.mark.root


def test_labels_that_do_not_count_make_no_identity(node: NetNS) -> None:
    with node.run(lambda: Datapath.open(label_filter="!hash")) as dp:
        one = dp.endpoints.create("10.1.0.1", labels={"app": "web", "hash": "a"})
        other = dp.endpoints.create("10.1.0.2", labels={"app": "web", "hash": "b"})
        assert one.identity == other.identity
        assert str(one.labels) == "app=web"
        one.set_labels({"app": "web", "hash": "c"})
        assert one.identity == other.identity


def test_two_endpoints_reach_each_other_where_no_policy_selects_them(dp: Datapath) -> None:
    web = dp.endpoints.create(["10.1.0.10", "fd00::10"], labels={"app": "web"})
    db = dp.endpoints.create(["10.1.0.20", "fd00::20"], labels={"app": "db"})
    with listening(db, 80), listening(db, 81, 6):
        assert reaches(web, "10.1.0.20", 80)
        assert reaches(web, "fd00::20", 81)


def test_policy_allows_one_port_and_denies_the_other(dp: Datapath) -> None:
    web = dp.endpoints.create("10.1.0.10", labels={"app": "web"})
    db = dp.endpoints.create("10.1.0.20", labels={"app": "db"})
    stranger = dp.endpoints.create("10.1.0.66", labels={"app": "stranger"})
    dp.policies.apply(Policy.allow(from_="app=web", to="app=db", ports="5432/tcp"))
    with listening(db, 5432), listening(db, 22):
        assert reaches(web, "10.1.0.20", 5432)
        assert not reaches(web, "10.1.0.20", 22)
        assert not reaches(stranger, "10.1.0.20", 5432)


def test_host_and_endpoint_reach_each_other(node: NetNS, dp: Datapath) -> None:
    links.create_veth("uplink", "other", ns=node)
    addresses.add("192.0.2.1/32", 1, ns=node)
    web = dp.endpoints.create("10.1.0.10", labels={"app": "web"})
    with listening(web, 80):
        assert reaches(node, "10.1.0.10", 80)
    assert dp.explain("host", web, "80/tcp").allowed


def test_policy_stands_before_the_device_is_up(dp: Datapath) -> None:
    """The order of birth: programs, then policy, then entries, and only then the device."""
    order: list[str] = []
    core = dp._core
    original = dp.endpoints.publish

    def publish(endpoint: Any) -> None:
        device = links.get(endpoint.ifindex, ns=core.node)
        order.append("up" if device.up else "down")
        order.append(str(endpoint.slot in dict(core.maps["pcl_policies"].pairs())))
        hooked = [core.node.run(attachments, endpoint.ifindex, hook) for hook in Hook]
        order.append(str(all(hooked)))
        original(endpoint)

    dp.endpoints.publish = publish  # type: ignore[method-assign]
    dp.endpoints.create("10.1.0.10", labels={"app": "web"})
    assert order == ["down", "True", "True"]


def test_device_without_entries_drops(dp: Datapath) -> None:
    web = dp.endpoints.create("10.1.0.10", labels={"app": "web"})
    db = dp.endpoints.create("10.1.0.20", labels={"app": "db"})
    with listening(db, 80):
        del dp.object.maps["pcl_endpoints"][web.ifindex]
        assert not reaches(web, "10.1.0.20", 80)
    assert dp.counters()["PCL_DROP_ENDPOINT_UNKNOWN"].packets > 0


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"address": "10.1.0.300", "labels": {}}, SpecError, "address"),
        ({"address": "224.0.0.1", "labels": {}}, SpecError, "unicast"),
        ({"address": ["10.1.0.1", "10.1.0.2"], "labels": {}}, SpecError, "one IPv4"),
        ({"address": "10.1.0.1", "labels": {"reserved:host": ""}}, SpecError, "reserved"),
        ({"address": "10.1.0.1", "labels": 5}, SpecError, "labels"),
        ({"address": "10.1.0.1", "labels": {}, "mac": "01:00:00:00:00:01"}, SpecError, "mac"),
        ({"address": "10.1.0.1", "labels": {}, "name": "a b"}, SpecError, "name"),
        ({"address": "10.1.0.1", "labels": {}, "netns": "/nonexistent"}, SpecError, "netns"),
        ({"address": "10.1.0.1", "labels": {}, "ifname": "a/b"}, SpecError, "link name"),
        ({"address": "10.1.0.10", "labels": {}}, ConflictError, "held by endpoint web (id 1)"),
        (
            {"address": "10.1.0.1", "labels": {}, "name": "web"},
            ConflictError,
            "held by endpoint web",
        ),
    ],
)
def test_bad_input_changes_nothing(
    dp: Datapath, arguments: dict[str, Any], error: type[Exception], text: str
) -> None:
    dp.endpoints.create("10.1.0.10", labels={"app": "web"}, name="web")
    before, devices = state(dp), links.list_all(ns=dp.node)
    with pytest.raises(error, match=r".") as raised:
        dp.endpoints.create(**arguments)
    assert text in str(raised.value)
    assert state(dp).entries == before.entries
    assert state(dp).set_ids == before.set_ids
    assert links.list_all(ns=dp.node) == devices
    with pytest.raises(TypeError):
        dp.endpoints.create("10.1.0.1", labelz={})  # type: ignore[call-arg]


def test_failure_in_the_middle_is_taken_back(dp: Datapath, monkeypatch: pytest.MonkeyPatch) -> None:
    from pycilium.datapath import device

    dp.endpoints.create("10.1.0.10", labels={"app": "web"})
    before, devices = state(dp), links.list_all(ns=dp.node)

    def fail(*_arguments: Any) -> None:
        raise KernelError(5, "open way")

    monkeypatch.setattr(device, "open_way", fail)
    with pytest.raises(KernelError, match="open way"):
        dp.endpoints.create("10.1.0.20", labels={"app": "db"})
    assert state(dp).entries == before.entries
    assert state(dp).set_ids == before.set_ids
    assert links.list_all(ns=dp.node) == devices
    assert len(dp.identities) == 12
    monkeypatch.undo()
    assert dp.endpoints.create("10.1.0.20", labels={"app": "db"}).labels


def test_full_map_is_refused_before_anything_changes(node: NetNS) -> None:
    with node.run(lambda: Datapath.open(sizes={"pcl_endpoints": 1})) as dp:
        dp.endpoints.create("10.1.0.10", labels={"app": "web"})
        devices = links.list_all(ns=node)
        with pytest.raises(MapFullError, match="pcl_endpoints: needs 1 more entries, 1 of 1"):
            dp.endpoints.create("10.1.0.20", labels={"app": "db"})
        assert links.list_all(ns=node) == devices


def test_removed_endpoint_is_gone_and_its_address_free(dp: Datapath) -> None:
    web = dp.endpoints.create("10.1.0.10", labels={"app": "web"}, name="web")
    db = dp.endpoints.create("10.1.0.20", labels={"app": "db"})
    with listening(db, 80):
        assert reaches(web, "10.1.0.20", 80)
    db.remove()
    db.remove()
    assert len(dp.endpoints) == 1
    assert not reaches(web, "10.1.0.20", 80)
    assert [one.name for one in links.list_all(ns=dp.node)] == ["lo", "pcl1"]
    with pytest.raises(ClosedError):
        db.run(print)
    with pytest.raises(SpecError):
        dp.endpoints.remove("10.1.0.20")
    dp.endpoints.remove("10.1.0.20", missing_ok=True)
    again = dp.endpoints.create("10.1.0.20", labels={"app": "db"})
    with listening(again, 80):
        assert reaches(web, "10.1.0.20", 80)


def test_labels_change_identity_and_verdicts(dp: Datapath) -> None:
    web = dp.endpoints.create("10.1.0.10", labels={"app": "stranger"})
    db = dp.endpoints.create("10.1.0.20", labels={"app": "db"})
    dp.policies.apply(Policy.allow(from_="app=web", to="app=db"))
    with listening(db, 80):
        assert not reaches(web, "10.1.0.20", 80)
        web.set_labels({"app": "web"})
        assert reaches(web, "10.1.0.20", 80)
        web.set_labels("app=other")
        assert not reaches(web, "10.1.0.20", 80)


def test_existing_interface_is_attached(node: NetNS, dp: Datapath) -> None:
    with NetNS.create() as inside:
        host, peer = links.create_veth("host0", "eth0", peer_ns=inside, ns=node)
        arguments = {"ifname": "host0", "mac": peer.mac, "labels": {"app": "web"}}
        web = dp.endpoints.attach(address="10.1.0.10", netns=inside, **arguments)
        with pytest.raises(ConflictError, match="host0 is held"):
            dp.endpoints.attach(address="10.1.0.11", **arguments)
        addresses.add("10.1.0.10/24", peer.index, ns=inside)
        links.set_up(peer.index, ns=inside)
        db = dp.endpoints.create("10.1.0.20", labels={"app": "db"})
        with listening(db, 80):
            assert reaches(web, "10.1.0.20", 80)
        web.remove()
        assert links.exists(host.index, ns=node)
        assert node.run(attachments, host.index, Hook.RX) == []


def test_use_after_close(node: NetNS) -> None:
    dp = node.run(Datapath.open)
    dp.close()
    dp.close()
    for use in (dp.status, dp.counters, lambda: dp.endpoints.create("10.1.0.1", labels={})):
        with pytest.raises(ClosedError, match="datapath scoped is closed"):
            use()
