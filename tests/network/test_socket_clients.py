# SPDX-License-Identifier: Apache-2.0
"""Who a client is at the socket: session affinity and source ranges, as for its packets."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

import pytest

from network.socket_lab import DB, DB2, MAPPED, NODE, TCP, UDP, VIP4, VIP6, WEB, Lab, ask, asked
from pycilium import Backend, ServiceLB
from pycilium.net import addresses
from support import cgroups

pytestmark = pytest.mark.root

WAYS = pytest.mark.parametrize("vip", [VIP4, VIP6, MAPPED])
CLIENTS = pytest.mark.parametrize("client", ["web", "host"])


def both(*, states: tuple[str, str] = ("active", "active"), **more: Any) -> list[ServiceLB]:
    """TCP and UDP of both families over both servers."""
    found = []
    for vip, at in ((VIP4, 0), (f"[{VIP6}]", 1)):
        servers = zip((DB, DB2), states, strict=True)
        backends = [Backend(ip_address(one[at]), 7000, state=state) for one, state in servers]
        found += [ServiceLB(f"{vip}:{p}", backends=backends, **more) for p in ("80/tcp", "53/udp")]
    return found


def sticky(**more: Any) -> list[ServiceLB]:
    return both(session_affinity="ClientIP", **more)


def answers(lab: Lab, client: str, vip: str, times: int = 12) -> set[str]:
    """Who answers connections, each from a socket of its own."""
    found = set()
    for _ in range(times):
        with lab.connect(client, vip, 80) as one:
            found.add(ask(one))
    return found


@WAYS
@CLIENTS
def test_affinity(lab: Lab, client: str, vip: str) -> None:
    lab.dp.services.apply(both())
    assert answers(lab, client, vip, 40) == {"db", "db2"}
    lab.dp.services.apply(sticky())
    assert len(answers(lab, client, vip)) == 1
    found = set()
    for _ in range(12):
        with lab.socket(client, vip, UDP) as one, lab.connect(client, vip, 53, UDP) as connected:
            found |= {asked(one, vip, 53), ask(connected)}
    assert len(found) == 1


@contextmanager
def without_sockets(lab: Lab) -> Iterator[Any]:
    """A client in web that the socket layer leaves alone: its packets are translated."""
    below = lab.cgroup / "packets"
    below.mkdir()
    code = (
        "import socket, sys\n"
        "for line in sys.stdin:\n"
        "    with socket.create_connection((line.strip(), 80), 2) as one:\n"
        "        one.send(b'hello'); print(one.recv(100).split()[0].decode(), flush=True)\n"
    )
    netns = lab.dp.endpoints["web"].netns
    assert netns is not None
    child = netns.popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        (below / "cgroup.procs").write_text(str(child.pid))
        lab.dp.sockets.exclude([below])
        yield child
    finally:
        child.communicate()
        cgroups.remove(below)


@pytest.mark.parametrize("vip", [VIP4, VIP6])
@pytest.mark.parametrize("first", ["socket", "packet"])
def test_affinity_is_one_for_sockets_and_packets(lab: Lab, vip: str, first: str) -> None:
    """Whichever comes first decides; tried with fresh services, so that chance cannot hide it."""
    with without_sockets(lab) as child:

        def by_packet() -> str:
            child.stdin.write(f"{vip}\n".encode())
            child.stdin.flush()
            return str(child.stdout.readline().decode().strip())

        def by_socket() -> str:
            return next(iter(answers(lab, "web", vip, 1)))

        chosen = set()
        for _ in range(12):
            lab.dp.services.apply([])
            lab.dp.services.apply(sticky())
            one, other = (by_socket, by_packet) if first == "socket" else (by_packet, by_socket)
            server = one()
            assert other() == server
            chosen.add(server)
        assert chosen == {"db", "db2"}


def test_affinity_knows_clients_apart(lab: Lab) -> None:
    """By namespace, and by the address that a socket is bound to."""
    lab.dp.services.apply(sticky())
    for client in ("web", "db", "db2", "host"):
        assert len(answers(lab, client, VIP4)) == 1
    for number in range(2, 10):
        addresses.add(f"10.0.0.{number}/32", 1, ns=lab.node)
    seen = set()
    for number in range(2, 10):
        for _ in range(3):
            with lab.socket("host", VIP4) as one:
                one.bind((f"10.0.0.{number}", 0))
                one.connect((VIP4, 80))
                seen.add((number, ask(one)))
    assert len(seen) == 8
    keys = {bytes(key.client.bytes[:4]) for key in lab.dp.object.maps["pcl_affinity"]}
    expected = [NODE[0], WEB[0], DB[0], DB2[0], *(f"10.0.0.{n}" for n in range(2, 10))]
    assert keys == {ip_address(one).packed for one in expected}


@pytest.mark.parametrize("state", ["terminating", "quarantined", "maintenance"])
def test_affinity_never_picks_what_is_not_active(lab: Lab, state: str) -> None:
    lab.dp.services.apply(sticky())
    (before,) = answers(lab, "web", VIP4)
    states = (state, "active") if before == "db" else ("active", state)
    lab.dp.services.apply(sticky(states=states))
    after = {"db": "db2", "db2": "db"}[before]
    assert answers(lab, "web", VIP4) == {after}
    with lab.socket("web", VIP4, UDP) as one:
        assert asked(one, VIP4, 53) == after
    lab.dp.services.apply(sticky())
    assert answers(lab, "web", VIP4) == {after}


def test_affinity_ends_after_its_timeout(lab: Lab) -> None:
    """Its seconds count from the last new connection; then chance has both servers again."""
    lab.dp.services.apply(sticky(affinity_timeout=1))
    for _ in range(4):
        assert len(answers(lab, "host", VIP4)) == 1
        time.sleep(0.3)
    found = set()
    deadline = time.monotonic() + 60
    while len(found) < 2 and time.monotonic() < deadline:
        time.sleep(1.1)
        found |= answers(lab, "host", VIP4, 1)
    assert found == {"db", "db2"}


def ranged(v4: str, v6: str, mode: str = "allow") -> list[ServiceLB]:
    """The services for clients of these prefixes, or of all others."""
    return [
        ServiceLB(
            one.frontend,
            backends=one.backends,
            source_ranges=[v4 if one.frontend.address.version == 4 else v6],
            source_ranges_mode=mode,
        )
        for one in both()
    ]


def admitted(lab: Lab, client: str, vip: str) -> bool:
    """Whether all three ways in are open; it is never some of them."""
    found = []
    for kind, port in ((TCP, 80), (UDP, 53)):
        try:
            lab.connect(client, vip, port, kind).close()
            found.append(True)
        except PermissionError:
            found.append(False)
    with lab.socket(client, vip, UDP) as one:
        try:
            found.append(asked(one, vip, 53) in ("db", "db2"))
        except PermissionError:
            found.append(False)
    assert len(set(found)) == 1
    return found[0]


@WAYS
@pytest.mark.parametrize("mode", ["allow", "deny"])
def test_source_ranges(lab: Lab, vip: str, mode: str) -> None:
    """The node is its own address, an endpoint its."""
    inside = mode == "allow"
    lab.dp.services.apply(ranged(f"{NODE[0]}/32", f"{NODE[1]}/128", mode))
    assert (admitted(lab, "host", vip), admitted(lab, "web", vip)) == (inside, not inside)
    lab.dp.services.apply(ranged(f"{WEB[0]}/32", f"{WEB[1]}/128", mode))
    assert (admitted(lab, "host", vip), admitted(lab, "web", vip)) == (not inside, inside)
    lab.dp.services.apply(ranged("0.0.0.0/0", "::/0", mode))
    assert (admitted(lab, "host", vip), admitted(lab, "web", vip)) == (inside, inside)
    refused = lab.dp.counters()["PCL_DROP_SOURCE_RANGE"].packets
    assert refused == 3 * (2 if inside else 4)


def test_source_ranges_judge_the_address_that_a_socket_is_bound_to(lab: Lab) -> None:
    addresses.add("10.0.0.2/32", 1, ns=lab.node)
    lab.dp.services.apply(ranged("10.0.0.2/32", "fd0f::2/128"))
    assert not admitted(lab, "host", VIP4)
    with lab.socket("host", VIP4) as one:
        one.bind(("10.0.0.2", 0))
        one.connect((VIP4, 80))
        assert ask(one) in ("db", "db2")


def test_node_whose_address_changes(lab: Lab) -> None:
    """From the next apply on that needs it."""
    lab.dp.services.apply(ranged("10.0.0.2/32", "fd0f::2/128"))
    assert not admitted(lab, "host", VIP4)
    addresses.remove(f"{NODE[0]}/32", 1, ns=lab.node)
    addresses.add("10.0.0.2/32", 1, ns=lab.node)
    lab.dp.services.apply(ranged("10.0.0.2/31", "fd0f::2/128"))
    assert admitted(lab, "host", VIP4)


def test_open_sockets_are_not_judged_again(lab: Lab) -> None:
    lab.dp.services.apply(both())
    with lab.connect("web", VIP4, 80) as tcp, lab.socket("web", VIP4, UDP) as udp:
        server = asked(udp, VIP4, 53)
        lab.dp.services.apply(ranged("192.0.2.0/24", "2001:db8::/32"))
        assert not admitted(lab, "web", VIP4)
        assert ask(tcp) in ("db", "db2")
        assert asked(udp, VIP4, 53) == server


def test_refused_for_want_of_a_backend_is_counted(lab: Lab) -> None:
    lab.dp.services.apply([ServiceLB(f"{VIP4}:80/tcp", backends=[])])
    with lab.socket("host", VIP4) as one:
        assert one.connect_ex((VIP4, 80)) != 0
    assert lab.dp.counters()["PCL_DROP_NO_BACKEND"].packets == 1
