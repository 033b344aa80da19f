# SPDX-License-Identifier: Apache-2.0
"""Checks of what the rest of the machine does to packets: filters, forwarding, leftovers."""

from __future__ import annotations

from collections.abc import Iterator

from pycilium.doctor.machine import Machine
from pycilium.doctor.row import Row, State, of_rule
from pycilium.failure import Failure

_FORWARDING = {
    "net.ipv4.ip_forward": "/proc/sys/net/ipv4/ip_forward",
    "net.ipv6.conf.all.forwarding": "/proc/sys/net/ipv6/conf/all/forwarding",
}


def rp_filter(machine: Machine) -> Iterator[Row]:
    """The reverse path filter."""
    failure = Failure(operation="check rp_filter")
    yield from of_rule("PYC-R1", failure, machine, State.WARNING)


def forwarding(machine: Machine) -> Iterator[Row]:
    """Whether the node passes on what is not for it."""
    for name, path in _FORWARDING.items():
        value = (machine.text(path) or "").strip()
        if value == "0":
            text = f"{name} is 0: endpoints reach each other, and nothing outside the node"
            yield Row(State.WARNING, text, fix=f"sysctl -w {name}=1")
        else:
            yield Row(State.OK, f"{name} is {value or 'not there'}")


def networkd(machine: Machine) -> Iterator[Row]:
    """Whether systemd-networkd removes routes of others."""
    yield from of_rule("PYC-R2", Failure(operation="check networkd"), machine, State.WARNING)


def leftovers(machine: Machine) -> Iterator[Row]:
    """Chains and devices of other network plugins."""
    yield from of_rule("PYC-R4", Failure(operation="check leftovers"), machine, State.WARNING)


def plugins(machine: Machine) -> Iterator[Row]:
    """Which network plugin the container runtime takes."""
    yield from of_rule("PYC-R6", Failure(operation="check cni"), machine)
