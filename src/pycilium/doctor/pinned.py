# SPDX-License-Identifier: Apache-2.0
"""Checks of the pinned datapaths: how full their maps are."""

from __future__ import annotations

from collections.abc import Iterator

from pycilium.doctor.machine import Machine
from pycilium.doctor.row import Row, State
from pycilium.errors import PyciliumError

_DIRECTORY = "/sys/fs/bpf/pycilium"
_PRESSURE = 0.9


def maps(machine: Machine) -> Iterator[Row]:
    """Maps that are nearly full."""
    names = machine.names(_DIRECTORY)
    if not names:
        yield Row(State.OK, f"no datapath is pinned in {_DIRECTORY}")
    for name in names:
        yield from _of_datapath(name)


def _of_datapath(name: str) -> Iterator[Row]:
    from pycilium.datapath import peek

    try:
        found = peek(name)
    except PyciliumError as error:
        yield Row(State.WARNING, str(error))
        return
    tight = [one for one, (used, size) in found.fill.items() if used > _PRESSURE * size]
    for one in tight:
        used, size = found.fill[one]
        text = f"{name}: {one} has {used} of {size} entries"
        yield Row(State.WARNING, text, "PYC-M1", f'sizes={{"{one}": {2 * size}}}')
    if not tight:
        yield Row(State.OK, f"{name}: no map is above {_PRESSURE:.0%}")
