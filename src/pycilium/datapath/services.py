# SPDX-License-Identifier: Apache-2.0
"""Services in the kernel: the rows of pycilium.lb, written in the order that it gives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pycilium.datapath import rows
from pycilium.datapath.context import Context
from pycilium.errors import SpecError
from pycilium.lb import Changes, ServiceTable
from pycilium.model import Change, Delta, ServiceLB


class Services:
    """The full desired set of services."""

    def __init__(self, context: Context) -> None:
        self._context = context
        sizes = [context.map(f"pcl_{name}").max_entries for name in ("services", "slots", "backends")]
        self.table = ServiceTable((sizes[0], sizes[1], sizes[2]))

    def __iter__(self) -> Iterator[ServiceLB]:
        return iter(self.table.services)

    def __len__(self) -> int:
        return len(self.table.services)

    def plan(self, desired: ServiceLB | Iterable[ServiceLB]) -> Delta:
        """What apply() would change, to the entry; changes nothing."""
        with self._context.lock:
            return _delta(self.table.plan(_checked(desired)))

    def apply(self, desired: ServiceLB | Iterable[ServiceLB]) -> Delta:
        """Make exactly these services hold; a second call writes nothing.

        Connections stay with their backend. Raises SpecError and MapFullError before the
        first write.
        """
        services = _checked(desired)
        with self._context.lock:
            delta = _delta(self.table.plan(services))
            if delta:
                changes = self.table.commit(services)
                self._context.record()
                self._write(changes)
            return delta

    def restore(self, services: Iterable[ServiceLB]) -> None:
        """Write the table anew into maps that hold an older one, and drop what is not in it."""
        changes = self.table.commit(services)
        self._write(changes)
        services_map = self._context.map("pcl_services")
        wanted = {services_map.key_codec.encode(rows.service_key(f)) for f in changes.services}
        held = (services_map.key_codec.encode(key) for key in list(services_map))
        services_map.remove([key for key in held if key not in wanted])

    def _write(self, changes: Changes) -> None:
        context = self._context
        context.map("pcl_backends").update(
            [(row.index, rows.backend_value(row.backend, row.id)) for row in changes.backends]
        )
        context.map("pcl_slots").update(list(changes.slots))
        services = context.map("pcl_services")
        services.update(
            [(rows.service_key(f), rows.service_value(row)) for f, row in changes.services.items()]
        )
        services.remove(rows.service_key(frontend) for frontend in changes.removed)


def _checked(desired: ServiceLB | Iterable[ServiceLB]) -> list[ServiceLB]:
    services = [desired] if isinstance(desired, ServiceLB) else list(desired)
    for one in services:
        if not isinstance(one, ServiceLB):
            raise SpecError("services", one, "ServiceLB values")
    return services


def _delta(changes: Changes) -> Delta:
    entries = [Change("pcl_backends", str(r.index), str(r.backend)) for r in changes.backends]
    entries += [Change("pcl_slots", str(slot), str(index)) for slot, index in changes.slots]
    entries += [
        Change("pcl_services", str(f), f"id {row.id}, {row.count} slots from {row.first}")
        for f, row in changes.services.items()
    ]
    entries += [Change("pcl_services", str(frontend), None) for frontend in changes.removed]
    return Delta(changes.added, changes.changed, len(changes.removed), tuple(entries))


