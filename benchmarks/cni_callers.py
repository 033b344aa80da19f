# SPDX-License-Identifier: Apache-2.0
"""Plugins of CNI as a runtime calls them, and an agent for pycilium's."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from benchmarks.errors import BenchmarkError
from pycilium.cni.install import SHIM
from pycilium.net import NetNS

STANDARD = Path("/usr/lib/cni")
ROOT = Path(__file__).resolve().parents[1]
AGENT = """
import json, sys
from pycilium.cni import Server, Settings, opened
with opened(Settings.of(json.loads(sys.argv[1]))) as network, Server.open(network, sys.argv[2]):
    print("ready", flush=True)
    sys.stdin.read()
"""


@attrs.frozen
class Calls:
    """Seconds of each call."""

    add: list[float] = attrs.field(factory=list)
    delete: list[float] = attrs.field(factory=list)


@attrs.frozen
class Caller:
    """One plugin on one node."""

    node: NetNS
    command: Path
    config: dict[str, Any]

    def call(self, kind: str, pod: NetNS) -> float:
        """Seconds from the process's start to its answer."""
        environment = {
            "CNI_COMMAND": kind,
            "CNI_CONTAINERID": pod.name,
            "CNI_NETNS": f"/run/netns/{pod.name}",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(STANDARD),
            "PYTHONPATH": str(ROOT / "src"),
        }
        text = json.dumps(self.config).encode()
        begin = time.perf_counter()
        process = self.node.popen(
            [str(self.command)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
        out, errors = process.communicate(text)
        spent = time.perf_counter() - begin
        if process.returncode:
            raise BenchmarkError(f"{self.command.name} {kind}: {(out + errors).decode().strip()}")
        return spent

    def add(self, pod: NetNS) -> float:
        return self.call("ADD", pod)

    def delete(self, pod: NetNS) -> float:
        return self.call("DEL", pod)

    def turn(self, pod: NetNS) -> tuple[float, float]:
        """Added and removed again."""
        return self.add(pod), self.delete(pod)

    @contextmanager
    def standing(self, pods: Sequence[NetNS]) -> Iterator[None]:
        """With these containers on the node."""
        for pod in pods:
            self.add(pod)
        yield
        for pod in pods:
            self.delete(pod)

    @contextmanager
    def without_agent(self) -> Iterator[Caller]:
        """The same plugin where nobody answers: state and datapath of its own."""
        with tempfile.TemporaryDirectory() as state:
            config = {
                **self.config,
                "socket": f"{state}/none",
                "state": state,
                "pin": "alone",
            }
            yield attrs.evolve(self, config=config)
            _destroy(self.node, config)


@contextmanager
def bridge(node: NetNS) -> Iterator[Caller]:
    """The standard plugins of Debian's containernetworking-plugins."""
    if not (STANDARD / "bridge").exists():
        raise BenchmarkError("apt-get install containernetworking-plugins")
    with tempfile.TemporaryDirectory() as data:
        ipam = {"type": "host-local", "subnet": "10.3.0.0/16", "dataDir": data}
        config = {
            "cniVersion": "1.0.0",
            "name": "standard",
            "type": "bridge",
            "bridge": "br0",
            "isGateway": True,
            "ipam": ipam,
        }
        yield Caller(node, STANDARD / "bridge", config)


@contextmanager
def pycilium(node: NetNS, hooks: str) -> Iterator[Caller]:
    """The executable and an agent, with a pinned datapath and its state on disk."""
    with tempfile.TemporaryDirectory() as state, _bpffs(Path(state) / "bpffs") as bpffs:
        path = f"{state}/cni.sock"
        config = {
            "cniVersion": "1.0.0",
            "name": hooks,
            "type": "pycilium",
            "state": state,
            "bpffs": str(bpffs),
            "pin": hooks,
            "hooks": hooks,
            "pools": [{"ipv4": "10.5.0.0/16" if hooks == "tcx" else "10.4.0.0/16"}],
            "labels": {"app": "bench"},
            "socket": path,
            "python": sys.executable,
        }
        with _agent(node, config, path):
            yield Caller(node, SHIM, config)
        _destroy(node, config)


@contextmanager
def _agent(node: NetNS, config: dict[str, Any], path: str) -> Iterator[None]:
    command = [sys.executable, "-c", AGENT, json.dumps(config), path]
    process = node.popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    if process.stdout.readline() != b"ready\n":
        process.communicate()
        raise BenchmarkError("the agent did not start")
    try:
        yield
    finally:
        process.communicate()


@contextmanager
def _bpffs(where: Path) -> Iterator[Path]:
    where.mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpf", str(where)], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", str(where)], check=True)


def _destroy(node: NetNS, config: dict[str, Any]) -> None:
    from pycilium import Datapath

    node.run(lambda: Datapath.adopt(config["pin"], bpffs=config["bpffs"])).destroy()
