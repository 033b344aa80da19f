# SPDX-License-Identifier: Apache-2.0
"""What the service maps hold, in rows, and what a change writes and deletes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from pycilium.model.frontend import Backend, Frontend
from pycilium.model.service import Network, ServiceLB


@attrs.frozen
class ServiceRow:
    """pcl_services: a frontend's run of slots, and what it asks of its clients.

    affinity: seconds, 0 for none. sources: the number of its set of source ranges, 0 for none.
    outside: it serves clients beyond the node's devices, with outside_count slots from
    first + outside_start. wall: no service, but an address whose other ports are refused.
    """

    id: int
    first: int
    count: int
    affinity: int = 0
    sources: int = 0
    deny: bool = False
    outside: bool = False
    outside_start: int = 0
    outside_count: int = 0
    maglev: bool = False
    dsr: tuple[int, ...] = ()  # protocols whose answers go past this node
    wall: bool = False

    @property
    def slots(self) -> int:
        """How long its run is."""
        return max(self.count, self.outside_start + self.outside_count)


@attrs.frozen
class BackendRow:
    """pcl_backends: one server of one service at an index; gone: only its number stays."""

    index: int
    id: int
    service: int
    backend: Backend
    gone: bool = False


@attrs.frozen
class Changes:
    """What to write and to delete, in an order that never lies.

    backends and sources, slots; removed services, then the others; at last retired (backends that
    get nothing new any more) and unused source ranges. before and after: the services between
    which this leads, those at least that differ.
    """

    backends: tuple[BackendRow, ...] = ()
    sources: tuple[tuple[int, Network], ...] = ()
    slots: tuple[tuple[int, int], ...] = ()
    services: Mapping[Frontend, ServiceRow] = attrs.field(factory=dict)
    retired: tuple[BackendRow, ...] = ()
    removed: tuple[Frontend, ...] = ()
    walls: tuple[Frontend, ...] = ()
    unwalled: tuple[Frontend, ...] = ()
    unused: tuple[tuple[int, Network], ...] = ()
    added: int = 0
    changed: int = 0
    before: Sequence[ServiceLB] = attrs.field(default=(), eq=False, repr=False)
    after: Sequence[ServiceLB] = attrs.field(default=(), eq=False, repr=False)

    @property
    def writes(self) -> int:
        """Map entries written or deleted."""
        lists = (self.backends, self.sources, self.slots, self.services)
        gone = (self.retired, self.removed, self.unused, self.walls, self.unwalled)
        return sum(map(len, (*lists, *gone)))


@attrs.frozen
class Standing:
    """What the maps hold of one service, as adopt() reads it."""

    row: ServiceRow
    servers: tuple[BackendRow, ...]
    run: tuple[int, ...]
    sources: tuple[Network, ...] = ()


@attrs.frozen
class Sizes:
    """How much the maps hold."""

    services: int
    slots: int
    backends: int
    sources: int = 16384
