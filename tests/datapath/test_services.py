# SPDX-License-Identifier: Apache-2.0
"""Services: balanced over backends, changed without rewriting what stands."""

from __future__ import annotations

import itertools
import socket
from collections import Counter
from contextlib import ExitStack
from typing import Any

import pytest

from pycilium import Datapath, MapFullError, ServiceLB, SpecError
from pycilium.net import NetNS

from .conftest import state
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
