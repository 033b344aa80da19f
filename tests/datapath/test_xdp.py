# SPDX-License-Identifier: Apache-2.0
"""The balancer's Python side: apply and plan, bad input, lifetimes, NumPy or not."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pycilium import ClosedError, Datapath, MapFullError, ServiceLB, SpecError
from pycilium.datapath.xdp import Balancer, BalancerOptions, HashBy, VipSettings
from pycilium.lb import maglev
from pycilium.net import NetNS, links, sysctl

pytestmark = pytest.mark.root
SIZES = {"pcl_xdp_rings": 4 * 1021, "pcl_xdp_backends": 16, "pcl_xdp_vips": 8}
WEB = ServiceLB("192.0.2.1:80/tcp", backends=["10.0.0.2:80", "10.0.0.3:80"])
DNS = ServiceLB("192.0.2.1:53/udp", backends=["10.0.0.2:53"])
WEB6 = ServiceLB("[2001:db8::1]:80/tcp", backends=["[fd00::2]:80"])
SMALL = VipSettings(ring=1021)
SETTINGS = {one.frontend: SMALL for one in (WEB, DNS, WEB6)}


@pytest.fixture
def device(node: NetNS) -> str:
    one, _ = links.create_veth("eth0", "peer", ns=node)
    links.set_up(one.index, ns=node)
    for family in ("ipv4", "ipv6"):
        sysctl.write(f"net/{family}/conf/all/forwarding", 1, ns=node)
    return "eth0"


@pytest.fixture
def balancer(node: NetNS, device: str) -> Iterator[Balancer]:
    with node.run(lambda: Datapath.open(programs="xdp", devices=[device], sizes=SIZES)) as opened:
        yield opened


def stored(balancer: Balancer) -> dict[str, Any]:
    """Everything that user space writes."""
    maps = balancer.object.maps
    return {
        name: maps[name].batch_lookup()[:2]
        for name in ("pcl_xdp_vips", "pcl_xdp_rings", "pcl_xdp_backends")
    }


def test_apply_is_exact_and_a_second_call_writes_nothing(balancer: Balancer) -> None:
    delta = balancer.services.apply([WEB, DNS, WEB6], settings=SETTINGS)
    assert (delta.added, delta.changed, delta.removed) == (3, 0, 0)
    assert [*balancer.services] == [WEB, DNS, WEB6]
    first = stored(balancer)
    assert not balancer.services.apply([WEB, DNS, WEB6], settings=SETTINGS)
    assert stored(balancer) == first
    maps = balancer.object.maps
    assert len(maps["pcl_xdp_vips"]) == 5, "three ports, two addresses"
    assert balancer.services.apply([WEB6], settings={WEB6.frontend: SMALL}).removed == 2
    assert len(maps["pcl_xdp_vips"]) == 2
    assert balancer.services.apply([]).removed == 1
    assert len(maps["pcl_xdp_vips"]) == 0


def test_plan_says_what_apply_does_and_touches_nothing(balancer: Balancer) -> None:
    before = stored(balancer)
    settings = {WEB.frontend: SMALL, DNS.frontend: SMALL}
    planned = balancer.services.plan([WEB, DNS], settings=settings)
    assert stored(balancer) == before
    done = balancer.services.apply([WEB, DNS], settings=settings)
    assert planned == done
    assert planned.entries == done.entries
    written = [change.map for change in planned.entries]
    assert written.count("pcl_xdp_backends") == 3
    assert written.count("pcl_xdp_vips") == 3
    assert written.count("pcl_xdp_rings") == 2


def test_the_ring_holds_the_maglev_table(balancer: Balancer) -> None:
    balancer.services.apply([WEB], settings={WEB.frontend: SMALL})
    balancer.set_weight(WEB, "10.0.0.3:80", 3)
    vip = balancer.services.find(WEB)
    wanted = maglev.table({"10.0.0.2:80": 1, "10.0.0.3:80": 3}, 1021)
    members = list(vip.members.values())
    slots = balancer.object.maps["pcl_xdp_rings"]
    for slot, number in enumerate(wanted):
        found = slots[vip.first + slot]
        assert (found.backend, found.generation) == (
            members[number].index,
            members[number].generation,
        )


def test_without_numpy_the_ring_is_the_same(
    balancer: Balancer, monkeypatch: pytest.MonkeyPatch
) -> None:
    balancer.services.apply([WEB], settings={WEB.frontend: SMALL})
    with_numpy = stored(balancer)["pcl_xdp_rings"]
    balancer.services.apply([])
    monkeypatch.setitem(sys.modules, "numpy", None)
    maglev._numpy.cache_clear()
    maglev.forget()
    try:
        rings = balancer.object.maps["pcl_xdp_rings"]
        keys, values, count = rings.batch_lookup()
        rings.batch_update(keys, bytes(len(values)), count)
        balancer.services.apply([WEB], settings={WEB.frontend: SMALL})
        slots = [slot for slot in rings.values() if slot.generation]
        assert len(slots) == 1021
        assert len(with_numpy[0]) == len(stored(balancer)["pcl_xdp_rings"][0])
    finally:
        monkeypatch.undo()
        maglev._numpy.cache_clear()
        maglev.forget()


def test_what_does_not_fit_is_refused_before_the_first_write(balancer: Balancer) -> None:
    balancer.services.apply([WEB], settings={WEB.frontend: SMALL})
    before = stored(balancer)
    with pytest.raises(MapFullError, match="pcl_xdp_rings: needs 65537 more entries"):
        balancer.services.apply([WEB, DNS], settings={WEB.frontend: SMALL})
    many = [
        ServiceLB(f"192.0.2.1:{port}/tcp", backends=[f"10.0.0.2:{port}"]) for port in range(1, 9)
    ]
    tiny = {one.frontend: VipSettings(ring=7) for one in many}
    with pytest.raises(MapFullError, match="pcl_xdp_vips: needs 7 more entries, 2 of 8"):
        balancer.services.apply(many, settings=tiny)
    wide = ServiceLB("192.0.2.9:80/tcp", backends=[f"10.0.1.{i}:80" for i in range(17)])
    with pytest.raises(MapFullError, match="pcl_xdp_backends"):
        balancer.services.apply([wide], settings={wide.frontend: SMALL})
    assert stored(balancer) == before
    assert [*balancer.services] == [WEB]


BAD: list[tuple[str, Callable[[Balancer], Any]]] = [
    ("services: .* a ServiceLB or a list", lambda b: b.services.apply("web")),
    ("services: 7 .* a ServiceLB", lambda b: b.services.apply([7])),
    ("frontend: .* one service for each", lambda b: b.services.apply([WEB, WEB])),
    ("settings: '192.0.2.9:80/tcp'",
     lambda b: b.services.apply([WEB], settings={"192.0.2.9:80/tcp": SMALL})),
    ("settings of .* VipSettings", lambda b: b.services.apply([WEB], settings={WEB.frontend: 7})),
    ("source_ranges: '10.0.0.0/8' .* every client",
     lambda b: b.services.apply(_web(source_ranges=["10.0.0.0/8"]))),
    ("internal_traffic_policy: 'Local' .* cluster",
     lambda b: b.services.apply(_web(internal_traffic_policy="Local"))),
    ("forward: 'gre' .* ipip, l2", lambda b: VipSettings(forward="gre")),
    ("hash_by: 'port' .* flow, source", lambda b: VipSettings(hash_by="port")),
    ("maglev size: 65536 .* a prime", lambda b: VipSettings(ring=65536)),
    ("source4: .* 16 bits", lambda b: BalancerOptions(source4="10.0.0.0/8")),
    ("source6: .* 96 bits", lambda b: BalancerOptions(source6="fd00::/100")),
    ("source4: 'nonsense' .* 16 bits", lambda b: BalancerOptions(source4="nonsense")),
    ("gateway: 'router' .* a MAC", lambda b: BalancerOptions(gateway="router")),
    ("seed: -1", lambda b: BalancerOptions(seed=-1)),
    ("new_flows: 1.5", lambda b: BalancerOptions(new_flows=1.5)),
    ("unknown_ports: 'reject' .* drop, pass", lambda b: BalancerOptions(unknown_ports="reject")),
    ("service: '192.0.2.7:1/tcp' .* 192.0.2.1:80/tcp",
     lambda b: b.set_weight("192.0.2.7:1/tcp", "10.0.0.2:80", 1)),
    ("backend of .* '10.0.0.9:80' .* one of 10.0.0.2:80",
     lambda b: b.set_weight(WEB, "10.0.0.9:80", 1)),
    ("weight of 10.0.0.2:80: 70000", lambda b: b.set_weight(WEB, "10.0.0.2:80", 70000)),
    ("weight of 10.0.0.2:80: True", lambda b: b.set_weight(WEB, "10.0.0.2:80", True)),
    ("device: 'eth9' .* one of eth0", lambda b: b.test([_fixture(device="eth9")])),
]  # fmt: skip


def _web(**fields: Any) -> ServiceLB:
    return ServiceLB(WEB.frontend, backends=WEB.backends, **fields)


def test_session_affinity_is_a_hash_of_the_source(node: NetNS, device: str) -> None:
    with node.run(lambda: Datapath.open(programs="xdp", devices=[device])) as opened:
        for affinity, hash_by in (("None", HashBy.FLOW), ("ClientIP", HashBy.SOURCE)):
            opened.services.apply(_web(session_affinity=affinity))
            assert opened.services.find(WEB).settings.hash_by is hash_by


def _fixture(**fields: Any) -> Any:
    from pycilium.datapath.xdp import Fixture

    return Fixture(bytes(64), **fields)


@pytest.mark.parametrize(("message", "act"), BAD, ids=[message for message, _ in BAD])
def test_bad_input(balancer: Balancer, message: str, act: Callable[[Balancer], Any]) -> None:
    balancer.services.apply([WEB], settings={WEB.frontend: SMALL})
    before = stored(balancer)
    with pytest.raises(SpecError, match=message):
        act(balancer)
    assert stored(balancer) == before


def open_with(**options: Any) -> Any:
    return Datapath.open(**{"sizes": SIZES, **options})


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("programs: 'tc' .* endpoint, xdp", {"programs": "tc"}),
    ("balancer: .* or programs", {"balancer": BalancerOptions()}),
    ("devices: .* a list of names", {"programs": "xdp", "devices": "eth0"}),
    ("devices: .* at least one of .*eth0", {"programs": "xdp", "devices": []}),
    ("devices: 'eth7' .* one of .*eth0", {"programs": "xdp", "devices": ["eth7"]}),
    ("devices: .* each device once", {"programs": "xdp", "devices": ["eth0", "eth0"]}),
    ("mode: 'fast' .* auto, native, generic",
     {"programs": "xdp", "devices": ["eth0"], "mode": "fast"}),
    ("sizes: 'pcl_ct4'", {"programs": "xdp", "devices": ["eth0"], "sizes": {"pcl_ct4": 1}}),
]  # fmt: skip


@pytest.mark.parametrize(("message", "options"), REFUSED, ids=[one for one, _ in REFUSED])
def test_open_refuses(node: NetNS, device: str, message: str, options: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=message):
        node.run(lambda: open_with(**options))


def test_after_close(balancer: Balancer) -> None:
    assert "eth0 native" in repr(balancer)
    balancer.close()
    balancer.close()
    for act in (balancer.status, balancer.statistics, lambda: balancer.services.apply([])):
        with pytest.raises(ClosedError, match="balancer is closed"):
            act()


def test_tables_print(balancer: Balancer) -> None:
    balancer.services.apply([WEB], settings={WEB.frontend: SMALL})
    assert "10.0.0.3:80" in str(balancer.statistics())
    assert "<td>10.0.0.3:80</td>" in balancer.statistics()._repr_html_()
    assert "native" in str(balancer.status())
    assert "<td>eth0</td>" in balancer.status()._repr_html_()
