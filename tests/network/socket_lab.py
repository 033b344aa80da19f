# SPDX-License-Identifier: Apache-2.0
"""A node with endpoints whose sockets are translated, and the questions its clients ask."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import attrs

from pycilium import Datapath, ServiceLB
from pycilium.net import NetNS, addresses
from support.servers import Echo, echo

VIP4, VIP6, MAPPED = "10.96.0.1", "fd96::1", "::ffff:10.96.0.1"
WEB, DB, DB2 = ("10.1.0.10", "fd01::10"), ("10.1.0.20", "fd01::20"), ("10.1.0.21", "fd01::21")
TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
NODE = ("10.0.0.1", "fd0f::1")


def services(*backends: tuple[str, str], vips: tuple[str, str] = (VIP4, VIP6)) -> list[ServiceLB]:
    """One TCP and one UDP port for each family."""
    v4 = [f"{one[0]}:7000" for one in backends]
    v6 = [f"[{one[1]}]:7000" for one in backends]
    return [
        ServiceLB(f"{vips[0]}:80/tcp", backends=v4),
        ServiceLB(f"{vips[0]}:53/udp", backends=v4),
        ServiceLB(f"[{vips[1]}]:80/tcp", backends=v6),
        ServiceLB(f"[{vips[1]}]:53/udp", backends=v6),
    ]


@attrs.frozen
class Lab:
    """A node whose host has addresses, a client and two servers."""

    dp: Datapath
    node: NetNS
    cgroup: Path
    servers: dict[str, Echo]

    def where(self, client: str) -> Any:
        return self.node if client == "host" else self.dp.endpoints[client]

    def socket(self, client: str, address: str, kind: int = TCP) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        one = self.where(client).run(socket.socket, family, kind)
        one.settimeout(2)
        return one

    def connect(self, client: str, address: str, port: int, kind: int = TCP) -> socket.socket:
        one = self.socket(client, address, kind)
        try:
            one.connect((address, port))
        except BaseException:
            one.close()
            raise
        return one

    def peers(self, client: str) -> set[str]:
        """Remote addresses and ports of the sockets in a namespace, as the kernel has them."""
        read = Path.read_text
        tables = [Path(f"/proc/thread-self/net/{name}") for name in ("tcp", "tcp6", "udp", "udp6")]
        text = "\n".join(self.where(client).run(read, one) for one in tables)
        return {_shown(*one) for one in re.findall(r"\d+: \S+ ([0-9A-F]+):([0-9A-F]{4}) ", text)}


def _shown(address: str, port: str) -> str:
    words = [bytes.fromhex(address[at : at + 8])[::-1] for at in range(0, len(address), 8)]
    parsed = ip_address(b"".join(words))
    return f"{getattr(parsed, 'ipv4_mapped', None) or parsed}:{int(port, 16)}"


@contextmanager
def open_lab(node: NetNS, cgroup: Path, **options: Any) -> Iterator[Lab]:
    """Three endpoints with servers; db serves the services."""
    addresses.add(f"{NODE[0]}/32", 1, ns=node)
    addresses.add(f"{NODE[1]}/128", 1, ns=node)
    with ExitStack() as stack:
        dp = stack.enter_context(node.run(lambda: Datapath.open(socket_lb=cgroup, **options)))
        servers = {}
        for name, own in (("web", WEB), ("db", DB), ("db2", DB2)):
            endpoint = dp.endpoints.create(list(own), labels={"app": name}, name=name)
            servers[name] = stack.enter_context(echo(endpoint, name, 7000))
        dp.services.apply(services(DB))
        yield Lab(dp, node, cgroup, servers)


def ask(one: socket.socket, text: bytes = b"hello") -> str:
    """Who answered on a connected socket."""
    one.send(text)
    name, _, told = one.recv(100).partition(b" ")
    assert told == text
    return name.decode()


def asked(one: socket.socket, address: str, port: int) -> str:
    """Who answered a datagram; the answer comes from where it was sent to."""
    one.sendto(b"hello", (address, port))
    answer, source = one.recvfrom(100)
    assert source[:2] == (address, port)
    return answer.split(b" ")[0].decode()
