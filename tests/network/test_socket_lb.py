# SPDX-License-Identifier: Apache-2.0
"""Services at the socket: the application sees the frontend, the kernel and policy the backend."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from network.socket_lab import DB, DB2, MAPPED, TCP, UDP, VIP4, VIP6, WEB, Lab, ask, asked, services
from pycilium import Backend, Datapath, Policy, ServiceLB, SpecError
from pycilium.datapath.cgroup import choose
from pycilium.datapath.gone import GoneSockets
from pycilium.lb.columns import ServiceColumns
from pycilium.libbpf import ObjectSpec, read_iterator
from pycilium.libbpf._build import compile_bpf
from pycilium.libbpf.kinds import ADDRESS_HOOKS, BIND_HOOKS, MapType
from pycilium.net import NetNS, addresses
from support import cgroups
from support.servers import echo

pytestmark = pytest.mark.root

WAYS = pytest.mark.parametrize("vip", [VIP4, VIP6, MAPPED])
CLIENTS = pytest.mark.parametrize("client", ["web", "host"])


@WAYS
@CLIENTS
def test_tcp(lab: Lab, client: str, vip: str) -> None:
    with lab.connect(client, vip, 80) as one:
        assert one.getpeername()[:2] == (vip, 80)
        assert ask(one) == "db"
        backend = DB[1] if vip == VIP6 else DB[0]
        assert f"{backend}:7000" in lab.peers(client)
        assert f"{vip}:80" not in lab.peers(client)


@WAYS
@CLIENTS
def test_connected_udp(lab: Lab, client: str, vip: str) -> None:
    with lab.connect(client, vip, 53, UDP) as one:
        assert one.getpeername()[:2] == (vip, 53)
        assert ask(one) == "db"
        assert asked(one, vip, 53) == "db"
        one.send(b"again")
        assert one.recvfrom(100)[1][:2] == (vip, 53)


@WAYS
@CLIENTS
def test_unconnected_udp(lab: Lab, client: str, vip: str) -> None:
    with lab.socket(client, vip, UDP) as one:
        assert asked(one, vip, 53) == "db"
        with pytest.raises(OSError, match="not connected"):
            one.getpeername()


def test_one_socket_asks_many_services(lab: Lab) -> None:
    """Each answer comes from the service that was asked, though they share a backend."""
    vips = [(f"10.96.1.{n}", f"fd96:1::{n}") for n in range(1, 41)]
    lab.dp.services.apply([s for vip in vips for s in services(DB, vips=vip)])
    with lab.socket("web", VIP4, UDP) as one:
        for vip4, _ in vips + vips[::-1]:
            assert asked(one, vip4, 53) == "db"
            assert asked(one, vips[0][0], 53) == "db"


@CLIENTS
def test_client_is_its_own_backend(lab: Lab, client: str) -> None:
    lab.dp.services.apply(services(WEB))
    with lab.connect(client, VIP4, 80) as one:
        assert ask(one) == "web"


@CLIENTS
@pytest.mark.parametrize("vip", [VIP4, VIP6, MAPPED])
def test_no_backend_is_refused_at_once(lab: Lab, client: str, vip: str) -> None:
    lab.dp.services.apply(services())
    for kind, port in ((TCP, 80), (UDP, 53)):
        with pytest.raises(ConnectionRefusedError):
            lab.connect(client, vip, port, kind)
    with lab.socket(client, vip, UDP) as one, pytest.raises(ConnectionRefusedError):
        one.sendto(b"hello", (vip, 53))


def test_what_is_no_service_is_untouched(lab: Lab) -> None:
    for address, port, kind in ((DB[0], 7000, TCP), (DB[1], 7000, UDP)):
        with lab.connect("web", address, port, kind) as one:
            assert one.getpeername()[:2] == (address, port)
            assert ask(one) == "db"
    for port, kind in ((81, TCP), (53, TCP), (80, UDP)):  # another port, another protocol
        with lab.socket("host", VIP4, kind) as one:
            one.setblocking(False)
            one.connect_ex((VIP4, port))
            assert f"{DB[0]}:7000" not in lab.peers("host")


def test_socket_that_connects_elsewhere_forgets_the_service(lab: Lab) -> None:
    with lab.connect("web", VIP4, 53, UDP) as one:
        one.connect((DB[0], 7000))
        assert one.getpeername() == (DB[0], 7000)
        one.send(b"hello")
        assert one.recvfrom(100)[1] == (DB[0], 7000)


def test_namespace_of_nobody_is_left_alone(lab: Lab) -> None:
    with NetNS.create() as other:
        addresses.add(f"{VIP4}/32", 1, ns=other)
        with echo(other, "other", 80), other.run(socket.create_connection, (VIP4, 80), 2) as one:
            assert ask(one) == "other"


_CHILD = """
import socket, sys
for line in sys.stdin:
    one = socket.socket()
    one.settimeout(1)
    try:
        one.connect(("10.96.0.1", 80))
        one.send(b"hello")
        print(one.recv(100).split()[0].decode(), flush=True)
    except OSError as error:
        print(type(error).__name__, flush=True)
    one.close()
