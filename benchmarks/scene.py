# SPDX-License-Identifier: Apache-2.0
"""A node with pods, policies and services, for the packets of the `packet` benchmark."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import attrs

from benchmarks.frames import ACK, SYN, Tuple, tcp_frame
from benchmarks.node_datapath import Node
from benchmarks.wrapper import Place
from pycilium import Policy, ServiceLB
from pycilium.libbpf import Program, RingBuffer
from pycilium.net import NetNS

CLIENT, SERVER, STRANGER = "10.1.0.10", "10.1.0.20", "10.1.0.30"
CLIENT6, SERVER6 = "fd00:10:1::10", "fd00:10:1::20"
WORLD, WORLD6 = "198.51.100.7", "2001:db8::7"
PORT = 8080
FRONTENDS = 16  # new connections take turns at 10.96.0.0 to 10.96.0.15

POLICIES = (
    """
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: server}
spec:
  endpointSelector: {matchLabels: {app: server}}
  ingress:
  - fromEndpoints:
    - matchLabels: {app: client}
""",
    """
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: client}
spec:
  endpointSelector: {matchLabels: {app: client}}
  egress:
  - toEndpoints:
    - matchLabels: {app: server}
  - toCIDR: [198.51.100.0/24, "2001:db8::/32"]
""",
)


def frontend(number: int) -> str:
    return f"10.96.0.{number}"


def frontend6(number: int) -> str:
    return f"fd00:10:96::{number:x}"


@attrs.frozen
class Pod:
    """One endpoint: where its packets arrive, and the MACs that they carry."""

    place: Place
    mac: str
    gateway_mac: str

    def frame(self, flow: Tuple, flags: int) -> bytes:
        return tcp_frame(flow, source_mac=self.mac, destination_mac=self.gateway_mac, flags=flags)


@attrs.frozen
class Scene:
    """Pods `client` and `server`, which may talk, and a `stranger`, who may not."""

    program: Program
    events: RingBuffer
    client: Pod
    server: Pod
    stranger: Pod

    def sender(self, flow: Tuple) -> Pod:
        """The pod that a packet comes from."""
        if flow.source in (CLIENT, CLIENT6):
            return self.client
        return self.server if flow.source in (SERVER, SERVER6) else self.stranger

    def establish(self, flow: Tuple, reply: Tuple | None = None) -> None:
        """Open a connection from the client; `reply` is what a local server answers."""
        self._send(flow, SYN)
        if reply:
            self._send(reply, SYN | ACK)
        self._send(flow, ACK)

    def _send(self, flow: Tuple, flags: int) -> None:
        pod = self.sender(flow)
        pod.place.test_run(self.program, pod.frame(flow, flags))


@contextmanager
def scene() -> Iterator[Scene]:
    """The whole node, in namespaces of its own."""
    with NetNS.create() as namespace, Node.open(namespace) as node:
        loaded = node.datapath.object
        pods = [
            _pod(node, node.endpoint("client", CLIENT, CLIENT6)),
            _pod(node, node.endpoint("server", SERVER, SERVER6)),
            _pod(node, node.endpoint("stranger", STRANGER)),
        ]
        node.apply_policies([Policy.from_yaml(text) for text in POLICIES])
        node.apply_services(_services())
        with node.events() as events:
            yield Scene(loaded.programs["from_endpoint"], events, *pods)


def _pod(node: Node, ifindex: int) -> Pod:
    endpoint = node.datapath.object.maps["pcl_endpoints"][ifindex]
    place = Place(node.namespace, ifindex)
    return Pod(place, endpoint.mac.hex(":"), endpoint.host_mac.hex(":"))


def _services() -> list[ServiceLB]:
    both = [(frontend(number), f"{SERVER}:{PORT}") for number in range(FRONTENDS)]
    both += [(f"[{frontend6(number)}]", f"[{SERVER6}]:{PORT}") for number in range(FRONTENDS)]
    return [ServiceLB(f"{address}:80/tcp", backends=[backend]) for address, backend in both]
