# SPDX-License-Identifier: Apache-2.0
"""What connects a client to a service: plain routes, kube-proxy's rules, pycilium."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from benchmarks import cgroup, command, kubeproxy, pods
from benchmarks.load import Path, server
from benchmarks.node_datapath import Node
from pycilium import Policy, ServiceLB

TARGET = (pods.SERVER, pods.PORT)

Rules = Callable[[pods.Pods, list[kubeproxy.Service]], None]

POLICY = f"""
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata:
  name: server
spec:
  endpointSelector:
    matchLabels:
      app: server
  ingress:
  - fromEndpoints:
    - matchLabels:
        app: client
    toPorts:
    - ports:
      - port: "{pods.PORT}"
        protocol: TCP
"""


@contextmanager
def plain() -> Iterator[Path]:
    """Routed veth without rules, straight to the server: the limit."""
    with pods.routed() as between, server(between.server, pods.PORT):
        yield Path("plain routed veth", between.client, *TARGET)


@contextmanager
def ruled(name: str, rules: Rules, count: int) -> Iterator[Path]:
    """The same veths and routes, with `count` services in the node's rules."""
    wanted = kubeproxy.services(count, TARGET)
    with pods.routed() as between, server(between.server, pods.PORT):
        rules(between, wanted)
        yield Path(name, between.client, wanted[-1].address, wanted[-1].port)


@contextmanager
def pycilium(name: str, count: int, *, at_socket: bool = False) -> Iterator[Path]:
    """Endpoints of pycilium, with `count` services and a policy for the server."""
    wanted = kubeproxy.services(count, TARGET)
    with ExitStack() as stack:
        directory = stack.enter_context(cgroup.made(str(count))) if at_socket else None
        between = stack.enter_context(pods.unconnected())
        opened = Node.open(between.node, socket_lb=directory or False, sizes=_sizes(count))
        node = stack.enter_context(opened)
        node.endpoint("client", pods.CLIENT, pod=between.client)
        node.endpoint("server", pods.SERVER, pod=between.server)
        node.apply_policies([Policy.from_yaml(POLICY)])
        node.apply_services(service_objects(wanted))
        node.require_rule(pods.CLIENT, wanted[-1].frontend, "server")
        stack.enter_context(server(between.server, pods.PORT))
        # The event ring is read between the rounds, so that every connection writes its event.
        events = stack.enter_context(node.events())
        target = wanted[-1]
        way = (between.client, target.address, target.port)
        yield Path(name, *way, events.drain, directory)


def _sizes(count: int) -> dict[str, int]:
    """Room for the services where the default has none."""
    maps = ("pcl_services", "pcl_slots", "pcl_backends")
    return dict.fromkeys(maps, 2 * count) if count > 30_000 else {}


def service_objects(wanted: Sequence[kubeproxy.Service]) -> list[ServiceLB]:
    """The model values of services."""
    return [ServiceLB(one.frontend, backends=[one.endpoint]) for one in wanted]


def iptables_legacy(between: pods.Pods, wanted: list[kubeproxy.Service]) -> None:
    command.feed(between.node, command.IPTABLES_LEGACY, kubeproxy.iptables_rules(wanted))


def iptables_nft(between: pods.Pods, wanted: list[kubeproxy.Service]) -> None:
    command.feed(between.node, command.IPTABLES_NFT, kubeproxy.iptables_rules(wanted))


def nftables(between: pods.Pods, wanted: list[kubeproxy.Service]) -> None:
    for batch in kubeproxy.nftables_batches(wanted):
        command.feed(between.node, command.NFTABLES, batch)