"""


def test_exempt_cgroup(lab: Lab) -> None:
    """It and what is below it; everybody else goes on."""
    below = lab.cgroup / "mesh" / "pod"
    below.mkdir(parents=True)
    command = [sys.executable, "-c", _CHILD]
    child = lab.node.popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        (below / "cgroup.procs").write_text(str(child.pid))
        assert try_once(child) == "db"
        assert lab.dp.sockets.exclude([lab.cgroup / "mesh"]).added == 1
        assert try_once(child) == "OSError"  # no route: the host's packets are not translated
        with lab.connect("host", VIP4, 80) as one:
            assert ask(one) == "db"
        assert not lab.dp.sockets.exclude([lab.cgroup / "mesh"])
        assert lab.dp.sockets.exclude([]).removed == 1
        assert try_once(child) == "db"
    finally:
        child.communicate()
        cgroups.remove(below)
        cgroups.remove(below.parent)


def try_once(child: Any) -> str:
    child.stdin.write(b"go\n")
    child.stdin.flush()
    return str(child.stdout.readline().decode().strip())


@pytest.mark.parametrize("bad", ["/tmp", "/nonexistent", 5, None, b"/sys", "/sys/fs/cgroup/cpu"])
def test_bad_directories(lab: Lab, bad: Any) -> None:
    with pytest.raises(SpecError, match=r"cgroup2 file system, such as /"):
        lab.node.run(lambda: Datapath.open(socket_lb=bad))
    with pytest.raises(SpecError, match="paths"):
        lab.dp.sockets.exclude([bad])


def test_true_is_the_root() -> None:
    root = Path(choose(True) or "")
    assert (root / "cgroup.controllers").exists()
    assert not (root.parent / "cgroup.controllers").exists()
    assert choose(False) is None


def test_contradictions(node: NetNS, cgroup: Path) -> None:
    with pytest.raises(SpecError, match="services=False"):
        node.run(lambda: Datapath.open(socket_lb=cgroup, services=False))
    with node.run(Datapath.open) as dp:
        assert dp.status().sockets == "off"
        with pytest.raises(SpecError, match="socket_lb"):
            dp.sockets.exclude([cgroup])


def test_established_connections_keep_their_backend(lab: Lab) -> None:
    with lab.connect("web", VIP4, 80) as tcp, lab.socket("web", VIP4, UDP) as udp:
        assert asked(udp, VIP4, 53) == "db"
        lab.dp.services.apply(services(DB2, DB))
        seen = set()
        for _ in range(40):
            assert ask(tcp) == "db"
            assert asked(udp, VIP4, 53) == "db"
            with lab.connect("web", VIP4, 80) as new:
                seen.add(ask(new))
        assert seen == {"db", "db2"}


@pytest.mark.parametrize("in_kernel", [True, False])
@pytest.mark.parametrize(("kind", "port"), [(TCP, 80), (UDP, 53)])
@pytest.mark.parametrize("vip", [VIP4, VIP6, MAPPED])
def test_removed_backend_ends_its_sockets_and_no_other(
    lab: Lab, kind: int, port: int, vip: str, in_kernel: bool
) -> None:
    dp = lab.dp
    peers = dp.sockets._object.maps["pcl_peers"]
    dp.sockets._gone = GoneSockets(peers, dp.sockets.find_namespace, in_kernel=in_kernel)
    other = ("10.96.0.9", "fd96::9")
    other_vip = {VIP4: other[0], VIP6: other[1], MAPPED: f"::ffff:{other[0]}"}[vip]
    direct = DB[1] if vip == VIP6 else DB[0]
    dp.services.apply(services(DB, vips=other) + services(DB))
    with ExitStack() as stack:
        mine = [stack.enter_context(lab.connect(c, vip, port, kind)) for c in ("web", "host")]
        spared = [
            stack.enter_context(lab.connect(c, address, at, kind))
            for c in ("web", "host")
            for address, at in ((other_vip, port), (direct, 7000))
        ]
        dp.services.apply(services(DB, vips=other) + services(DB2))
        spared.append(stack.enter_context(lab.connect("web", vip, port, kind)))
        for one in mine:
            with pytest.raises(ConnectionAbortedError):
                one.recv(1)
        assert [ask(one) for one in spared] == ["db"] * 4 + ["db2"]


def test_connected_udp_recovers_within_a_second(lab: Lab) -> None:
    with ExitStack() as stack:
        one = stack.enter_context(lab.connect("web", VIP4, 53, UDP))
        assert ask(one) == "db"
        one.settimeout(1)
        changer = threading.Timer(0.1, lab.dp.services.apply, [services(DB2)])
        changer.start()
        with pytest.raises(ConnectionAbortedError):  # not the timeout of one second
            one.recv(100)
        changer.join()
        one.connect((VIP4, 53))
        assert ask(one) == "db2"


def test_unconnected_udp_leaves_a_backend_that_went(lab: Lab) -> None:
    with lab.socket("web", VIP4, UDP) as one:
        assert asked(one, VIP4, 53) == "db"
        lab.dp.services.apply(services(DB2))
        assert asked(one, VIP4, 53) == "db2"
        lab.dp.services.apply([])
        lab.dp.services.apply(services(DB))
        assert asked(one, VIP4, 53) == "db"


def in_state(state: str) -> list[ServiceLB]:
    """Both servers over IPv4, the first of them in a state."""
    backends = [
        Backend(ip_address(DB[0]), 7000, state=state),
        Backend(ip_address(DB2[0]), 7000),
    ]
    return [ServiceLB(f"{VIP4}:{port}", backends=backends) for port in ("80/tcp", "53/udp")]


@pytest.mark.parametrize("state", ["terminating", "quarantined", "maintenance"])
def test_state_of_a_backend(lab: Lab, state: str) -> None:
    """New connections go elsewhere; those that it has stay, unless it is in maintenance."""
    with (
        lab.connect("web", VIP4, 80) as tcp,
        lab.connect("web", VIP4, 53, UDP) as connected,
        lab.socket("web", VIP4, UDP) as udp,
    ):
        assert asked(udp, VIP4, 53) == "db"
        lab.dp.services.apply(in_state(state))
        for _ in range(10):
            with lab.connect("web", VIP4, 80) as new:
                assert ask(new) == "db2"
        assert asked(udp, VIP4, 53) == ("db2" if state == "maintenance" else "db")
        for one in (tcp, connected):
            if state == "maintenance":
                with pytest.raises(ConnectionAbortedError):
                    one.recv(1)
            else:
                assert ask(one) == "db"


def test_many_datagrams_leave_nothing_behind(lab: Lab, tmp_path: Path) -> None:
    """10^5 datagrams from 500 sockets: what was kept goes with the sockets."""
    source = Path(__file__).parent / "programs" / "count_sockets.bpf.c"
    compile_bpf(source, tmp_path / "count_sockets.bpf.o")
    table = lab.dp.sockets._object.maps["pcl_sends"]
    before = memory(lab)
    with ObjectSpec.from_file(tmp_path / "count_sockets.bpf.o").load() as counter:
        program = counter.programs["count_sockets"]
        for _ in range(5):
            senders = [lab.socket("host", VIP4, UDP) for _ in range(100)]
            for number in range(20_000):
                senders[number % 100].sendto(b"quiet", (VIP4, 53))
            assert len(read_iterator(program, table)) == 100
            for one in senders:
                one.close()
        deadline = time.monotonic() + 5
        while read_iterator(program, table) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert read_iterator(program, table) == b""
    assert memory(lab) == before


def memory(lab: Lab) -> dict[str, tuple[int, int]]:
    """Of every map that the socket layer uses, the entries and the bytes that the kernel counts."""
    found = {}
    for name, one in lab.dp.sockets._object.maps.items():
        told = Path(f"/proc/self/fdinfo/{one.fd}").read_text()
        (taken,) = (int(line.split()[1]) for line in told.splitlines() if "memlock" in line)
        found[name] = (0 if one.type is MapType.SK_STORAGE else len(one), taken)
    return found


def test_policy_judges_the_backend(lab: Lab) -> None:
    allow = Policy.allow(from_="app=web", to="app=db", ports="7000/tcp")
    lab.dp.policies.apply(allow)
    with lab.connect("web", VIP4, 80) as one:
        assert ask(one) == "db"
    with pytest.raises(TimeoutError):
        lab.connect("db2", VIP4, 80)
    with lab.socket("web", VIP4, UDP) as one:
        one.settimeout(0.3)
        with pytest.raises(TimeoutError):
            asked(one, VIP4, 53)
    steps = lab.dp.explain("web", f"{VIP4}:80/tcp").steps
    assert [one.stage for one in steps][:2] == ["socket", "parse"]
    assert "straight to a backend" in str(steps[0])
    assert lab.dp.explain("web", f"{DB[0]}:7000/tcp").steps[0].stage == "parse"


def test_no_wrong_destination_while_services_change(lab: Lab) -> None:
    """Two services over disjoint backends, rewritten 200 times beside connects of both."""
    stop = threading.Event()
    answers: dict[str, list[str]] = {VIP4: [], "10.96.0.9": []}

    def connect(vip: str) -> None:
        while not stop.is_set():
            with lab.connect("host", vip, 80) as one:
                answers[vip].append(ask(one))

    threads = [threading.Thread(target=connect, args=(vip,)) for vip in answers]
    other = ("10.96.0.9", "fd96::9")
    lab.dp.services.apply(services(DB) + services(DB2, vips=other))
    for one in threads:
        one.start()
    try:
        for number in range(200):
            both = services(DB) + services(DB2, vips=other)
            extra = services(WEB, vips=(f"10.96.2.{number % 5 + 1}", f"fd96:2::{number % 5 + 1}"))
            lab.dp.services.apply(both[::-1] + extra if number % 2 else extra + both)
    finally:
        stop.set()
        for one in threads:
            one.join()
    assert set(answers[VIP4]) == {"db"}
    assert set(answers["10.96.0.9"]) == {"db2"}
    assert min(map(len, answers.values())) > 20


def test_reload_and_close(lab: Lab) -> None:
    status = lab.dp.status().sockets
    assert status == f"{lab.cgroup}: {' '.join(ADDRESS_HOOKS | BIND_HOOKS)}"
    with lab.connect("host", VIP4, 80) as one:
        lab.dp.reload()
        assert lab.dp.status().sockets == status
        assert one.getpeername() == (VIP4, 80)
        with lab.connect("host", VIP4, 80) as new:
            assert ask(new) == "db"
        lab.dp.services.apply(services(DB2))
        with pytest.raises(ConnectionAbortedError):
            one.recv(1)


_PINNED = """
import os, signal, sys
from pathlib import Path
from pycilium import Datapath, ServiceLB
(Path(sys.argv[2]) / "cgroup.procs").write_text(str(os.getpid()))
dp = Datapath.open(pin="sock", bpffs=sys.argv[1], socket_lb=sys.argv[2])
dp.endpoints.create("10.1.0.10", labels={"app": "web"}, name="web")
dp.endpoints.create("10.1.0.20", labels={"app": "db"}, name="db")
dp.services.apply([ServiceLB("10.96.0.1:80/tcp", backends=["10.1.0.20:7000"])])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_killed_and_adopted(node: NetNS, bpffs: Path, cgroup: Path) -> None:
    addresses.add("10.0.0.1/32", 1, ns=node)
    child = node.popen(
        [sys.executable, "-c", _PINNED, str(bpffs), str(cgroup)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert child.wait(30) == -signal.SIGKILL
    with ExitStack() as stack:
        web = stack.enter_context(NetNS.open("pcl-sock-1"))
        db = stack.enter_context(NetNS.open("pcl-sock-2"))
        stack.enter_context(echo(db, "db", 7000))
        for where in (web, node):
            one = stack.enter_context(where.run(socket.create_connection, (VIP4, 80), 2))
            assert (one.getpeername(), ask(one)) == ((VIP4, 80), "db")
        dp = stack.enter_context(node.run(lambda: Datapath.adopt("sock", bpffs=str(bpffs))))
        assert dp.status().sockets == f"{cgroup}: {' '.join(ADDRESS_HOOKS | BIND_HOOKS)}"
        dp.reload()
        assert ask(one) == "db"
        with web.run(socket.create_connection, (VIP4, 80), 2) as inside:
            dp.services.apply([])
            for ended in (one, inside):
                with pytest.raises(ConnectionAbortedError):
                    ended.recv(1)
        dp.destroy()
    assert list((bpffs / "pycilium").iterdir()) == []


def test_two_nodes_in_one_cgroup(lab: Lab) -> None:
    """Each datapath serves the sockets of its own namespaces."""
    with NetNS.create() as second:
        addresses.add("10.0.0.2/32", 1, ns=second)
        with second.run(lambda: Datapath.open(socket_lb=lab.cgroup)) as dp:
            db = dp.endpoints.create("10.2.0.20", labels={"app": "db"})
            dp.services.apply(ServiceLB(f"{VIP4}:80/tcp", backends=["10.2.0.20:7000"]))
            with echo(db, "second", 7000):
                with second.run(socket.create_connection, (VIP4, 80), 2) as one:
                    assert ask(one) == "second"
                with lab.connect("host", VIP4, 80) as one:
                    assert ask(one) == "db"


def test_columns_end_the_sockets_of_removed_backends(lab: Lab) -> None:
    def columns(*backends: str) -> ServiceColumns:
        places = [int(ip_address(one)) for one in backends]
        ports = [7000] * len(places)
        return ServiceColumns.ipv4([int(ip_address(VIP4))], [80], [len(places)], places, ports)

    lab.dp.services.apply_columns(columns(DB[0], DB2[0]))
    connected = [lab.connect("web", VIP4, 80) for _ in range(24)]
    with ExitStack() as stack:
        for one in connected:
            stack.enter_context(one)
        lab.dp.services.apply_columns(columns(DB2[0]))
        ended = [one for one in connected if one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)]
        assert 0 < len(ended) < len(connected)
        assert {f"{DB[0]}:7000", f"{DB2[0]}:7000"} & lab.peers("web") == {f"{DB2[0]}:7000"}
