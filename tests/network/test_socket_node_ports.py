# SPDX-License-Identifier: Apache-2.0
"""Ports of the node that are a service's: reached from the node, and nobody else's."""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from network.socket_lab import DB, DB2, NODE, TCP, UDP, VIP4, WEB, Lab, ask, asked, open_lab
from pycilium import Datapath, ServiceLB, SpecError
from pycilium.net import NetNS, addresses
from support import cgroups
from support.servers import echo

pytestmark = pytest.mark.root

PORT = 30080
NODE4, NODE6 = NODE
HERE = [NODE4, "127.0.0.1", "127.8.9.1", NODE6, "::1", f"::ffff:{NODE4}", "::ffff:127.0.0.1"]
HERE_WAYS = pytest.mark.parametrize("address", HERE)


def node_ports(
    server: tuple[str, str] = DB, *, v4: str = "0.0.0.0", v6: str = "::", **more: Any
) -> list[ServiceLB]:
    """TCP and UDP at one port of the node."""
    options = {"kind": "NodePort", "name": "shop/web", **more}
    ends = ((v4, f"{server[0]}:7000"), (f"[{v6}]", f"[{server[1]}]:7000"))
    return [
        ServiceLB(f"{at}:{PORT}/{protocol}", backends=[backend], **options)
        for at, backend in ends
        for protocol in ("tcp", "udp")
    ]


@HERE_WAYS
@pytest.mark.parametrize("kind", ["NodePort", "HostPort"])
def test_node_reaches_its_ports_at_each_of_its_addresses(lab: Lab, address: str, kind: str) -> None:
    lab.dp.services.apply(node_ports(kind=kind))
    with lab.connect("host", address, PORT) as one:
        assert ask(one) == "db"
        assert one.getpeername()[:2] == (address, PORT)
    with lab.connect("host", address, PORT, UDP) as one:
        assert ask(one) == "db"
    with lab.socket("host", address, UDP) as one:
        assert asked(one, address, PORT) == "db"


def test_endpoint_reaches_ports_of_its_node(lab: Lab) -> None:
    """At the node's addresses; its own loopback is its own."""
    lab.dp.services.apply(node_ports())
    for address in (NODE4, NODE6, f"::ffff:{NODE4}"):
        with lab.connect("web", address, PORT) as one:
            assert ask(one) == "db"
        with lab.socket("web", address, UDP) as one:
            assert asked(one, address, PORT) == "db"
    for address in ("127.0.0.1", "::1", WEB[0], DB[0]):
        with pytest.raises(ConnectionRefusedError):
            lab.connect("web", address, PORT)


def test_only_the_nodes_addresses(lab: Lab) -> None:
    """Not another host's, and not one that the node no longer has."""
    lab.dp.services.apply(node_ports())
    with lab.socket("host", "192.0.2.7") as one:
        assert one.connect_ex(("192.0.2.7", PORT)) != 0
    addresses.add("10.0.0.5/32", 1, ns=lab.node)
    lab.dp.services.apply(node_ports(DB2))
    with lab.connect("host", "10.0.0.5", PORT) as one:
        assert ask(one) == "db2"
    addresses.remove("10.0.0.5/32", 1, ns=lab.node)
    lab.dp.services.apply(node_ports(DB))
    with lab.socket("host", "10.0.0.5") as one:
        assert one.connect_ex(("10.0.0.5", PORT)) != 0


def test_port_at_one_address_goes_before_that_of_all(lab: Lab) -> None:
    own = ServiceLB(f"{NODE4}:{PORT}/tcp", backends=[f"{DB2[0]}:7000"], kind="NodePort", name="own")
    lab.dp.services.apply([*node_ports(), own])
    for address, server in ((NODE4, "db2"), ("127.0.0.1", "db")):
        with lab.connect("host", address, PORT) as one:
            assert ask(one) == server


def test_removed_backend_ends_the_sockets_of_every_address_and_no_other(lab: Lab) -> None:
    same = ServiceLB(f"{VIP4}:80/tcp", backends=[f"{DB[0]}:7000"])
    lab.dp.services.apply([*node_ports(), same])
    with ExitStack() as stack:
        mine = [stack.enter_context(lab.connect("host", one, PORT)) for one in HERE]
        other = stack.enter_context(lab.connect("host", VIP4, 80))
        lab.dp.services.apply([*node_ports(DB2), same])
        for one in mine:
            with pytest.raises(ConnectionAbortedError):
                one.recv(1)
        assert ask(other) == "db"


