# SPDX-License-Identifier: Apache-2.0
"""Services, and the rules that kube-proxy's modes make of them.

The shape is what matters: `iptables` walks one rule per service in front of the
right one, `nftables` finds it in a verdict map. Both mark for masquerade what
comes from outside the pods, jump to a chain per service and from there to a
chain per endpoint. Every measured service has one endpoint; the target is last.
"""

from __future__ import annotations

from ipaddress import ip_address

from benchmarks.kubeproxy import iptables, nftables
from pycilium import Backend, ServiceLB
from pycilium.model import Frontend

__all__ = ["iptables", "nftables", "service", "services", "with_udp"]

TCP, UDP = 6, 17

_FIRST_FRONTEND = ip_address("10.96.0.1")
_FIRST_BACKEND = ip_address("10.2.0.1")


def service(
    number: int, endpoint: tuple[str, int] | None = None, *, protocol: int = TCP
) -> ServiceLB:
    """The service of a number, counted from 0."""
    backend, port = endpoint or (str(_FIRST_BACKEND + number), 8080)
    return ServiceLB(
        Frontend(_FIRST_FRONTEND + number, 80, protocol),
        backends=[Backend(ip_address(backend), port)],
        name=f"default/service-{number}",
    )


def services(count: int, target: tuple[str, int]) -> list[ServiceLB]:
    """`count` services, of which the last leads to `target`."""
    return [*map(service, range(count - 1)), service(count - 1, target)]


def with_udp(wanted: list[ServiceLB], target: tuple[str, int]) -> list[ServiceLB]:
    """The same, with the UDP port of the last one at the end: rules are walked."""
    return [*wanted, service(len(wanted) - 1, target, protocol=UDP)]
