# SPDX-License-Identifier: Apache-2.0
"""Two namespaces on one link with BIRD as the peer, the load beside, and what the wire saw."""

from __future__ import annotations

import gc
import itertools
import json
import random
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from benchmarks.errors import BenchmarkError
from pycilium.bgp.bfd import ControlPacket, State, decode
from pycilium.net import NetNS, addresses, links

NODE, ROUTER = "10.0.0.1", "10.0.0.254"
INTERVAL, MULTIPLIER = 0.1, 3

_SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 33, 35
_ETH_P_ALL, _ETH_P_IP = 0x0003, 0x0800
_BFD = 3784
_CAPTURE_BUFFER = 64 << 20
_BURNER = "while True: pass"


@attrs.frozen
class Wire:
    """Two ends; BFD runs between addresses of the node and of the router."""

    node: NetNS
    router: NetNS


@contextmanager
def wire(sessions: int = 1) -> Iterator[Wire]:
    """A veth pair; for many sessions the node has as many addresses."""
    with NetNS.create() as node, NetNS.create() as router:
        near, far = links.create_veth("eth0", "eth0", peer_ns=router, ns=node)
        for number in range(sessions):
            addresses.add(f"{node_address(number)}/16", near.index, ns=node)
        addresses.add(f"{ROUTER}/16", far.index, ns=router)
        links.set_up(near.index, ns=node)
        links.set_up(far.index, ns=router)
        yield Wire(node, router)


def node_address(number: int) -> str:
    """The node's address for one of many sessions."""
    return NODE if number == 0 else f"10.0.{1 + number // 250}.{1 + number % 250}"


@contextmanager
def bird(ns: NetNS, local: str, neighbours: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """BIRD with BFD sessions and nothing else."""
    program = shutil.which("bird") or "/usr/sbin/bird"
    if not Path(program).exists():
        raise BenchmarkError("bird is not installed: apt-get install bird2")
    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory, "bird.conf")
        config.write_text(_configuration(local, neighbours))
        control = str(Path(directory, "bird.ctl"))
        process = ns.popen([program, "-f", "-c", str(config), "-s", control])
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def _configuration(local: str, neighbours: list[str]) -> str:
    timers = f"interval {INTERVAL * 1000:.0f} ms; multiplier {MULTIPLIER};"
    named = "".join(f' neighbor {one} dev "eth0" local {local};\n' for one in neighbours)
    return (
        f"router id {local};\nprotocol device {{}}\n"
        f'protocol bfd {{\n interface "*" {{ {timers} }};\n{named}}}\n'
    )


@attrs.frozen
class Seen:
    """One packet on the wire, by the kernel's clock in seconds."""

    time: float
    source: str
    packet: ControlPacket


class Capture:
    """Every BFD packet of an interface, in and out, kept by the kernel until it is asked for."""

    def __init__(self, ns: NetNS) -> None:
        self._socket = ns.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _CAPTURE_BUFFER)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._socket.bind(("eth0", _ETH_P_ALL))
        self._socket.setblocking(False)

    def take(self) -> list[Seen]:
        """What has passed since the last call."""
        found = []
        while True:
            try:
                data, control, _, link = self._socket.recvmsg(256, 64)
            except BlockingIOError:
                return found
            seen = _seen(data, control[0][2]) if link[1] == _ETH_P_IP else None
            if seen is not None:
                found.append(seen)

    def close(self) -> None:
        self._socket.close()


def _seen(data: bytes, stamp: bytes) -> Seen | None:
    header = 4 * (data[0] & 15)
    if data[9] != socket.IPPROTO_UDP or data[header + 2 : header + 4] != struct.pack("!H", _BFD):
        return None
    packet = decode(data[header + 8 :])
    seconds, nanoseconds = struct.unpack("=qq", stamp)
    source = socket.inet_ntoa(data[12:16])
    if not isinstance(packet, ControlPacket):
        raise BenchmarkError(f"{source} sends what is no BFD: {packet}")
    return Seen(seconds + nanoseconds / 1e9, source, packet)


def flaps(seen: list[Seen]) -> int:
    """How often one of the two ends left Up, by what they said."""
    before: dict[str, State] = {}
    count = 0
    for one in seen:
        state = one.packet.state
        count += before.get(one.source) is State.UP and state is not State.UP
        before[one.source] = state
    return count


def gaps(seen: list[Seen], source: str) -> list[float]:
    """Seconds between two packets of one end, in ascending order."""
    times = [one.time for one in seen if one.source == source]
    return sorted(after - before for before, after in itertools.pairwise(times))


@contextmanager
def burner() -> Iterator[None]:
    """A second busy process, so that no processor is idle."""
    process = subprocess.Popen([sys.executable, "-c", _BURNER])
    try:
        yield
    finally:
        process.kill()
        process.wait()


class Load:
    """Work of an ordinary program that holds the interpreter's lock: loops, JSON, sort, GC."""

    def __init__(self, size: int) -> None:
        self._numbers = [random.random() for _ in range(size)]
        self._tree = [{"n": n, "of": [n, n]} for n in range(size)]
        self._work: tuple[Callable[[], object], ...] = (
            lambda: sum(number * number for number in self._numbers),
            lambda: json.loads(json.dumps(self._tree)),
            lambda: sorted(self._numbers),
            gc.collect,
        )

    def run(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for one in self._work:
                one()
