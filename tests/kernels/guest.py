# SPDX-License-Identifier: Apache-2.0
"""Runs inside the other kernel: every bundled object, every configuration, loaded and attached."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pycilium.errors import KernelError, VerifierError
from pycilium.failure import Result
from pycilium.libbpf import CgroupHook, Hook, Link, ObjectSpec, TcFilter, features, read_iterator
from pycilium.libbpf.kinds import ADDRESS_HOOKS, BIND_HOOKS, ProgramType

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycilium.libbpf import Object, Program

CGROUP = "/sys/fs/cgroup"
SWITCHES = ("ipv4", "ipv6", "services", "trace")


def configurations(spec: ObjectSpec) -> list[dict[str, int]]:
    if spec.name != "endpoint":
        return [{}]
    onoff = itertools.product((0, 1), repeat=len(SWITCHES))
    without_devices = [{"devices": 0, "masquerade": 0}, {"devices": 1, "masquerade": 0}]
    return without_devices + [
        {**dict(zip(SWITCHES, values, strict=True)), "events": events}
        for values in onoff
        for events in (0, 1, 2)
    ]


def attach(program: object, ifindex: int, hook: Hook) -> Link | TcFilter:
    if features.have_tcx():
        return Link.attach_tcx(program, ifindex, hook)  # type: ignore[arg-type]
    return TcFilter.attach(program, ifindex, hook)  # type: ignore[arg-type]


def check(name: str, ifindex: int) -> None:
    spec = ObjectSpec.bundled(name)
    for config in configurations(spec):
        settings = " ".join(f"{key}={value}" for key, value in config.items())
        variables = {"pcl_config": config} if config else {}
        with spec.load(
            variables=variables, max_entries=small(spec), disable_programs=left_out(spec)
        ) as loaded:
            for program in loaded.programs.values():
                use(program, ifindex, loaded)
                print(
                    f"RESULT ok {program.name} insns={program.verified_insns} {settings}",
                    flush=True,
                )


def use(program: Program, ifindex: int, loaded: Object) -> None:
    """Attach it, or run it, by its type."""
    if program.type is ProgramType.SCHED_CLS:
        for hook in Hook:
            attach(program, ifindex, hook).close()
        program.test_run(bytes(64))
    elif program.type is ProgramType.XDP:
        Link.attach_xdp(program, ifindex).close()
        program.test_run(bytes(64))
    elif program.type is ProgramType.CGROUP_SOCK_ADDR:
        Link.attach_cgroup(program, CGROUP, ADDRESS_HOOKS[program.name]).close()
    elif program.type is ProgramType.CGROUP_SOCK:
        Link.attach_cgroup(program, CGROUP, BIND_HOOKS[program.name]).close()
    elif program.type is ProgramType.RAW_TRACEPOINT:
        pass  # the tracepoint is there from Linux 6.6; without it there are no words
    elif program.type is ProgramType.TRACING:
        read_iterator(program, loaded.maps["pcl_peers"] if program.name == "find_sockets" else None)
    else:
        program.test_run(bytes(64))


def left_out(spec: ObjectSpec) -> list[str]:
    """What this kernel cannot load, and pycilium does without."""
    if features.have_sock_destroy():
        return []
    names = [name for name in spec.programs if name.startswith("destroy_")]
    for name in names:
        print(f"LEFT OUT {name}", flush=True)
    return names


def small(spec: ObjectSpec) -> dict[str, int]:
    """The guest has little memory."""
    kinds = ("HASH", "LRU_HASH", "LPM_TRIE")
    return {m.name: min(m.max_entries, 1024) for m in spec.maps.values() if m.type.name in kinds}


def fail(ifindex: int) -> None:
    """Failures of this kernel, each with what the doctor confirms."""
    with (
        ObjectSpec.bundled("empty").load() as tc,
        ObjectSpec.bundled("xdp").load(max_entries=small(ObjectSpec.bundled("xdp"))) as xdp,
    ):
        (first, *_), balance = tc.programs.values(), xdp.programs["balance"]
        told("xdp on lo", lambda: Link.attach_xdp(balance, 1))
        told("tc as xdp", lambda: Link.attach_xdp(first, ifindex))
        told("cgroup", lambda: Link.attach_cgroup(first, "/tmp", CgroupHook.INET4_CONNECT))
        told("xdp as tcx", lambda: Link.attach_tcx(balance, ifindex, Hook.RX))
        told("pin", lambda: first.pin("/tmp/first"))
        with Link.attach_xdp(balance, ifindex):
            told("xdp twice", lambda: Link.attach_xdp(balance, ifindex))
        subprocess.run(["ip", "link", "set", "two", "mtu", "9000"], check=True)
        subprocess.run(["ip", "link", "set", "one", "mtu", "9000"], check=True)
        told("mtu", lambda: Link.attach_xdp(balance, ifindex))


def told(name: str, action: Callable[[], object]) -> None:
    try:
        action()
    except KernelError as error:
        found = [f.code for f in error.diagnosis.findings if f.result is Result.CONFIRMED]
        said = " with words" if error.failure.kernel_text else ""
        print(f"DIAGNOSED {name}: {' '.join(found)}{said}", flush=True)


def main() -> None:
    subprocess.run(["ip", "link", "add", "one", "type", "veth", "peer", "name", "two"], check=True)
    subprocess.run(["ip", "link", "set", "one", "up"], check=True)
    ifindex = int(Path("/sys/class/net/one/ifindex").read_text())
    hook = "tcx" if features.have_tcx() else "clsact"
    print(f"KERNEL {os.uname().release} {hook}", flush=True)
    for name in sys.argv[1:]:
        check(name, ifindex)
    fail(ifindex)
    print("DONE", flush=True)


if __name__ == "__main__":
    try:
        main()
    except VerifierError as error:
        print("\n".join(error.log.splitlines()[-60:]))
        raise