def try_bind(where: Any, address: str, port: int = PORT, kind: int = TCP) -> str:
    """What a process is told that wants a port."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with where.run(socket.socket, family, kind) as one:
        try:
            one.bind((address, port))
        except OSError as error:
            return os.strerror(error.errno or 0)
        assert one.getsockname()[1] == port
        return "bound"


BUSY = "Address already in use"


@pytest.mark.parametrize("address", ["0.0.0.0", "::", *HERE])
@pytest.mark.parametrize("kind", [TCP, UDP])
def test_port_of_every_address_cannot_be_bound(lab: Lab, address: str, kind: int) -> None:
    assert try_bind(lab.node, address, kind=kind) == "bound"
    lab.dp.services.apply(node_ports())
    assert try_bind(lab.node, address, kind=kind) == BUSY
    assert try_bind(lab.node, address, PORT + 1, kind) == "bound"
    (told,) = lab.dp.status().refused_binds
    assert (told.service, told.frontend.port, told.count) == ("shop/web", PORT, 1)
    assert f"refused bind                 {told.frontend} of shop/web: 1 times" in str(
        lab.dp.status()
    )
    lab.dp.services.apply([])
    assert try_bind(lab.node, address, kind=kind) == "bound"
    assert lab.dp.status().refused_binds == ()


def test_port_of_one_address(lab: Lab) -> None:
    """A bind to it, or to the wildcard that has it, but not to another address."""
    addresses.add("10.0.0.2/32", 1, ns=lab.node)
    lab.dp.services.apply(node_ports(v4=NODE4, v6=NODE6))
    for address, told in (
        (NODE4, BUSY), ("0.0.0.0", BUSY), (f"::ffff:{NODE4}", BUSY), (NODE6, BUSY), ("::", BUSY),
        ("10.0.0.2", "bound"), ("127.0.0.1", "bound"), ("::1", "bound"),
    ):  # fmt: skip
        assert try_bind(lab.node, address) == told, address


def test_addresses_that_are_the_services_own(lab: Lab) -> None:
    """A load balancer's address keeps its port, and the node's wildcard is free."""
    addresses.add("198.51.100.7/32", 1, ns=lab.node)
    one = ServiceLB("198.51.100.7:443/tcp", backends=[f"{DB[0]}:7000"], kind="LoadBalancer")
    inside = ServiceLB(f"{NODE4}:444/tcp", backends=[f"{DB[0]}:7000"])
    lab.dp.services.apply([one, inside])
    assert try_bind(lab.node, "198.51.100.7", 443) == BUSY
    assert try_bind(lab.node, "198.51.100.7", 443, UDP) == "bound"
    assert try_bind(lab.node, "0.0.0.0", 443) == "bound"
    assert try_bind(lab.node, NODE4, 444) == "bound"


def test_who_may_bind(lab: Lab) -> None:
    """An endpoint, a namespace of nobody, and an exempt cgroup."""
    lab.dp.services.apply(node_ports())
    assert try_bind(lab.where("web"), "0.0.0.0") == "bound"
    with NetNS.create() as other:
        assert try_bind(other, "0.0.0.0") == "bound"
    assert try_bind(lab.node, "0.0.0.0") == BUSY
    with cgroups.inside(f"{lab.cgroup.name}/mesh") as mesh:
        lab.dp.sockets.exclude([mesh])
        assert try_bind(lab.node, "0.0.0.0") == "bound"


def test_two_services_share_the_wildcard(lab: Lab) -> None:
    """It is free when the last of them has gone."""
    addresses.add("10.0.0.2/32", 1, ns=lab.node)
    one, other = (
        ServiceLB(f"{at}:{PORT}/tcp", backends=[f"{DB[0]}:7000"], kind="NodePort")
        for at in (NODE4, "10.0.0.2")
    )
    lab.dp.services.apply([one, other])
    lab.dp.services.apply([other])
    assert try_bind(lab.node, NODE4) == "bound"
    assert try_bind(lab.node, "0.0.0.0") == BUSY
    lab.dp.services.apply([])
    assert try_bind(lab.node, "0.0.0.0") == "bound"


@pytest.mark.parametrize("address", ["0.0.0.0", NODE4, "127.0.0.1", "::", "::1", f"::ffff:{NODE4}"])
@pytest.mark.parametrize("kind", [TCP, UDP])
def test_port_that_a_process_has_is_refused(lab: Lab, address: str, kind: int) -> None:
    """Names service, port and holder, and changes nothing; go_on leaves it out."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    fine = ServiceLB(f"{VIP4}:81/tcp", backends=[f"{DB[0]}:7000"])
    with lab.node.run(socket.socket, family, kind) as held:
        held.bind((address, PORT))
        if kind == TCP:
            held.listen()
        text = rf"service shop/web: frontend.*:{PORT}/.*\(pid {os.getpid()}\) has .*:{PORT}"
        before = tuple(lab.dp.services)
        with pytest.raises(SpecError, match=text):
            lab.dp.services.apply([fine, *node_ports()])
        assert tuple(lab.dp.services) == before
        refused = lab.dp.services.refused([fine, *node_ports()])
        assert {error.field for error in refused} == {"service shop/web: frontend"}
        lab.dp.services.apply([fine, *node_ports()], go_on=True)
        assert len(list(lab.dp.services)) == 5 - len(refused)
    lab.dp.services.apply([fine, *node_ports()])
    assert len(list(lab.dp.services)) == 5


