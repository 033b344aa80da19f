# SPDX-License-Identifier: Apache-2.0
"""Services: balanced over backends, changed without rewriting what stands."""

from __future__ import annotations

import itertools
import os
import re
import socket
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from pycilium import Backend, Datapath, MapFullError, ServiceLB, SpecError
from pycilium.datapath import peek
from pycilium.lb.columns import ServiceColumns
from pycilium.net import NetNS

from .conftest import SMALL, state
from .traffic import listening, open_connection, reaches

pytestmark = pytest.mark.root


def accept_all(server: socket.socket) -> int:
    """How many connections wait."""
    server.setblocking(False)
    for count in itertools.count():
        try:
            server.accept()[0].close()
        except BlockingIOError:
            return count
    raise AssertionError


VIP = "10.96.0.10:80/tcp"


def test_connections_are_spread_over_the_backends(dp: Datapath) -> None:
    web = dp.endpoints.create("10.1.0.10", labels={"app": "web"})
    backends = [dp.endpoints.create(f"10.1.0.2{n}", labels={"app": "db"}) for n in range(3)]
    dp.services.apply([ServiceLB(VIP, backends=[f"{one.ip}:8080" for one in backends])])
    counts: Counter[Any] = Counter()
    with ExitStack() as stack:
        servers = [stack.enter_context(listening(one, 8080)) for one in backends]
        for _ in range(60):
            client = web.run(open_connection, "10.96.0.10", 80)
            assert client is not None
            assert client.getpeername() == ("10.96.0.10", 80)
            client.close()
        for number, server in enumerate(servers):
            counts[number] = accept_all(server)
    assert sum(counts.values()) == 60
    assert min(counts[n] for n in range(3)) >= 8


def test_client_that_is_its_own_backend(dp: Datapath) -> None:
    web = dp.endpoints.create("10.1.0.10", labels={"app": "web"})
    dp.services.apply(ServiceLB(VIP, backends=["10.1.0.10:8080"]))
    with listening(web, 8080):
        assert reaches(web, "10.96.0.10", 80)


def test_ipv6_service(dp: Datapath) -> None:
    web = dp.endpoints.create("fd00::10", labels={"app": "web"})
    db = dp.endpoints.create("fd00::20", labels={"app": "db"})
    dp.services.apply(ServiceLB("[fd00:96::10]:80/tcp", backends=["[fd00::20]:8080"]))
    with listening(db, 8080, 6):
        assert reaches(web, "fd00:96::10", 80)


def test_second_apply_writes_nothing_and_plan_foretells(dp: Datapath) -> None:
    services = [ServiceLB(VIP, backends=["10.1.0.20:80", "10.1.0.21:80"])]
    empty = state(dp)
    plan = dp.services.plan(services)
    assert state(dp) == empty
    delta = dp.services.apply(services)
    assert (delta, delta.entries) == (plan, plan.entries)
    assert Counter(one.map for one in delta.entries) == {
        "pcl_backends": 2, "pcl_slots": 2, "pcl_services": 1,
    }  # fmt: skip
    before = state(dp)
    assert not dp.services.apply(services)
    assert state(dp) == before
    assert dp.services.apply([]).removed == 1
    assert state(dp).entries["pcl_services"] == {}


def test_what_does_not_fit_leaves_the_old_services(node: NetNS) -> None:
    with node.run(lambda: Datapath.open(sizes={"pcl_services": 1})) as dp:
        dp.services.apply(ServiceLB(VIP, backends=["10.1.0.20:80"]))
        before = state(dp)
        two = [ServiceLB(f"10.96.0.{n}:80/tcp", backends=["10.1.0.20:80"]) for n in (1, 2)]
        with pytest.raises(MapFullError, match="pcl_services"):
            dp.services.apply(two)
        assert state(dp) == before
        assert [str(one.frontend) for one in dp.services] == [VIP]


@pytest.mark.parametrize("bad", ["text", 5, None, ["text"]])
def test_bad_services(dp: Datapath, bad: Any) -> None:
    with pytest.raises(SpecError, match="services"):
        dp.services.apply(bad)


def test_one_frontend_for_two_services(dp: Datapath) -> None:
    with pytest.raises(SpecError, match="frontend"):
        dp.services.apply([ServiceLB(VIP, backends=[]), ServiceLB(VIP, backends=[])])


def refused(**more: Any) -> ServiceLB:
    fields: dict[str, Any] = {"backends": ["10.1.0.20:80"], "name": "web", **more}
    return ServiceLB(fields.pop("frontend", VIP), **fields)


