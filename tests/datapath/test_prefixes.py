# SPDX-License-Identifier: Apache-2.0
"""Prefixes of policies: the world by address, and changes of them that lose nothing."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pycilium import Datapath, Policy
from pycilium.datapath import Endpoint
from pycilium.net import NetNS, addresses, links, routes, sysctl

from .traffic import listening, reaches

pytestmark = pytest.mark.root

ALLOWED, OTHER = "192.0.2.5", "192.0.2.200"


@pytest.fixture
def outside(node: NetNS, dp: Datapath) -> Iterator[NetNS]:
    """A host beyond the node with two addresses."""
    with NetNS.create() as ns:
        near, far = links.create_veth("uplink", "eth0", peer_ns=ns, ns=node)
        links.set_up(near.index, ns=node)
        links.set_up(far.index, ns=ns)
        addresses.add("203.0.113.1/24", near.index, ns=node)
        for address in (ALLOWED, OTHER, "203.0.113.2"):
            addresses.add(f"{address}/24", far.index, ns=ns)
        routes.add("192.0.2.0/24", dev=near.index, ns=node)
        routes.add("10.1.0.0/16", via="203.0.113.1", dev=far.index, ns=ns)
        sysctl.write("net.ipv4.ip_forward", 1, ns=node)
        yield ns


def test_world_is_judged_by_prefix(dp: Datapath, outside: NetNS) -> None:
    web = dp.endpoints.create("10.1.0.10", labels={"app": "web"})
    server = outside.run(listen_on, ALLOWED), outside.run(listen_on, OTHER)
    dp.policies.apply(
        [
            Policy.allow(from_="app=web", to="192.0.2.0/24"),
            Policy.deny(from_="app=web", to="192.0.2.128/25"),
        ]
    )
    assert reaches(web, ALLOWED, 80)
    assert not reaches(web, OTHER, 80)
    assert not reaches(web, "203.0.113.2", 80)
    asked = [dp.explain(web, f"{one}:80/tcp") for one in (ALLOWED, OTHER, "203.0.113.2")]
    assert [one.allowed for one in asked] == [True, False, False]
    assert not any(one.disagreement for one in asked)
    for one in server:
        one.close()


def listen_on(address: str) -> socket.socket:
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((address, 80))
    server.listen()
    return server


def test_changing_prefixes_loses_nothing_and_leaks_nothing(dp: Datapath, outside: NetNS) -> None:
    """The identity of 192.0.2.0/24 changes whenever the prefix around it comes or goes."""
    web = dp.endpoints.create("10.1.0.10", labels={"app": "web"})
    base = [
        Policy.allow(from_="192.0.2.0/24", to="app=web", subject="to", ports="7/udp"),
        Policy.deny(from_="192.0.2.128/25", to="app=web", subject="to"),
    ]
    around = [*base, Policy.allow(from_="192.0.0.0/16", to="app=web", subject="to", ports="9/tcp")]
    dp.policies.apply(base)
    receiver = web.run(udp, "10.1.0.10", 7)
    receiver.settimeout(0.5)
    senders = {one: outside.run(udp, one, 0) for one in (ALLOWED, OTHER)}
    stop, sent = threading.Event(), dict.fromkeys(senders, 0)
    threads = [
        threading.Thread(target=send_until, args=(senders[one], one, stop, sent)) for one in senders
    ]
    received = {ALLOWED: 0, OTHER: 0}
    collector = threading.Thread(target=collect, args=(receiver, received))
    for thread in (*threads, collector):
        thread.start()
    for number in range(40):
        dp.policies.apply(around if number % 2 == 0 else base)
    stop.set()
    for thread in (*threads, collector):
        thread.join()
    for one in (receiver, *senders.values()):
        one.close()
    assert sent[ALLOWED] > 50
    assert received == {ALLOWED: sent[ALLOWED], OTHER: 0}


def udp(address: str, port: int) -> socket.socket:
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.bind((address, port))
    return one


def send_until(
    sender: socket.socket, who: str, stop: threading.Event, sent: dict[str, int]
) -> None:
    while not stop.wait(0.001):
        sender.sendto(sent[who].to_bytes(4, "big"), ("10.1.0.10", 7))
        sent[who] += 1


def collect(receiver: socket.socket, received: dict[str, int]) -> None:
    while True:
        try:
            _, (source, _) = receiver.recvfrom(64)
        except TimeoutError:
            return
        received[source] += 1


def test_host_is_told_from_the_world(dp: Datapath, outside: NetNS) -> None:
    web: Endpoint = dp.endpoints.create("10.1.0.10", labels={"app": "web"})
    dp.policies.apply(Policy.allow(from_="app=nobody", to="app=web"))
    with listening(web, 80):
        assert reaches(dp.node, "10.1.0.10", 80)
        assert not reaches(outside, "10.1.0.10", 80)
    assert dp.explain("host", web, "80/tcp").allowed
    assert not dp.explain(ALLOWED, web, "80/tcp").allowed


def test_a_prefix_means_pods_only_where_it_is_asked_for(node: NetNS) -> None:
    """Kubernetes' semantics by default, Cilium's by the option."""
    policy = Policy.allow(to="app=db", from_="10.1.0.10/32")
    for matches in (True, False):
        with node.run(lambda on=matches: Datapath.open(cidr_matches_pods=on)) as dp:
            web = dp.endpoints.create("10.1.0.10", labels={"app": "web"})
            db = dp.endpoints.create("10.1.0.20", labels={"app": "db"})
            dp.policies.apply(policy)
            assert dp.explain(web, db, "80/tcp").allowed is matches
            other = dp.endpoints.create("10.1.0.11", labels={"app": "web"})
            assert not dp.explain(other, db, "80/tcp").allowed
            web.set_labels({"app": "other"})
            assert dp.explain(web, db, "80/tcp").allowed is matches
            dp.policies.apply([])
            assert dp.explain(other, db, "80/tcp").allowed


def test_adopt_keeps_who_is_inside_a_prefix(node: NetNS, bpffs: Path) -> None:
    with node.run(lambda: Datapath.open(pin="p", bpffs=bpffs)) as dp:
        dp.endpoints.create("10.1.0.10", labels={"app": "web"}, name="web")
        dp.endpoints.create("10.1.0.20", labels={"app": "db"}, name="db")
        dp.policies.apply(Policy.allow(to="app=db", from_="10.1.0.10/32"))
        before = [dp.object.maps["pcl_endpoints"][e.ifindex].ipv4_identity for e in dp.endpoints]
    with node.run(lambda: Datapath.adopt("p", bpffs=bpffs)) as dp:
        after = [dp.object.maps["pcl_endpoints"][e.ifindex].ipv4_identity for e in dp.endpoints]
        assert after == before
        assert dp.explain("web", dp.endpoints["db"], "80/tcp").allowed
        dp.policies.apply([])
        dp.destroy()
