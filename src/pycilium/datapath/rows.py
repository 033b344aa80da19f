# SPDX-License-Identifier: Apache-2.0
"""Model values as the keys and values of the maps. Layouts come from BTF, not from here."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from pycilium.lb import ServiceRow
from pycilium.model import Backend, Endpoint, Frontend
from pycilium.model.policy import Network
from pycilium.policy import PolicyEntry

Address = IPv4Address | IPv6Address


def address_bytes(address: Address) -> bytes:
    """union pcl_addr: IPv4 in the first four bytes, the rest zero."""
    return address.packed.ljust(16, b"\0")


def address_of(raw: bytes, family: int) -> Address:
    """The other way round."""
    return ip_address(raw[:4] if family == 4 else raw)


def big_endian(port: int) -> int:
    """A port as a __be16 field holds it."""
    return int.from_bytes(port.to_bytes(2, "big"), "little")


def mac_bytes(mac: str) -> bytes:
    """Six bytes."""
    return bytes.fromhex(mac.replace(":", ""))


def address_key(address: Address) -> dict[str, Any]:
    """struct pcl_address_key."""
    return {"addr": address_bytes(address), "family": address.version}


def endpoint_value(endpoint: Endpoint, slot: int, *, peer_redirect: bool) -> dict[str, Any]:
    """struct pcl_endpoint."""
    by_family = {address.version: address for address in endpoint.addresses}
    v4, v6 = by_family.get(4), by_family.get(6)
    return {
        "identity": endpoint.identity.number,
        "policy_slot": slot,
        "peer_redirect": int(peer_redirect),
        "ipv4": int.from_bytes(v4.packed, "little") if v4 else 0,
        "ipv6": v6.packed if v6 else bytes(16),
        "mac": mac_bytes(endpoint.mac),
        "host_mac": mac_bytes(endpoint.host_mac),
        "id": endpoint.id,
    }


def ipcache_key(prefix: Network, static_bits: int) -> dict[str, Any]:
    """struct pcl_ipcache_key."""
    return {
        "prefixlen": static_bits + prefix.prefixlen,
        "family": prefix.version,
        "addr": address_bytes(prefix.network_address),
    }


def policy_key(entry: PolicyEntry) -> dict[str, int]:
    """struct pcl_policy_key."""
    return {
        "prefixlen": entry.prefix_length,
        "identity": entry.identity,
        "direction": entry.direction,
        "protocol": entry.protocol,
        "port_be": big_endian(entry.port),
    }


def service_key(frontend: Frontend) -> dict[str, Any]:
    """struct pcl_service_key."""
    return {
        "addr": address_bytes(frontend.address),
        "port_be": big_endian(frontend.port),
        "protocol": frontend.protocol,
        "family": frontend.address.version,
    }


def service_value(row: ServiceRow) -> dict[str, int]:
    """struct pcl_service_value."""
    return {"id": row.id, "first": row.first, "count": row.count}


def backend_value(backend: Backend, number: int) -> dict[str, Any]:
    """struct pcl_backend."""
    return {
        "addr": address_bytes(backend.address),
        "port_be": big_endian(backend.port),
        "family": backend.address.version,
        "id": number,
    }
