# SPDX-License-Identifier: Apache-2.0
"""A node with one device to the world and an endpoint, driven packet by packet."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from programs.lab import Outcome
from pycilium import Datapath, ServiceLB
from pycilium.net import NetNS, addresses, links, neighbours, routes, sysctl

DEVICE_REASONS = {
    "PCL_DROP_NAT_FULL",
    "PCL_DROP_PORT",
    "PCL_DROP_NO_ROUTE",
    "PCL_DROP_TOO_BIG",
}
NODE = {4: "172.20.1.2", 6: "fd20:1::2"}
ROUTER = {4: "172.20.1.1", 6: "fd20:1::1"}
CLIENT = {4: "198.51.100.7", 6: "fd51::7"}
POD = {4: "10.1.0.10", 6: "fd10:1::10"}
FAR = {4: "10.2.0.10", 6: "fd10:2::10"}
LOST = {4: "192.0.2.1", 6: "fd02::1"}  # without a route
VIP = {4: "203.0.113.10", 6: "fd03:113::10"}
ROUTER_MAC = "02:00:00:00:09:01"
ANY = {4: "0.0.0.0", 6: "::"}


def joined(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


class DeviceLab:
    """`enter` gives a frame to from_device, `send` one to from_endpoint."""

    def __init__(self, node: NetNS, **options: Any) -> None:
        self.node = node
        near, far = links.create_veth("eth0", "peer", ns=node)
        self.device = near
        for link in (near, far):
            links.set_up(link.index, ns=node)
        for family in (4, 6):
            sysctl.write(f"net/ipv{family}/conf/all/forwarding", 1, ns=node)
            mask = 24 if family == 4 else 64
            addresses.add(f"{NODE[family]}/{mask}", near.index, ns=node)
            neighbours.add(ROUTER[family], ROUTER_MAC, dev=near.index, ns=node)
            for prefix in (f"{CLIENT[family]}/{mask}", f"{FAR[family]}/{mask}"):
                network = str(addresses.parse(prefix).network)
                routes.add(network, via=ROUTER[family], dev=near.index, ns=node)
        self.dp = node.run(lambda: Datapath.open(devices=["eth0"], **options))
        try:
            pod = [POD[4], POD[6]]
            self.pod = self.dp.endpoints.create(pod, labels={"app": "web"}, name="web")
            self.dp.services.apply(self.services())
        except BaseException:
            self.dp.close()
            raise
        self.reasons: Any = self.dp._core.spec.enums["pcl_reason"]

    def services(self) -> list[ServiceLB]:
        """Port 30080: the endpoint; 30081: a backend elsewhere; 30082: the node; 30083: nowhere."""
        found = []
        for family in (4, 6):
            for protocol in ("tcp", "udp"):
                for port, backend in (
                    (30080, joined(POD[family], 8080)),
                    (30081, joined(FAR[family], 8080)),
                    (30082, joined(NODE[family], 8080)),
                    (30083, joined(LOST[family], 8080)),
                ):
                    front = f"{joined(ANY[family], port)}/{protocol}"
                    found.append(ServiceLB(front, backends=[backend], kind="NodePort"))
                front = f"{joined(VIP[family], 80)}/{protocol}"
                backend = joined(FAR[family], 8080)
                found.append(ServiceLB(front, backends=[backend], kind="LoadBalancer"))
        return found

    def frame(self, source: str, destination: str) -> Packet:
        """From the router to this node."""
        ip = IPv6 if ip_address(source).version == 6 else IP
        return Ether(src=ROUTER_MAC, dst=self.device.mac) / ip(src=source, dst=destination)

    def enter(self, packet: Packet, **context: int) -> Outcome:
        """At the device, from outside."""
        return self._run("from_device", packet, self.device.index, **context)

    def leave(self, packet: Packet) -> Outcome:
        """At the device, from the node itself."""
        return self._run("to_device", packet, self.device.index)

    def send(self, packet: Packet) -> Outcome:
        """From the endpoint."""
        return self._run("from_endpoint", packet, self.pod.ifindex)

    def pod_frame(self, destination: str) -> Packet:
        """From the endpoint to its gateway."""
        family = ip_address(destination).version
        ip = IPv6 if family == 6 else IP
        ether = Ether(src=self.pod.mac, dst=self.pod.device.host_mac)
        return ether / ip(src=POD[family], dst=destination)

    def _run(self, program: str, packet: Packet, ifindex: int, **context: int) -> Outcome:
        before = self._counts()
        loaded = self.dp.object.programs[program]
        ctx = {"ifindex": ifindex, **context}
        run = self.node.run(lambda: loaded.test_run(bytes(packet), ctx=ctx))
        counted = [r for r, n in self._counts().items() if n != before.get(r, 0)]
        reason = counted[0] if counted else -1
        return Outcome(run.retval, bytes(run.data), reason)

    def _counts(self) -> dict[int, int]:
        """Without what the endpoint's own interface says to its neighbours meanwhile."""
        table, noise = self.dp.object.maps["pcl_counters"], self.reasons.PCL_DROP_NEIGHBOUR_NOISE
        return {
            number: sum(one.packets for one in cpus)
            for number, cpus in table.pairs()
            if number != noise
        }

    def connections(self, family: int) -> int:
        return len(self.dp.object.maps[f"pcl_ct{family}"])

    def close(self) -> None:
        self.dp.close()
