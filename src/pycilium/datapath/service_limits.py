# SPDX-License-Identifier: Apache-2.0
"""What a service may ask for that the programs do not do yet: refused, never ignored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycilium.model import Algorithm, ServiceKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pycilium.errors import SpecError
    from pycilium.model import ServiceLB

_SCTP = 132


def refusal(service: ServiceLB) -> SpecError | None:
    """The first reason why apply() would not take this service."""
    return next(_refusals(service), None)


def _refusals(service: ServiceLB) -> Iterator[SpecError]:
    if service.kind is not ServiceKind.CLUSTER_IP:
        allowed = f"{ServiceKind.CLUSTER_IP.value}: clients outside the cluster are not served yet"
        yield service.error("kind", service.kind.value, allowed)
    if service.algorithm is not Algorithm.RANDOM:
        allowed = f"{Algorithm.RANDOM.value}: the endpoints' programs choose by nothing else yet"
        yield service.error("algorithm", service.algorithm.value, allowed)
    if service.frontend.protocol != _SCTP:
        return
    for backend in service.backends:
        if backend.port != service.frontend.port:
            allowed = f"port {service.frontend.port}: SCTP's port cannot be changed on the way"
            yield service.error("backend", str(backend), allowed)
