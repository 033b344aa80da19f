# SPDX-License-Identifier: Apache-2.0
"""What connects a client to a service: plain routes, kube-proxy's rules, pycilium."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from benchmarks import cgroup, command, kubeproxy, pods
from benchmarks.load import Path, server
from benchmarks.node_datapath import Node
from pycilium import Policy, ServiceLB

TARGET = (pods.SERVER, pods.PORT)

Rules = Callable[[pods.Pods, list[ServiceLB]], None]

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
      - port: "{pods.PORT}"
        protocol: UDP
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
        rules(between, kubeproxy.with_udp(wanted, TARGET))
        yield Path(name, between.client, *_address(wanted[-1]))


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
        node.apply_services(kubeproxy.with_udp(wanted, TARGET))
        node.require_rule(pods.CLIENT, str(wanted[-1].frontend), "server")
        stack.enter_context(server(between.server, pods.PORT))
        # The event ring is read between the rounds, so that every connection writes its event.
        events = stack.enter_context(node.events())
        way = (between.client, *_address(wanted[-1]))
        yield Path(name, *way, events.drain, directory)


def _sizes(count: int) -> dict[str, int]:
    """Room for the services where the default has none."""
    maps = ("pcl_services", "pcl_slots", "pcl_backends")
    return dict.fromkeys(maps, 2 * count) if count > 30_000 else {}


def _address(service: ServiceLB) -> tuple[str, int]:
    """Where a client connects."""
    return str(service.frontend.address), service.frontend.port


def iptables_legacy(between: pods.Pods, wanted: list[ServiceLB]) -> None:
    command.feed(between.node, command.IPTABLES_LEGACY, kubeproxy.iptables.nat_table(wanted))


def iptables_nft(between: pods.Pods, wanted: list[ServiceLB]) -> None:
    command.feed(between.node, command.IPTABLES_NFT, kubeproxy.iptables.nat_table(wanted))


def nftables(between: pods.Pods, wanted: list[ServiceLB]) -> None:
    for batch in kubeproxy.nftables.batches(wanted):
        command.feed(between.node, command.NFTABLES, batch)
