# SPDX-License-Identifier: Apache-2.0
"""Checks of the devices: XDP and offloads, who runs on them and in which order, MTUs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pycilium.doctor.machine import Machine
from pycilium.doctor.row import Row, State, of_rule
from pycilium.doctor.rules.attach import largest_mtu
from pycilium.failure import Failure

if TYPE_CHECKING:
    from pycilium.net.devices import Device

_VIRTUAL = ("lo", "ifb", "dummy", "bonding", "bridge")


def devices(machine: Machine) -> Iterator[Row]:
    """Every device, with what it can and what runs on it."""
    for one in machine.devices():
        yield Row(State.NOTE, f"{one.name}: {'; '.join(_parts(one, machine))}")


def _parts(one: Device, machine: Machine) -> Iterator[str]:
    yield f"{one.driver or one.kind or 'no driver'}, MTU {one.mtu}"
    yield f"XDP: {_xdp(one, machine)}"
    if one.offloads:
        yield f"offloads {' '.join(one.offloads)}"
    chain = (*machine.chain(one.index), *(f"tc {name}" for name in one.filters))
    if chain:
        yield f"runs {', then '.join(chain)}"


def _xdp(one: Device, machine: Machine) -> str:
    if one.xdp_program:
        owner = machine.xdp_owner(one.index, one.xdp_program)
        return f"{one.xdp_mode} {machine.program_name(one.xdp_program)} by {owner}"
    if one.xdp_features is None:
        return "not known"
    if "basic" not in one.xdp_features:
        return "generic only"
    return f"native ({' '.join(one.xdp_features)})"


def order(machine: Machine) -> Iterator[Row]:
    """Foreign filters that run behind ours, or never."""
    failure = Failure(operation="check order")
    yield from of_rule("PYC-R3", failure, machine, State.WARNING)


def mtus(machine: Machine) -> Iterator[Row]:
    """Ends that send larger packets than the node's devices take, and XDP's limit."""
    found = machine.devices()
    uplinks = [one for one in found if one.driver not in ("", "veth", "tun", *_VIRTUAL)]
    smallest = min(uplinks, key=lambda one: one.mtu, default=None)
    rows = []
    if smallest is not None:
        large = [one.name for one in found if one.kind == "veth" and one.mtu > smallest.mtu]
        if large:
            text = f"{len(large)} veth above the {smallest.mtu} of {smallest.name}: {large[0]}"
            fix = f"ip link set dev {large[0]} mtu {smallest.mtu}, at both ends"
            rows.append(Row(State.WARNING, text, fix=fix))
    limit = largest_mtu(machine.page_size)
    for one in uplinks:
        if one.mtu > limit and "basic" in (one.xdp_features or ()):
            text = f"{one.name} has {one.mtu}; native XDP without fragments takes {limit}"
            rows.append(Row(State.WARNING, text, "PYC-A1"))
    yield from rows or [Row(State.OK, "no end sends more than its way takes")]