@pytest.mark.parametrize(
    ("service", "field"),
    [
        (refused(kind="NodePort"), "kind"),
        (refused(kind="LoadBalancer"), "kind"),
        (refused(kind="ExternalIP"), "kind"),
        (refused(kind="HostPort"), "kind"),
        (
            refused(
                algorithm="maglev", backends=[f"10.2.{i >> 8}.{i & 255}:80" for i in range(1100)]
            ),
            "backends",
        ),
        (refused(frontend="10.96.0.10:79/sctp"), "backend"),
    ],
)
def test_what_the_programs_cannot_do_is_refused(
    dp: Datapath, service: ServiceLB, field: str
) -> None:
    fine = ServiceLB("10.96.0.11:80", backends=["10.1.0.20:80"])
    before = state(dp)
    with pytest.raises(SpecError, match=f"service web: {field}"):
        dp.services.apply([fine, service])
    assert state(dp) == before
    assert [error.field for error in dp.services.refused([fine, service])] == [
        f"service web: {field}"
    ]
    assert dp.services.apply([fine, service], go_on=True).added == 1
    assert list(dp.services) == [fine]


def test_what_does_not_fit_names_map_need_and_size(dp: Datapath) -> None:
    """Each of the four maps; nothing is written."""
    many = [f"10.1.1.{n}:80" for n in range(33)]
    ranges = [f"10.{n}.0.0/16" for n in range(20)]
    heavy = [Backend(ip_address("10.1.0.20"), 80, weight=60), Backend.parse("10.1.0.21:81")]
    heavy.append(Backend(ip_address("10.1.0.22"), 80, weight=7))
    before = state(dp)
    for service, name, needed, size in (
        (ServiceLB(VIP, backends=many), "pcl_backends", 33, 32),
        (ServiceLB(VIP, backends=heavy), "pcl_slots", 68, 64),
        (ServiceLB(VIP, backends=[], source_ranges=ranges), "pcl_source_ranges", 20, 16),
    ):
        with pytest.raises(MapFullError) as caught:
            dp.services.apply(service)
        assert (caught.value.map_name, caught.value.needed, caught.value.size) == (
            name, needed, size,
        )  # fmt: skip
        assert state(dp) == before


def test_adopted_services_are_not_written_again(node: NetNS, bpffs: Path) -> None:
    several = [
        Backend(ip_address("10.1.0.20"), 80, weight=3),
        Backend(ip_address("10.1.0.21"), 80, state="terminating"),
    ]
    services = [
        ServiceLB(VIP, backends=several, session_affinity="ClientIP", affinity_timeout=7),
        ServiceLB("[fd00:96::1]:80", backends=["[fd00::20]:80"], source_ranges=["fd00::/64"]),
        ServiceLB("10.96.0.11:80", backends=[], source_ranges=["10.0.0.0/8"],
                  source_ranges_mode="deny"),
    ]  # fmt: skip
    with node.run(lambda: Datapath.open(pin="services", bpffs=bpffs, sizes=SMALL)) as dp:
        dp.services.apply([ServiceLB("10.96.0.12:80", backends=["10.1.0.30:80"])])
        dp.services.apply(services)
        before = state(dp)
    dp = node.run(lambda: Datapath.adopt("services", bpffs=bpffs))
    try:
        assert list(dp.services) == services
        assert state(dp) == before
        dp.services.apply([*services, ServiceLB("10.96.0.12:80", backends=["10.1.0.30:80"])])
        rows = [row for _, row in dp.object.maps["pcl_backends"].pairs() if row.state]
        assert len({row.id for row in rows}) == len(rows) == 4
        assert max(row.id for row in rows) == 5  # the first one's number is not used again
    finally:
        dp.destroy()


def test_a_change_is_a_few_system_calls(node: NetNS, tmp_path: Path) -> None:
    """Counted by strace, beside a thousand other services."""
    here, trace = Path(__file__).parent, tmp_path / "trace"
    command = ["strace", "-f", "-qq", "-e", "trace=bpf,write", "-o", str(trace), sys.executable]
    env = {**os.environ, "PYTHONPATH": str(here.parents[1] / "src")}
    child = node.popen([*command, str(here / "service_changes.py")], env=env,
                       stdout=subprocess.DEVNULL)  # fmt: skip
    assert child.wait(60) == 0
    calls: dict[str, int] = {}
    name = ""
    for line in trace.read_text().splitlines():
        begun = re.search(r'write\(1, "begin ([a-z ]+)', line)
        name = begun[1] if begun else "" if 'write(1, "end' in line else name
        if name:
            calls[name] = calls.get(name, 0) + ("bpf(" in line)
    assert calls == {
        "added": 3,
        "one more backend": 3,
        "a backend less": 3,
        "another backend": 4,
        "a backend ends": 3,
        "affinity": 1,
        "nothing": 0,
        "removed": 2,
    }


