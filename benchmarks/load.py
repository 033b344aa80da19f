# SPDX-License-Identifier: Apache-2.0
"""Drive one path with TCP and UDP: a server in one namespace, measured clients in another."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path as Directory

import attrs

from benchmarks import build, cgroup
from benchmarks.errors import BenchmarkError
from pycilium.net import NetNS

SERVER_PROCESSOR = 0
CLIENT_PROCESSOR = 1


@attrs.frozen
class Sample:
    """What one client run saw: connections per second, and nanoseconds."""

    rate: float
    connect_p50: float
    connect_p99: float
    trip_p50: float
    udp_p50: float
    udp_p99: float


@attrs.frozen
class Path:
    """A way from a namespace to a server, under the name that the report gives it."""

    name: str
    client: NetNS
    address: str
    port: int
    before: Callable[[], object] = lambda: None
    cgroup: Directory | None = None

    def measure(self, connections: int, round_trips: int) -> Sample:
        """Run the client once; `before` is called first, untimed."""
        self.before()
        arguments = [
            self.address,
            self.port,
            connections,
            round_trips,
            _processor(CLIENT_PROCESSOR),
        ]
        command = [str(build.tool("client")), *map(str, arguments)]
        with cgroup.joined(self.cgroup):
            client = self.client.popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        output, complaint = client.communicate()
        if client.returncode:
            raise BenchmarkError(f"{self.name}: no connection: {complaint.decode().strip()}")
        return Sample(**json.loads(output))


@contextmanager
def server(namespace: NetNS, port: int) -> Iterator[None]:
    """A server that listens in the namespace while the context lasts."""
    command = [str(build.tool("server")), str(port), str(_processor(SERVER_PROCESSOR))]
    process = namespace.popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:  # leaving closes its standard input, which ends it, and waits
        if process.stdout is None or process.stdout.readline() != b"ready\n":
            raise BenchmarkError(f"the server does not listen on port {port}")
        yield


def _processor(wanted: int) -> int:
    return min(wanted, (os.cpu_count() or 1) - 1)
