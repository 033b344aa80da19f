# SPDX-License-Identifier: Apache-2.0
"""Which backends of a service get new connections on a node, and how many slots each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import gcd

import attrs

from pycilium.model.frontend import Backend, BackendState
from pycilium.model.service import ServiceLB, TrafficPolicy

MAX_RUN = 1024  # slots that unequal weights may take; beyond it they are rounded


@attrs.frozen
class Place:
    """A node, by the names that backends give for it; "" where none is known."""

    node: str = ""
    zone: str = ""


def candidates(service: ServiceLB, place: Place) -> tuple[Backend, ...]:
    """The active backends with a weight that clients on this node should use."""
    active = tuple(
        one for one in service.backends if one.state is BackendState.ACTIVE and one.weight
    )
    if service.internal_traffic_policy is TrafficPolicy.LOCAL:
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