def columns(*backends: str, vips: int = 3) -> ServiceColumns:
    """The same backends behind several services."""
    places = [int(ip_address(one)) for one in backends]
    return ServiceColumns.ipv4(
        [0x0A600000 + n for n in range(vips)],
        [80] * vips,
        [len(places)] * vips,
        places * vips,
        [8080] * len(places) * vips,
    )


def objects(*backends: str, vips: int = 3) -> list[ServiceLB]:
    several = [f"{one}:8080" for one in backends]
    return [ServiceLB(f"10.96.0.{n}:80", backends=several) for n in range(vips)]


def test_columns_and_objects_write_the_same(dp: Datapath) -> None:
    delta = dp.services.apply_columns(columns("10.1.0.20", "10.1.0.21"))
    assert (delta.added, len(delta.entries)) == (3, 15)
    assert list(dp.services) == objects("10.1.0.20", "10.1.0.21")
    assert dp.services.find(2) == objects("10.1.0.20", "10.1.0.21")[1]
    before = state(dp)
    assert not dp.services.apply_columns(columns("10.1.0.20", "10.1.0.21"))
    assert not dp.services.apply(objects("10.1.0.20", "10.1.0.21"))
    assert state(dp) == before
    kept = [Backend(ip_address("10.1.0.21"), 8080, weight=2), Backend.parse("10.1.0.22:8080")]
    odd = ServiceLB("10.96.0.0:80", backends=kept, source_ranges=["10.0.0.0/8"])
    ending = [Backend(ip_address("10.1.0.21"), 8080, state="terminating")]
    dp.services.apply([odd, ServiceLB("10.96.0.1:80", backends=ending)])
    numbers = {row.id for _, row in dp.object.maps["pcl_backends"].pairs() if row.state}
    delta = dp.services.apply_columns(columns("10.1.0.21", "10.1.0.22"))
    assert (delta.added, delta.changed) == (1, 2)
    rows = [row for _, row in dp.object.maps["pcl_backends"].pairs() if row.state]
    assert numbers <= {row.id for row in rows}, "who stays keeps its number"
    assert {row.state for row in rows} == {1}
    assert len(rows) == 6
    assert not dp.services.apply(objects("10.1.0.21", "10.1.0.22"))
    assert len(dp.object.maps["pcl_source_ranges"]) == 0


def test_columns_are_served(dp: Datapath) -> None:
    web = dp.endpoints.create("10.1.0.10", labels={"app": "web"})
    db = dp.endpoints.create("10.1.0.20", labels={"app": "db"})
    dp.services.apply_columns(columns("10.1.0.20"))
    with listening(db, 8080):
        assert all(reaches(web, f"10.96.0.{n}", 80) for n in range(3))
    dp.services.apply_columns(columns(vips=0))
    assert len(dp.services) == len(dp.object.maps["pcl_services"]) == 0


def test_columns_that_do_not_fit_change_nothing(dp: Datapath) -> None:
    dp.services.apply_columns(columns("10.1.0.20"))
    before = state(dp)
    with pytest.raises(MapFullError, match="pcl_services"):
        dp.services.apply_columns(columns("10.1.0.20", vips=17))
    with pytest.raises(MapFullError, match="pcl_backends"):
        dp.services.apply_columns(columns(*(f"10.1.1.{n}" for n in range(11))))
    assert state(dp) == before
    assert len(dp.services) == 3


def test_services_of_another_set_may_fill_the_map_again(dp: Datapath) -> None:
    sixteen = [ServiceLB(f"10.96.1.{n}:80", backends=[]) for n in range(16)]
    others = [ServiceLB(f"10.96.2.{n}:80", backends=[]) for n in range(16)]
    dp.services.apply(sixteen)
    dp.services.apply(others)
    assert list(dp.services) == others
    dp.services.apply_columns(columns(vips=16))
    dp.services.apply(sixteen)
    assert len(dp.object.maps["pcl_services"]) == 16


def test_columns_are_adopted(node: NetNS, bpffs: Path) -> None:
    with node.run(lambda: Datapath.open(pin="columns", bpffs=bpffs, sizes=SMALL)) as dp:
        dp.services.apply_columns(columns("10.1.0.20", "10.1.0.21"))
        before = state(dp)
    assert peek("columns", bpffs=bpffs).services == tuple(objects("10.1.0.20", "10.1.0.21"))
    dp = node.run(lambda: Datapath.adopt("columns", bpffs=bpffs))
    try:
        assert not dp.services.apply_columns(columns("10.1.0.20", "10.1.0.21"))
        assert state(dp) == before
        assert list(dp.services) == objects("10.1.0.20", "10.1.0.21")
    finally:
        dp.destroy()
