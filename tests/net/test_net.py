# SPDX-License-Identifier: Apache-2.0
"""Namespaces, links, addresses, routes, neighbours and sysctls on the real kernel."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from pycilium import ClosedError, ConflictError, KernelError, SpecError
from pycilium.net import NetNS, addresses, links, neighbours, routes, sysctl

pytestmark = pytest.mark.root


def inode() -> int:
    return Path("/proc/thread-self/ns/net").stat().st_ino


def test_the_caller_never_moves(netns: NetNS) -> None:
    before = inode()
    assert netns.run(inode) == os.fstat(netns.fd).st_ino != before
    assert inode() == before


def test_results_and_exceptions_come_back(netns: NetNS) -> None:
    assert netns.run(max, 1, 2) == 2
    with pytest.raises(ZeroDivisionError):
        netns.run(lambda: 1 // 0)
    assert threading.active_count() == 1 or all(
        thread.name != "pycilium-netns" for thread in threading.enumerate()
    )


def test_loopback_is_up(netns: NetNS) -> None:
    assert links.get("lo", ns=netns).up


def test_a_named_namespace_lasts_until_close() -> None:
    ns = NetNS.create("pycilium-test")
    with pytest.raises(ConflictError, match="exists already"):
        NetNS.create("pycilium-test")
    with NetNS.open("pycilium-test") as same:
        assert os.fstat(same.fd).st_ino == os.fstat(ns.fd).st_ino
    ns.close()
    assert not Path("/run/netns/pycilium-test").exists()


@pytest.mark.parametrize("source", ["nothing-of-that-name", "/nothing", 2**22 + 1])
def test_what_is_no_namespace(source: str | int) -> None:
    with pytest.raises(SpecError, match="process id"):
        NetNS.open(source)
    with pytest.raises(SpecError):
        NetNS.create("a/b")


def test_use_after_close() -> None:
    ns = NetNS.create()
    ns.close()
    ns.close()
    with pytest.raises(ClosedError):
        ns.run(inode)


def test_sockets_and_processes_live_inside(netns: NetNS) -> None:
    with netns.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        server.bind(("127.0.0.1", 7000))
        server.listen()
        with netns.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
            client.connect(("127.0.0.1", 7000))
    child = netns.popen(["readlink", "/proc/self/ns/net"], stdout=subprocess.PIPE)
    out, _ = child.communicate(timeout=5)
    assert str(os.fstat(netns.fd).st_ino) in out.decode()
    assert netns.cookie != 0


def test_a_veth_pair_carries_packets(node: NetNS, netns: NetNS) -> None:
    near, far = links.create_veth(
        "near", "far", peer_ns=netns, ns=node, mtu=1400, mac="02:00:00:00:00:01",
        peer_mac="02:00:00:00:00:02",
    )  # fmt: skip
    assert (near.kind, near.mtu, near.mac, near.up) == ("veth", 1400, "02:00:00:00:00:01", False)
    assert far.mac == "02:00:00:00:00:02"
    for index, ns, mine, other, mac in (
        (near.index, node, "10.0.0.1", "10.0.0.2", far.mac),
        (far.index, netns, "10.0.0.2", "10.0.0.1", near.mac),
    ):
        addresses.add(f"{mine}/32", index, ns=ns)
        addresses.add(f"{mine}/32", index, ns=ns)
        links.set_up(index, ns=ns)
        routes.add(f"{other}/32", dev=index, ns=ns)
        neighbours.add(other, mac, dev=index, ns=ns)
    with netns.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("10.0.0.2", 7000))
        receiver.settimeout(2)
        with node.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"hello", ("10.0.0.2", 7000))
        assert receiver.recv(10) == b"hello"


def test_changes_show(netns: NetNS) -> None:
    one, two = links.create_veth("one", "two", ns=netns)
    links.set_mtu(one.index, 9000, ns=netns)
    links.set_mac(one.index, "02:00:00:00:00:09", ns=netns)
    links.rename(one.index, "uno", ns=netns)
    links.set_up(one.index, ns=netns)
    found = links.get(one.index, ns=netns)
    assert (found.name, found.mtu, found.mac, found.up) == ("uno", 9000, "02:00:00:00:00:09", True)
    links.set_down(one.index, ns=netns)
    assert {link.name for link in links.list_all(ns=netns)} == {"lo", "uno", "two"}
    addresses.add("fd00::1/64", two.index, ns=netns)
    assert "fd00::1/64" in {str(a.interface) for a in addresses.list_all(two.index, ns=netns)}
    addresses.remove("fd00::1/64", two.index, ns=netns)
    addresses.remove("fd00::1/64", two.index, ns=netns)
    links.delete(one.index, ns=netns)
    links.delete(one.index, ns=netns)
    assert not links.exists("two", ns=netns)
    with pytest.raises(KernelError, match="No such device"):
        links.delete(one.index, missing_ok=False, ns=netns)


def test_a_link_moves(netns: NetNS, node: NetNS) -> None:
    one, _ = links.create_veth("one", "two", ns=netns)
    links.move(one.index, node, ns=netns)
    assert links.exists("one", ns=node)
    assert not links.exists("one", ns=netns)


def test_routes_come_and_go(netns: NetNS) -> None:
    one, _ = links.create_veth("one", "two", ns=netns)
    links.set_up(one.index, ns=netns)
    routes.add("10.9.0.0/16", dev=one.index, ns=netns)
    routes.add("default", via="169.254.1.1", dev=one.index, onlink=True, ns=netns)
    found = {str(route.destination): route.via for route in routes.list_all(ns=netns)}
    assert found["10.9.0.0/16"] is None
    assert found["0.0.0.0/0"] == "169.254.1.1"
    routes.remove("10.9.0.0/16", dev=one.index, ns=netns)
    routes.remove("10.9.0.0/16", dev=one.index, ns=netns)


def test_sysctls_are_those_of_the_namespace(netns: NetNS) -> None:
    outside = sysctl.read("net.ipv4.ip_forward")
    sysctl.write("net.ipv4.ip_forward", 1, ns=netns)
    assert sysctl.read("net.ipv4.ip_forward", ns=netns) == "1"
    assert sysctl.read("net.ipv4.ip_forward") == outside
    with pytest.raises(KernelError, match=r"read sysctl net\.ipv4\.nothing"):
        sysctl.read("net.ipv4.nothing")
    with pytest.raises(SpecError):
        sysctl.read("net/../../etc/passwd")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: links.create_veth("a" * 16, "b"), "1 to 15 bytes"),
        (lambda: links.create_veth("a", "b", mac="nonsense"), "six bytes"),
        (lambda: addresses.add("10.0.0.300/8", 1), "10.0.0.1/24"),
        (lambda: routes.add("10.0.0.1/8", dev=1), "prefix"),
        (lambda: neighbours.add("x", "02:00:00:00:00:01", dev=1), "address"),
    ],
)
def test_bad_values_are_refused_before_the_kernel(call: object, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        call()  # type: ignore[operator]


def test_a_misspelt_argument_is_a_type_error(netns: NetNS) -> None:
    with pytest.raises(TypeError, match="peeer"):
        links.create_veth("a", "b", peeer="oops", ns=netns)  # type: ignore[call-arg]
