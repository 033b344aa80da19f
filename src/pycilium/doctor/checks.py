# SPDX-License-Identifier: Apache-2.0
"""The check of a machine: what BPF networking needs of it, and the traps that it has laid."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import attrs

from pycilium.doctor import devices, kernel, pinned, traps
from pycilium.doctor.machine import Machine
from pycilium.doctor.row import Row, State
from pycilium.documents import one_of
from pycilium.errors import KernelError, SpecError

_CHECKS: dict[str, Callable[[Machine], Iterator[Row]]] = {
    "kernel": kernel.version,
    "configuration": kernel.configuration,
    "btf": kernel.types,
    "jit": kernel.jit,
    "capabilities": kernel.capabilities,
    "programs": kernel.programs,
    "lockdown": kernel.lockdown,
    "bpffs": kernel.bpffs,
    "cgroups": kernel.cgroups,
    "devices": devices.devices,
    "order": devices.order,
    "mtu": devices.mtus,
    "rp_filter": traps.rp_filter,
    "forwarding": traps.forwarding,
    "networkd": traps.networkd,
    "leftovers": traps.leftovers,
    "cni": traps.plugins,
    "maps": pinned.maps,
}
CHECKS = tuple(_CHECKS)


@attrs.frozen
class Check:
    """One check's name and what it found."""

    name: str
    rows: tuple[Row, ...]

    @property
    def wrong(self) -> bool:
        """Whether something will not work."""
        return any(row.state is State.WRONG for row in self.rows)


def examine(only: Iterable[str] = (), machine: Machine | None = None) -> list[Check]:
    """Run every check, or those named; nothing is changed. Raises SpecError for an unknown one.

    machine: what is asked (None: the running one, from the calling thread's namespace).
    """
    wanted = (only,) if isinstance(only, str) else tuple(only)
    for name in wanted:
        if name not in _CHECKS:
            raise SpecError("only", name, one_of(name, list(CHECKS)))
    where = machine or Machine()
    return [Check(name, _rows(name, where)) for name in wanted or CHECKS]


def _rows(name: str, machine: Machine) -> tuple[Row, ...]:
    try:
        return tuple(_CHECKS[name](machine))
    except KernelError as error:
        return (Row(State.WARNING, f"not checked: {error}"),)
