# SPDX-License-Identifier: Apache-2.0
"""The sockets of a namespace, as the kernel lists them."""

from __future__ import annotations

import os
import socket
from ipaddress import ip_address

import pytest

from pycilium.net import NetNS, addresses, sock_diag

pytestmark = pytest.mark.root


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1", "::", "::1"])
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_bound(netns: NetNS, address: str, kind: int) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    protocol = {socket.SOCK_STREAM: 6, socket.SOCK_DGRAM: 17}[kind]
    with netns.run(socket.socket, family, kind) as one:
        one.bind((address, 7000))
        if kind == socket.SOCK_STREAM:
            one.listen()
        (found,) = netns.run(sock_diag.bound, protocol)
        assert (found.address, found.port) == (ip_address(address), 7000)
        assert found.holder.endswith(f"(pid {os.getpid()})")
        assert found.uid == os.getuid()
        assert found.only_ipv6 == (address == "::1")
        assert netns.run(sock_diag.bound, 23 - protocol) == []
    assert netns.run(sock_diag.bound, protocol) == []


def test_only_ipv6(netns: NetNS) -> None:
    with netns.run(socket.socket, socket.AF_INET6, socket.SOCK_STREAM) as one:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind(("::", 7000))
        one.listen()
        (found,) = netns.run(sock_diag.bound, 6)
        assert found.only_ipv6


def test_more_than_one_message(netns: NetNS) -> None:
    def many() -> list[socket.socket]:
        return [socket.create_server(("127.0.0.1", port)) for port in range(7000, 7600)]

    opened = netns.run(many)
    found = netns.run(sock_diag.bound, 6)
    for one in opened:
        one.close()
    assert {one.port for one in found} == set(range(7000, 7600))
    assert len(found) == 600


def test_sockets_with_a_peer_wait_for_nobody(netns: NetNS) -> None:
    with netns.run(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.connect(("127.0.0.1", 9))
        assert netns.run(sock_diag.bound, 17) == []


def test_holder_that_has_gone(netns: NetNS) -> None:
    with netns.run(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 7000))
        (found,) = netns.run(sock_diag.bound, 17)
    assert found.holder == f"a process of uid {os.getuid()} that is not seen from here"


def test_source_to(netns: NetNS) -> None:
    addresses.add("10.0.0.1/24", 1, ns=netns)
    assert netns.run(addresses.source_to, "10.0.0.7") == ip_address("10.0.0.1")
    assert netns.run(addresses.source_to, "192.0.2.1") is None
    assert netns.run(addresses.source_to, "::1") == ip_address("::1")
