# SPDX-License-Identifier: Apache-2.0
"""The endpoint programs with two endpoints, a policy and services, driven packet by packet."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import attrs
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from pycilium.libbpf import Object, ObjectSpec
from pycilium.net import NetNS

WEB, DB = "10.1.0.10", "10.1.0.20"
WEB6, DB6 = "fd00::10", "fd00::20"
VIP, VIP6, EMPTY_VIP, SELF_VIP = "10.96.0.10", "fd00:96::10", "10.96.0.11", "10.96.0.12"
WEB_MAC, DB_MAC = "02:00:00:00:00:10", "02:00:00:00:00:20"
GATEWAY_MAC, DB_GATEWAY_MAC = "02:ff:00:00:00:10", "02:ff:00:00:00:20"
HAIRPIN, HAIRPIN6 = "169.254.42.1", "fd00:169:254:42::1"
WEB_ID, DB_ID = 300, 301
ALLOW, DENY = 1, 2
INGRESS, EGRESS = 0, 1
SHOT, REDIRECT, UNSPEC = 2, 7, 0xFFFFFFFF


def packed(address: str) -> bytes:
    """An address as union pcl_addr."""
    return ip_address(address).packed.ljust(16, b"\0")


def mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


@attrs.frozen
class Entry:
    """One policy entry, as in struct pcl_policy_key and struct pcl_policy_value."""

    direction: int
    identity: int = 0
    protocol: int = 0
    port: int = 0
    verdict: int = ALLOW
    rule: int = 0
    prefix_length: int = 40

    def key(self) -> dict[str, int]:
        return {
            "prefixlen": self.prefix_length,
            "identity": self.identity,
            "direction": self.direction,
            "protocol": self.protocol,
            "port_be": int.from_bytes(self.port.to_bytes(2, "big"), "little"),
        }

    def value(self) -> dict[str, int]:
        return {"verdict": self.verdict, "rule": self.rule}


ALLOW_ALL = (Entry(INGRESS, rule=11), Entry(EGRESS, rule=12))


def big_endian(port: int) -> int:
    """A port as the __be16 that C stores."""
    return int.from_bytes(port.to_bytes(2, "big"), "little")


class Lab:
    """A loaded object whose two endpoints live on two idle devices of a namespace."""

    def __init__(self, node: NetNS, obj: Object, web: int, db: int, spec: ObjectSpec) -> None:
        self.node = node
        self.object = obj
        self.web = web
        self.db = db
        self.reasons: Any = spec.enums["pcl_reason"]
        self.flags: Any = spec.enums["pcl_ct_flags"]
        self.states: Any = spec.enums["pcl_backend_state"]

    @property
    def maps(self) -> Any:
        return self.object.maps

    def fill(self) -> None:
        """Two endpoints that may do anything, and services on the second."""
        self.add_endpoint(self.web, WEB_ID, 1, WEB, WEB6, WEB_MAC, GATEWAY_MAC)
        self.add_endpoint(self.db, DB_ID, 2, DB, DB6, DB_MAC, DB_GATEWAY_MAC)
        self.set_policy(1, ALLOW_ALL)
        self.set_policy(2, ALLOW_ALL)
        self.add_service(VIP, 80, 1, DB, 8080)
        self.add_service(VIP6, 80, 2, DB6, 8080)
        self.add_service(SELF_VIP, 80, 3, WEB, 8080)
        self.maps["pcl_services"][self.service_key(EMPTY_VIP, 80)] = {"id": 9}

    def add_endpoint(
        self, ifindex: int, identity: int, slot: int, v4: str, v6: str, mac: str, gateway: str
    ) -> None:
        self.maps["pcl_endpoints"][ifindex] = {
            "ipv4_identity": identity,
            "ipv6_identity": identity,
            "policy_slot": slot,
            "peer_redirect": 1,
            "ipv4": int.from_bytes(packed(v4)[:4], "little"),
            "ipv6": packed(v6),
            "mac": mac_bytes(mac),
            "host_mac": mac_bytes(gateway),
            "id": slot,
        }
        for address, family in ((v4, 4), (v6, 6)):
            self.maps["pcl_addresses"][{"addr": packed(address), "family": family}] = ifindex

    def set_policy(self, slot: int, entries: tuple[Entry, ...]) -> None:
        outer = self.maps["pcl_policies"]
        with outer.create_inner(max(1, len(entries))) as inner:
            for entry in entries:
                inner[entry.key()] = entry.value()
            outer[slot] = inner
        self.maps["pcl_epochs"][slot] = self.maps["pcl_epochs"][slot] + 1

    def service_key(self, address: str, port: int, protocol: int = 6) -> dict[str, Any]:
        family = ip_address(address).version
        return {
            "addr": packed(address),
            "port_be": big_endian(port),
            "protocol": protocol,
            "family": family,
        }

    def add_service(self, vip: str, port: int, number: int, backend: str, target: int) -> None:
        for protocol in (6, 17):
            self.maps["pcl_services"][self.service_key(vip, port, protocol)] = {
                "id": number,
                "first": number,
                "count": 1,
            }
        self.maps["pcl_slots"][number] = number
        self.set_backend(number, backend, target, service=number)

    def set_backend(
        self,
        index: int,
        address: str,
        port: int,
        *,
        service: int,
        state: str = "ACTIVE",
        number: int = 0,
    ) -> None:
        """A row of pcl_backends; number: its id, the index where none is given."""
        self.maps["pcl_backends"][index] = {
            "addr": packed(address),
            "port_be": big_endian(port),
            "state": int(self.states[f"PCL_BACKEND_{state}"]),
            "family": ip_address(address).version,
            "id": number or index,
            "service": service,
            "index": index,
        }

    def set_service(
        self, vip: str, port: int, number: int, run: list[int], *, protocol: int = 6, **more: int
    ) -> None:
        """A frontend over the backends at these indexes; its run begins at slot `number`."""
        self.maps["pcl_slots"].update([(number + i, index) for i, index in enumerate(run)])
        row = {"id": number, "first": number, "count": len(run), **more}
        self.maps["pcl_services"][self.service_key(vip, port, protocol)] = row

    def add_source(self, number: int, prefix: str) -> None:
        """A prefix in a set of source ranges."""
        network = ip_network(prefix)
        key = {
            "prefixlen": 32 + network.prefixlen,
            "set": number,
            "addr": packed(str(network.network_address)),
        }
        self.maps["pcl_source_ranges"][key] = network.version

    def send(self, packet: Packet | bytes, *, device: int | None = None) -> Outcome:
        """What from_endpoint does with a packet that the endpoint on `device` sends."""
        return self._run("from_endpoint", packet, device or self.web)

    def send_from_db(self, packet: Packet | bytes) -> Outcome:
        """The same for the second endpoint."""
        return self.send(packet, device=self.db)

    def receive(
        self, packet: Packet | bytes, *, device: int | None = None, came_from: int = 0
    ) -> Outcome:
        """What to_endpoint does with a packet from the host's stack; came_from: a device."""
        return self._run("to_endpoint", packet, device or self.web, came_from)

    def _run(
        self, program: str, packet: Packet | bytes, device: int, came_from: int = 0
    ) -> Outcome:
        before = self._counts()
        loaded = self.object.programs[program]
        ctx = {"ifindex": device, "ingress_ifindex": came_from}
        run = self.node.run(lambda: loaded.test_run(bytes(packet), ctx=ctx))
        after = self._counts()
        changed = [reason for reason in after if after[reason] != before[reason]]
        return Outcome(run.retval, bytes(run.data), self.reasons(changed[0]) if changed else None)

    def _counts(self) -> dict[int, int]:
        counters = self.maps["pcl_counters"]
        return {
            int(reason): sum(cpu.packets for cpu in counters[int(reason)])
            for reason in self.reasons
            if int(reason) < counters.max_entries
        }


@attrs.frozen
class Outcome:
    """Return code, packet out and the reason that was counted."""

    action: int
    data: bytes
    reason: Any

    @property
    def packet(self) -> Packet:
        return Ether(self.data)


def web_frame() -> Ether:
    return Ether(src=WEB_MAC, dst=GATEWAY_MAC)


def db_frame() -> Ether:
    return Ether(src=DB_MAC, dst=DB_GATEWAY_MAC)


def checksums_hold(data: bytes) -> bool:
    """Every checksum of the packet is what scapy would have computed."""
    fresh = Ether(data)
    for layer in (IP, TCP, UDP, ICMP):
        if layer in fresh:
            del fresh[layer].chksum
    if IPv6 in fresh:
        for name in ("ICMPv6 Echo Request", "ICMPv6 Echo Reply"):
            if name in fresh:
                del fresh[name].cksum
    return bytes(fresh) == data
