# SPDX-License-Identifier: Apache-2.0
"""Services out of kube-proxy's rules and back, under connections that go on all the while."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import attrs
import pytest

from benchmarks import kubeproxy
from pycilium import Datapath, ServiceLB
from pycilium.net import NetNS, addresses, links, routes, sysctl
from support import cgroups
from support.servers import echo

pytestmark = pytest.mark.root
ROOT = Path(__file__).parents[2]
VIP = "10.96.0.1"
TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
SERVICES = [
    ServiceLB(f"{VIP}:80/{protocol}", backends=["10.2.0.20:7000"], name=f"ns/echo:{protocol}")
    for protocol in ("tcp", "udp")
]
FOREIGN = "-A PREROUTING -s 192.0.2.7/32 -j ACCEPT"


@attrs.frozen
class Lab:
    """A host that is a client itself, an endpoint, and a server that is none."""

    node: NetNS
    dp: Datapath
    bpffs: Path
    state: Path

    def run(self, *arguments: str, code: int = 0) -> str:
        where = ["--pin", "ad", "--bpffs", str(self.bpffs), "--state", str(self.state)]
        command = [sys.executable, "-m", "pycilium", "lb", *arguments, *where]
        done = self.tool(command)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def tool(self, command: list[str], text: str = "") -> subprocess.CompletedProcess[str]:
        return self.node.run(
            lambda: subprocess.run(
                command, input=text, capture_output=True, text=True, check=False, cwd=ROOT
            )
        )

    def connect(self, client: str, kind: int) -> socket.socket:
        where = self.node if client == "host" else self.dp.endpoints[client].namespace
        one = where.socket(socket.AF_INET, kind)
        one.settimeout(2)
        one.connect((VIP, 80))
        return one

    def at_socket(self, one: socket.socket) -> bool:
        """Whether the kernel's own peer of a socket of the host's is the backend."""
        port = f"{one.getsockname()[1]:04X}"
        text = "".join(
            self.node.run(Path(f"/proc/thread-self/net/{name}").read_text)
            for name in ("tcp", "udp")
        )
        return bool(re.search(rf":{port} 1400020A:1B58 ", text))


@pytest.fixture
def lab(node: NetNS, bpffs: Path, tmp_path: Path) -> Iterator[Lab]:
    with ExitStack() as stack:
        cgroup = stack.enter_context(cgroups.inside("pcl-test"))
        server = stack.enter_context(NetNS.create())
        outer, inner = links.create_veth("server", "eth0", peer_ns=server, ns=node)
        for one, ns in ((outer, node), (inner, server)):
            links.set_up(one.index, ns=ns)
        sysctl.write("net.ipv4.ip_forward", 1, ns=node)
        addresses.add("10.2.0.1/24", outer.index, ns=node)
        addresses.add("10.2.0.20/24", inner.index, ns=server)
        routes.add("default", via="10.2.0.1", dev=inner.index, ns=server)
        routes.add("10.96.0.0/16", dev=outer.index, ns=node)
        stack.enter_context(echo(server, "server", 7000))
        dp = node.run(lambda: Datapath.open(pin="ad", bpffs=bpffs, socket_lb=cgroup))
        stack.callback(dp.destroy)
        dp.endpoints.create("10.1.0.10", labels={"app": "web"}, name="web")
        yield Lab(node, dp, bpffs, tmp_path / "state")


class Talk:
    """Numbered messages on one connection; every one must be answered."""

    def __init__(self, one: socket.socket) -> None:
        self.socket = one
        self._number = 0

    def go_on(self, count: int = 20) -> None:
        for _ in range(count):
            self._number += 1
            text = str(self._number).encode()
            self.socket.send(text)
            assert self.socket.recv(100) == b"server " + text


def rules(lab: Lab, mode: str) -> None:
    if mode == "nftables":
        done = lab.tool(["nft", "-f", "-"], kubeproxy.nftables.rules(SERVICES))
    else:
        text = kubeproxy.iptables.rules(SERVICES).replace(
            "-A PREROUTING", f"{FOREIGN}\n-A PREROUTING"
        )
        done = lab.tool([f"{mode}-restore"], text)
    assert done.returncode == 0, done.stderr


def listed(lab: Lab, mode: str) -> list[str]:
    """The rules in force, without what counts or numbers them."""
    command = ["nft", "list", "ruleset"] if mode == "nftables" else [f"{mode}-save"]
    lines = lab.tool(command).stdout.splitlines()
    return [one for one in lines if not one.startswith((":", "#"))]


@pytest.mark.parametrize("client", ["host", "web"])
@pytest.mark.parametrize("mode", ["iptables-legacy", "iptables-nft", "nftables"])
def test_no_connection_is_lost_either_way(lab: Lab, mode: str, client: str) -> None:
    rules(lab, mode)
    before = listed(lab, mode)
    with ExitStack() as stack:

        def talk(kind: int) -> Talk:
            made = Talk(stack.enter_context(lab.connect(client, kind)))
            made.go_on()
            return made

        old = [talk(TCP), talk(UDP)]
        dry = lab.run("adopt", "--from", mode, "--dry-run")
        assert "2 services" in dry
        assert listed(lab, mode) == before
        lab.run("adopt", "--from", mode)
        after = listed(lab, mode)
        assert set(after) < set(before)
        assert mode == "nftables" or FOREIGN in after
        assert "taken over already" in lab.run("adopt", "--from", mode, code=2)
        for one in old:
            one.go_on()
        ours = [talk(TCP), talk(UDP)]
        assert client != "host" or all(lab.at_socket(one.socket) for one in ours)
        assert client != "host" or not any(lab.at_socket(one.socket) for one in old)
        lab.run("release", "--to", mode)
        assert sorted(listed(lab, mode)) == sorted(before)
        assert mode == "nftables" or listed(lab, mode) == before
        for one in [*old, *ours]:
            one.go_on()
        theirs = [talk(TCP), talk(UDP)]
        assert client != "host" or not any(lab.at_socket(one.socket) for one in theirs)
        for one in [*old, *ours, *theirs]:
            one.go_on()