def test_sockets_that_are_in_nobodys_way(lab: Lab) -> None:
    """Another port, protocol or namespace, one family only, and the peer of a connection."""
    with ExitStack() as stack:
        for where, family, kind, address, port in (
            (lab.node, socket.AF_INET, TCP, "0.0.0.0", PORT + 1),
            (lab.where("web"), socket.AF_INET, TCP, "0.0.0.0", PORT),
            (lab.node, socket.AF_INET6, UDP, "::", PORT),
        ):
            one = stack.enter_context(where.run(socket.socket, family, kind))
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind((address, port))
            if kind == TCP:
                one.listen()
        client = stack.enter_context(lab.socket("host", DB[0]))
        client.bind(("0.0.0.0", PORT))
        client.connect((DB[0], 7000))
        four = [one for one in node_ports() if one.frontend.address.version == 4]
        assert lab.dp.services.refused(four) == ()
        lab.dp.services.apply(four)
        assert ask(client) == "db"


def test_services_in_force_are_not_asked_again(lab: Lab) -> None:
    """A change of backends is no new claim."""
    lab.dp.services.apply(node_ports())
    with cgroups.inside(f"{lab.cgroup.name}/mesh") as mesh:
        lab.dp.sockets.exclude([mesh])
        with lab.node.run(socket.socket) as one:
            one.bind(("0.0.0.0", PORT))
            one.listen()
            lab.dp.services.apply(node_ports(DB2))
            assert lab.dp.services.refused(node_ports()) == ()


def test_without_guard(node: NetNS, cgroup: Path) -> None:
    with open_lab(node, cgroup, guard_ports=False) as lab, lab.node.run(socket.socket) as one:
        one.bind(("0.0.0.0", PORT))
        one.listen()
        lab.dp.services.apply(node_ports())
        assert try_bind(lab.node, NODE6) == "bound"
        assert "post_bind" not in str(lab.dp.status().sockets)
        with lab.connect("host", "127.0.0.1", PORT) as client:
            assert ask(client) == "db"


_PINNED = """
import os, signal, sys
from pathlib import Path
from pycilium import Datapath, ServiceLB
(Path(sys.argv[2]) / "cgroup.procs").write_text(str(os.getpid()))
dp = Datapath.open(pin="ports", bpffs=sys.argv[1], socket_lb=sys.argv[2])
dp.endpoints.create("10.1.0.20", labels={"app": "db"}, name="db")
dp.services.apply([
    ServiceLB(f"0.0.0.0:{p}", backends=["10.1.0.20:7000"], kind="NodePort", name=name)
    for p, name in ((30080, "shop/web"), (30081, ""))
])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_killed_and_adopted(node: NetNS, bpffs: Path, cgroup: Path) -> None:
    """Guarded while nobody runs it, and after; counts stay."""
    addresses.add(f"{NODE4}/32", 1, ns=node)
    child = node.popen(
        [sys.executable, "-c", _PINNED, str(bpffs), str(cgroup)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert child.wait(30) == -signal.SIGKILL
    assert try_bind(node, "0.0.0.0") == BUSY
    with ExitStack() as stack:
        dp = stack.enter_context(node.run(lambda: Datapath.adopt("ports", bpffs=str(bpffs))))
        stack.callback(dp.destroy)
        (told,) = dp.status().refused_binds
        assert (told.service, told.count) == ("shop/web", 1)
        dp.reload()
        assert try_bind(node, "127.0.0.1", PORT + 1) == BUSY
        stack.enter_context(echo(dp.endpoints["db"], "db", 7000))
        with node.run(socket.create_connection, ("127.0.0.1", PORT), 2) as one:
            assert ask(one) == "db"
        dp.services.apply([one for one in dp.services if one.frontend.port == PORT])
        assert try_bind(node, "0.0.0.0", PORT + 1) == "bound"
        assert try_bind(node, "0.0.0.0") == BUSY
