# SPDX-License-Identifier: Apache-2.0
"""Checks of the kernel, of the process, and of the file systems that BPF needs."""

from __future__ import annotations

from collections.abc import Iterator

from pycilium.doctor.machine import Machine
from pycilium.doctor.row import Row, State, of_rule
from pycilium.doctor.rules.environment import release, setting
from pycilium.failure import Failure
from pycilium.libbpf.features import missing_capabilities

_COMPLETE, _OLDEST = (6, 6), (6, 1)
_NEEDED = {
    "BPF_SYSCALL": "no program loads",
    "CGROUP_BPF": "no services at the socket",
    "NET_CLS_BPF": "no programs on devices before Linux 6.6",
    "VETH": "no endpoints of pycilium's own",
    "BPF_JIT": "programs are interpreted, many times slower",
}
_TYPES = {
    "SCHED_CLS": "no endpoints",
    "XDP": "no XDP load balancer",
    "CGROUP_SOCK_ADDR": "no services at the socket",
}
_BPFFS = "/sys/fs/bpf"


def version(machine: Machine) -> Iterator[Row]:
    """The release, and what it lacks."""
    found = release(machine)
    if found < _OLDEST:
        fix = "use Linux 6.1 or later; 6.6 has everything"
        yield Row(State.WRONG, f"Linux {machine.release} is too old", fix=fix)
    elif found < _COMPLETE:
        yield Row(State.WARNING, f"Linux {machine.release}: clsact in place of TCX")
    else:
        yield Row(State.OK, f"Linux {machine.release} on {machine.architecture}")


def configuration(machine: Machine) -> Iterator[Row]:
    """What the kernel was built with."""
    found = {name: setting(machine, name) for name in _NEEDED}
    if None in found.values():
        yield Row(State.NOTE, "the kernel does not show its configuration")
        return
    missing = [name for name, value in found.items() if value == "n"]
    for name in missing:
        yield Row(State.WRONG, f"CONFIG_{name} is not set: {_NEEDED[name]}", "PYC-E14")
    if not missing:
        yield Row(State.OK, f"{len(found)} settings are as needed")


def types(machine: Machine) -> Iterator[Row]:
    """The kernel's own type information."""
    failure = Failure(operation="load", messages="failed to find valid kernel BTF")
    yield from of_rule("PYC-E8", failure, machine, State.WARNING)


def jit(machine: Machine) -> Iterator[Row]:
    """The compiler of programs."""
    value = (machine.text("/proc/sys/net/core/bpf_jit_enable") or "").strip()
    if value == "1":
        yield Row(State.OK, "on")
    elif value == "0":
        yield from of_rule("PYC-E16", Failure(operation="load"), machine, State.WRONG)
    elif value == "2":
        text = "on, and prints every program into the kernel's log"
        yield Row(State.WARNING, text, fix="sysctl net.core.bpf_jit_enable=1")
    else:
        yield Row(State.NOTE, "its setting cannot be read")


def capabilities(machine: Machine) -> Iterator[Row]:
    """What the process may do."""
    yield from of_rule("PYC-E1", Failure(operation="load"), machine)


def programs(machine: Machine) -> Iterator[Row]:
    """Whether a program of every type that pycilium uses loads."""
    if missing_capabilities(machine.text("/proc/self/status") or ""):
        yield Row(State.NOTE, "not tried: capabilities are missing")
        return
    refused = [name for name in _TYPES if machine.loads(name) is False]
    for name in refused:
        text = f"no program of type {name.lower()} loads: {_TYPES[name]}"
        yield Row(State.WRONG, text, "PYC-E4", "pycilium explain PYC-E4")
    if not refused:
        yield Row(State.OK, f"{', '.join(name.lower() for name in _TYPES)} load")


def lockdown(machine: Machine) -> Iterator[Row]:
    """Whether programs may read the kernel's memory."""
    yield from of_rule("PYC-E5", Failure(operation="load"), machine, State.WARNING)


def bpffs(machine: Machine) -> Iterator[Row]:
    """The file system of pins."""
    pin = Failure(operation="open pin", path=_BPFFS)
    yield from of_rule("PYC-E9", pin, machine, State.WARNING)
    for code in ("PYC-E10", "PYC-E11"):
        yield from (
            row for row in of_rule(code, pin, machine, State.WARNING) if row.state is not State.OK
        )


def cgroups(machine: Machine) -> Iterator[Row]:
    """The hierarchy of the socket layer."""
    mounts = [line.split() for line in (machine.text("/proc/self/mounts") or "").splitlines()]
    where = [mount[1] for mount in mounts if mount[2] == "cgroup2"]
    if not where:
        fix = "mount -t cgroup2 cgroup2 /sys/fs/cgroup"
        yield Row(State.WARNING, "no cgroup2 is mounted: no services at the socket", "PYC-E12", fix)
        return
    yield Row(State.OK, f"cgroup2 at {where[0]}")
    yield from of_rule("PYC-E13", Failure(operation="check cgroup"), machine, State.WARNING)
