# SPDX-License-Identifier: Apache-2.0
"""What a service may ask for that this datapath does not do: refused, never ignored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycilium.model import Algorithm, ServiceKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pycilium.errors import SpecError
    from pycilium.lb import Place
    from pycilium.model import ServiceLB

_SCTP = 132


def refusal(service: ServiceLB, place: Place, *, sockets: bool) -> SpecError | None:
    """The first reason why apply() would not take this service.

    sockets: the socket layer serves the node's own clients, whatever the kind.
    """
    return next(_refusals(service, place, sockets), None)


def _refusals(service: ServiceLB, place: Place, sockets: bool) -> Iterator[SpecError]:
    inside = ServiceKind.CLUSTER_IP
    if service.kind is not inside and not place.outside and not sockets:
        allowed = f"{inside.value}, or Datapath.open(devices=[...]) for clients outside"
        yield service.error("kind", service.kind.value, allowed)
    if service.algorithm is Algorithm.MAGLEV and len(service.backends) > place.maglev_size:
        allowed = f"at most {place.maglev_size}, the size of the Maglev table"
        yield service.error("backends", len(service.backends), allowed)
    if service.frontend.protocol != _SCTP:
        return
    for backend in service.backends:
        if backend.port != service.frontend.port:
            allowed = f"port {service.frontend.port}: SCTP's port cannot be changed on the way"
            yield service.error("backend", str(backend), allowed)
