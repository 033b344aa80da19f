# SPDX-License-Identifier: Apache-2.0
"""A node of the test's own, and calls of the plugin as a runtime makes them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from pycilium import Datapath
from pycilium.net import NetNS

ROOT = Path(__file__).parents[2]
MODULE = (sys.executable, "-W", "error", "-m", "pycilium.cni")
POLICY = """
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: db}
spec:
  endpointSelector: {matchLabels: {app: db}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: web}}]
    toPorts: [{ports: [{port: "5432", protocol: TCP}]}]
"""


@attrs.frozen
class Container:
    """A container without processes: its namespace, as a runtime names it."""

    name: str
    netns: NetNS
    path: str


@attrs.frozen
class Lab:
    """Where the plugin works; `command` is the executable."""

    node: NetNS
    bpffs: Path
    state: Path
    policies: Path
    command: Sequence[str] = MODULE
    keys: Mapping[str, Any] = attrs.field(factory=dict)  # of every configuration

    def config(self, **more: Any) -> dict[str, Any]:
        return {
            "cniVersion": "1.1.0",
            "name": "pods",
            "type": "pycilium",
            "pin": "cni",
            "bpffs": str(self.bpffs),
            "state": str(self.state),
            "policies": str(self.policies),
            "pools": [{"ipv4": "10.1.0.0/24", "ipv6": "fd00:1::/64", "quarantine": 0}],
            **self.keys,
            **more,
        }

    def call(
        self,
        command: str,
        container: Container | None = None,
        config: dict[str, Any] | None = None,
        **variables: str,
    ) -> subprocess.CompletedProcess[str]:
        """Environment and standard input in, exit code and standard output out."""
        env = {key: value for key, value in os.environ.items() if not key.startswith("CNI_")}
        env |= {"PYTHONPATH": str(ROOT / "src"), "CNI_COMMAND": command, "CNI_PATH": "/opt/cni/bin"}
        if container is not None:
            env |= {"CNI_CONTAINERID": container.name, "CNI_NETNS": container.path}
            env |= {"CNI_IFNAME": "eth0"}
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        process = self.node.popen(self.command, env={**env, **variables}, **pipes)
        text = json.dumps(self.config() if config is None else config).encode()
        out, errors = process.communicate(text, timeout=60)
        return subprocess.CompletedProcess(
            self.command, process.returncode, out.decode(), errors.decode()
        )

    def ok(self, command: str, container: Container | None = None, **how: Any) -> Any:
        """The answer of a call that succeeds."""
        done = self.call(command, container, **how)
        assert (done.returncode, done.stderr) == (0, ""), done
        return json.loads(done.stdout) if done.stdout else None

    def error(self, command: str, container: Container | None = None, **how: Any) -> Any:
        """The error of a call that fails."""
        done = self.call(command, container, **how)
        assert (done.returncode, done.stderr) == (1, ""), done
        return json.loads(done.stdout)

    def add(self, container: Container, **labels: str) -> Any:
        listed = ",".join(f"{key}={value}" for key, value in labels.items())
        return self.ok("ADD", container, CNI_ARGS=f"LABELS={listed}" if listed else "")

    def adopt(self) -> Datapath:
        return self.node.run(lambda: Datapath.adopt("cni", bpffs=self.bpffs))

    def is_clean(self) -> bool:
        """Whether nobody has an address, an endpoint or a device."""
        from pycilium.ipam import HostScope, Pool
        from pycilium.net import links

        with HostScope.open(Pool(ipv4="10.1.0.0/24"), path=self.state / "ipam") as scope:
            owners = len(scope)
        with self.adopt() as datapath:
            endpoints = len(datapath.endpoints)
        devices = [one.name for one in links.list_all(ns=self.node) if one.name != "lo"]
        return (owners, endpoints, devices) == (0, 0, [])


@contextmanager
def container(name: str) -> Iterator[Container]:
    with NetNS.create(f"{name}-{os.getpid()}") as netns:
        yield Container(name, netns, f"/run/netns/{netns.name}")


def addresses(result: Any) -> list[str]:
    return [one["address"].split("/")[0] for one in result["ips"]]


def reaches(client: Container, server: Container, host: str, port: int) -> bool:
    """One TCP connection between two containers."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with server.netns.socket(family, socket.SOCK_STREAM) as listener:
        listener.bind((host, port))
        listener.listen()
        with client.netns.socket(family, socket.SOCK_STREAM) as connection:
            connection.settimeout(0.5)
            try:
                connection.connect((host, port))
            except (TimeoutError, OSError):
                return False
            return True
