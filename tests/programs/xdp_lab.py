# SPDX-License-Identifier: Apache-2.0
"""A balancer on an idle device, whose backends are neighbours that are written down."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import attrs
from scapy.layers.inet import ICMP, IP, TCP, UDP, ICMPerror, IPerror, TCPerror, UDPerror
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6PacketTooBig, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from pycilium import Datapath, ServiceLB
from pycilium.datapath.xdp import Balancer
from pycilium.datapath.xdp_settings import BalancerOptions, VipSettings
from pycilium.model import Backend, Frontend
from pycilium.net import NetNS, addresses, links, neighbours, routes, sysctl

CLIENT, CLIENT6, CLIENT_MAC = "198.51.100.9", "2001:db8:9::9", "02:00:00:00:00:99"
VIP, VIP6 = "192.0.2.1", "2001:db8::1"
ANY_VIP, EMPTY_VIP, L2_VIP, UDP_VIP = "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5"
UNRESOLVED_VIP, LOST_VIP, SOURCE_VIP = "192.0.2.6", "192.0.2.7", "192.0.2.8"
L2_UNRESOLVED_VIP = "192.0.2.9"
L2_VIP6 = "2001:db8::4"
RING = 1021
SMALL = {
    "pcl_xdp_rings": 20 * RING,
    "pcl_xdp_backends": 64,
    "pcl_xdp_vips": 64,
    "pcl_xdp_flows4": 1024,
    "pcl_xdp_flows6": 1024,
}


def service(vip: str, *backends: str, port: int = 80, protocol: int = 6) -> ServiceLB:
    frontend = Frontend(IP_OF(vip), port, protocol)
    return ServiceLB(frontend, backends=[Backend(IP_OF(one), port) for one in backends])


def IP_OF(text: str):  # noqa: N802 - reads as a constructor
    from ipaddress import ip_address

    return ip_address(text)


FOUR = ("10.0.0.2", "10.0.0.3")
SIX = ("fd00::2", "fd00::3")
SERVICES = (
    service(VIP, *FOUR),
    service(VIP, *FOUR, port=53, protocol=17),
    service(VIP, *FOUR, port=90, protocol=132),
    service(VIP6, *SIX),
    service(VIP6, *SIX, port=53, protocol=17),
    service(ANY_VIP, *FOUR, port=0),
    service(EMPTY_VIP),
    service(L2_VIP, *FOUR),
    service(L2_VIP6, *SIX),
    service(UDP_VIP, *FOUR, port=53, protocol=17),
    service(UNRESOLVED_VIP, "10.0.0.77"),
    service(LOST_VIP, "203.0.113.5"),
    service(SOURCE_VIP, *(f"10.0.0.{i}" for i in range(2, 10))),
    service(L2_UNRESOLVED_VIP, "10.0.0.77"),
)
OTHERS = {
    SERVICES[7].frontend: VipSettings(ring=RING, forward="l2"),
    SERVICES[8].frontend: VipSettings(ring=RING, forward="l2"),
    SERVICES[9].frontend: VipSettings(ring=RING, remember=False),
    SERVICES[12].frontend: VipSettings(ring=RING, hash_by="source"),
    SERVICES[13].frontend: VipSettings(ring=RING, forward="l2"),
}
SETTINGS = {one.frontend: OTHERS.get(one.frontend, VipSettings(ring=RING)) for one in SERVICES}


@attrs.frozen
class Lab:
    """The balancer, and the MAC of its device."""

    balancer: Balancer
    mac: str
    node: NetNS

    def frame(self, source: str = CLIENT, to: str = VIP, **fields: object) -> Packet:
        """Ethernet and IP from a client to an address."""
        layer = IPv6 if ":" in to else IP
        if layer is IPv6 and source == CLIENT:
            source = CLIENT6
        return Ether(src=CLIENT_MAC, dst=self.mac) / layer(src=source, dst=to, **fields)

    def send(self, packet: Packet | bytes):
        (result,) = self.balancer.test([packet])
        return result

    def backend(self, packet: Packet) -> str:
        """The address that the tunnel of this packet leads to."""
        result = self.send(packet)
        assert result.reason == "PCL_XDP_FORWARDED", result
        outer = Ether(result.output)
        return str((outer[IP] if IP in outer else outer[IPv6]).dst)


@contextmanager
def opened(node: NetNS, **options: object) -> Iterator[Lab]:
    """A device with ten neighbours of each family, a router's MAC and every VIP above."""
    device, peer = links.create_veth("eth0", "peer", ns=node)
    addresses.add("10.0.0.1/24", device.index, ns=node)
    addresses.add("fd00::1/64", device.index, ns=node)
    for one in (device, peer):
        links.set_up(one.index, ns=node)
    for family in ("ipv4", "ipv6"):
        sysctl.write(f"net/{family}/conf/all/forwarding", 1, ns=node)
    for i in range(2, 12):
        for prefix in ("10.0.0.", "fd00::"):
            neighbours.add(f"{prefix}{i}", mac_of(i), dev=device.index, ns=node)
    routes.add("10.9.0.0/16", via="10.0.0.11", dev=device.index, ns=node)
    with node.run(
        lambda: Datapath.open(
            programs="xdp",
            devices=["eth0"],
            sizes=SMALL,
            balancer=BalancerOptions(**options),  # type: ignore[arg-type]
        )
    ) as balancer:
        balancer.services.apply(SERVICES, settings=SETTINGS)
        yield Lab(balancer, device.mac, node)


def mac_of(number: int) -> str:
    return f"02:00:00:00:01:{number:02x}"


def checksums_hold(data: bytes) -> bool:
    """Every checksum, of tunnels and of what errors quote too, is what scapy would compute."""
    fresh = Ether(data)
    layer = fresh
    while layer and not isinstance(layer, (Raw, IPerror, TCPerror, UDPerror, ICMPerror)):
        for field in ("chksum", "cksum"):
            if field in layer.fields and layer.name != "IP in ICMP":
                delattr(layer, field)
        layer = layer.payload
    return bytes(fresh) == data


__all__ = [
    "ICMP",
    "IP",
    "TCP",
    "UDP",
    "Ether",
    "ICMPv6EchoRequest",
    "ICMPv6PacketTooBig",
    "IPv6",
]
