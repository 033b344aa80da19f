# SPDX-License-Identifier: Apache-2.0
"""Services, and the rules that kube-proxy's three modes make of them.

The shape is what matters: `iptables` walks one rule per service in front of the
right one, `nftables` finds it in a verdict map. Both mark for masquerade what
comes from outside the pods, jump to a chain per service and from there to a
chain per endpoint. Every service has one endpoint; the measured one is last.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address

import attrs

PODS = "10.0.0.0/14"  # every endpoint is in it: 10.1.0.0/16 the real ones, 10.2.0.0/15 the rest
MASQUERADE = "0x4000"

_FIRST_FRONTEND = IPv4Address("10.96.0.1")
_FIRST_BACKEND = IPv4Address("10.2.0.1")


@attrs.frozen
class Service:
    """One TCP frontend with one endpoint."""

    name: str
    address: str
    port: int
    backend: str
    backend_port: int

    @property
    def frontend(self) -> str:
        return f"{self.address}:{self.port}/tcp"

    @property
    def endpoint(self) -> str:
        return f"{self.backend}:{self.backend_port}"

    @property
    def digest(self) -> str:
        """Sixteen characters, as in the names of kube-proxy's chains."""
        return hashlib.sha256(self.name.encode()).hexdigest()[:16].upper()


def service(number: int, endpoint: tuple[str, int] | None = None) -> Service:
    """The service of a number, counted from 0."""
    backend, port = endpoint or (str(_FIRST_BACKEND + number), 8080)
    return Service(f"default/service-{number}", str(_FIRST_FRONTEND + number), 80, backend, port)


def services(count: int, target: tuple[str, int]) -> list[Service]:
    """`count` services, of which the last leads to `target`."""
    return [*map(service, range(count - 1)), service(count - 1, target)]


def iptables_rules(wanted: Sequence[Service]) -> str:
    """Input of iptables-restore: the whole nat table."""
    return "\n".join(
        [
            "*nat",
            *(f":{chain} - [0:0]" for chain in ("KUBE-SERVICES", "KUBE-POSTROUTING")),
            ":KUBE-MARK-MASQ - [0:0]",
            *_iptables_chains(wanted),
            '-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
            '-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
            '-A POSTROUTING -m comment --comment "kubernetes postrouting" -j KUBE-POSTROUTING',
            f"-A KUBE-MARK-MASQ -j MARK --or-mark {MASQUERADE}",
            f"-A KUBE-POSTROUTING -m mark ! --mark {MASQUERADE}/{MASQUERADE} -j RETURN",
            f"-A KUBE-POSTROUTING -j MARK --xor-mark {MASQUERADE}",
            "-A KUBE-POSTROUTING -j MASQUERADE --random-fully",
            *_iptables_rules(wanted),
            "COMMIT\n",
        ]
    )


def iptables_addition(added: Service) -> str:
    """Input of iptables-restore --noflush: one more service."""
    lines = ["*nat", *_iptables_chains([added]), *_iptables_rules([added]), "COMMIT\n"]
    return "\n".join(lines)


def _iptables_chains(wanted: Iterable[Service]) -> Iterator[str]:
    for one in wanted:
        yield f":KUBE-SVC-{one.digest} - [0:0]"
        yield f":KUBE-SEP-{one.digest} - [0:0]"


def _iptables_rules(wanted: Iterable[Service]) -> Iterator[str]:
    for one in wanted:
        service_chain, endpoint_chain = f"KUBE-SVC-{one.digest}", f"KUBE-SEP-{one.digest}"
        frontend = (
            f'-d {one.address}/32 -p tcp -m comment --comment "{one.name} cluster IP"'
            f" -m tcp --dport {one.port}"
        )
        comment = f'-m comment --comment "{one.name}"'
        yield f"-A KUBE-SERVICES {frontend} -j {service_chain}"
        yield f"-A {service_chain} ! -s {PODS} {frontend} -j KUBE-MARK-MASQ"
        yield f"-A {service_chain} {comment} -j {endpoint_chain}"
        yield f"-A {endpoint_chain} -s {one.backend}/32 {comment} -j KUBE-MARK-MASQ"
        yield (
            f"-A {endpoint_chain} -p tcp {comment} -m tcp -j DNAT --to-destination {one.endpoint}"
        )


_NFTABLES_BASE = f"""
add table ip kube-proxy
add map ip kube-proxy service-ips {{ type ipv4_addr . inet_proto . inet_service : verdict ; }}
add chain ip kube-proxy services
add chain ip kube-proxy mark-for-masquerade
add chain ip kube-proxy masquerading
add chain ip kube-proxy nat-prerouting {{ type nat hook prerouting priority dstnat ; }}
add chain ip kube-proxy nat-output {{ type nat hook output priority -100 ; }}
add chain ip kube-proxy nat-postrouting {{ type nat hook postrouting priority srcnat ; }}
add rule ip kube-proxy services ip daddr . meta l4proto . th dport vmap @service-ips
add rule ip kube-proxy mark-for-masquerade mark set mark or {MASQUERADE}
add rule ip kube-proxy masquerading mark and {MASQUERADE} == 0 return
add rule ip kube-proxy masquerading mark set mark xor {MASQUERADE}
add rule ip kube-proxy masquerading masquerade fully-random
add rule ip kube-proxy nat-prerouting jump services
add rule ip kube-proxy nat-output jump services
add rule ip kube-proxy nat-postrouting jump masquerading
"""


def nftables_rules(wanted: Sequence[Service]) -> str:
    """Input of nft -f: the table and all services in one transaction."""
    return _NFTABLES_BASE.lstrip() + nftables_addition(*wanted)


def nftables_batches(wanted: Sequence[Service], size: int = 500) -> list[str]:
    """The same in transactions of `size` services: one of 10,000 takes most of a minute."""
    batches = (wanted[start : start + size] for start in range(0, len(wanted), size))
    return [_NFTABLES_BASE.lstrip(), *(nftables_addition(*batch) for batch in batches)]


def nftables_addition(*added: Service) -> str:
    """Input of nft -f: more services in a table that stands."""
    return "".join(f"{line}\n" for one in added for line in _nftables_service(one))


def _nftables_service(one: Service) -> Iterator[str]:
    table = "ip kube-proxy"
    service_chain, endpoint_chain = f"service-{one.digest}", f"endpoint-{one.digest}"
    yield f"add chain {table} {service_chain}"
    yield f"add chain {table} {endpoint_chain}"
    yield (
        f"add rule {table} {service_chain} ip daddr {one.address} tcp dport {one.port}"
        f" ip saddr != {PODS} jump mark-for-masquerade"
    )
    yield (
        f"add rule {table} {service_chain} numgen random mod 1 vmap {{ 0 : goto {endpoint_chain} }}"
    )
    yield f"add rule {table} {endpoint_chain} ip saddr {one.backend} jump mark-for-masquerade"
    yield f"add rule {table} {endpoint_chain} meta l4proto tcp dnat to {one.endpoint}"
    yield (
        f"add element {table} service-ips"
        f" {{ {one.address} . tcp . {one.port} : goto {service_chain} }}"
    )
