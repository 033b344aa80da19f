# SPDX-License-Identifier: Apache-2.0
"""Which backends of a service get new connections on a node, and how many slots each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import gcd

import attrs

from pycilium.lb import maglev
from pycilium.model.frontend import Backend, BackendState
from pycilium.model.service import Algorithm, ServiceKind, ServiceLB, TrafficPolicy

MAX_RUN = 1024  # slots that unequal weights may take; beyond it they are rounded


@attrs.frozen
class Place:
    """A node, by the names that backends give for it; "" where none is known.

    outside: clients beyond its devices are served. maglev_size: slots of a Maglev table, a prime.
    """

    node: str = ""
    zone: str = ""
    outside: bool = False
    maglev_size: int = 1021


def candidates(service: ServiceLB, place: Place) -> tuple[Backend, ...]:
    """The active backends with a weight that clients on this node should use."""
    inside = service.kind is ServiceKind.CLUSTER_IP
    return _candidates(service, place, inside and service.internal_traffic_policy)


def outside_candidates(service: ServiceLB, place: Place) -> tuple[Backend, ...]:
    """Those that clients outside the cluster should use; none where it does not serve them."""
    if service.kind is ServiceKind.CLUSTER_IP:
        return ()
    return _candidates(service, place, service.external_traffic_policy)


def run_of(service: ServiceLB, chosen: Sequence[Backend], place: Place) -> list[Backend]:
    """A backend for each slot."""
    if service.algorithm is Algorithm.MAGLEV and chosen:
        weights = {str(one): one.weight for one in chosen}
        return [chosen[index] for index in maglev.table(weights, place.maglev_size)]
    pairs = zip(chosen, shares(chosen), strict=True)
    return [one for one, count in pairs for _ in range(count)]


def _candidates(
    service: ServiceLB, place: Place, policy: TrafficPolicy | bool
) -> tuple[Backend, ...]:
    active = tuple(
        one for one in service.backends if one.state is BackendState.ACTIVE and one.weight
    )
    if policy is TrafficPolicy.LOCAL:
        return tuple(one for one in active if one.node and one.node == place.node)
    if not any(one.for_nodes or one.for_zones for one in active):
        return active
    for wanted, hints in ((place.node, "for_nodes"), (place.zone, "for_zones")):
        near = tuple(one for one in active if wanted and wanted in getattr(one, hints))
        # A backend without a hint says that the hints are not complete: all count.
        if near and all(getattr(one, hints) for one in active):
            return near
    return active


def shares(backends: Sequence[Backend]) -> list[int]:
    """Slots of each backend, in proportion to the weights; exact up to MAX_RUN together."""
    weights = [one.weight for one in backends]
    if len(set(weights)) <= 1:
        return [1] * len(weights)
    common = reduce(gcd, weights)
    exact = [weight // common for weight in weights]
    total = sum(exact)
    if total <= MAX_RUN:
        return exact
    return [max(1, round(weight * MAX_RUN / total)) for weight in exact]
