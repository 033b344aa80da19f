# SPDX-License-Identifier: Apache-2.0
"""Runs inside the other kernel: every bundled object, every configuration, loaded and attached."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

from pycilium.errors import VerifierError
from pycilium.libbpf import Hook, Link, ObjectSpec, TcFilter, features
from pycilium.libbpf.kinds import ProgramType

SWITCHES = ("ipv4", "ipv6", "services", "trace")


def configurations(spec: ObjectSpec) -> list[dict[str, int]]:
    if "pcl_config" not in spec.variables:
        return [{}]
    onoff = itertools.product((0, 1), repeat=len(SWITCHES))
    return [
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
        with spec.load(variables=variables, max_entries=small(spec)) as loaded:
            for program in loaded.programs.values():
                if program.type is ProgramType.SCHED_CLS:
                    for hook in Hook:
                        attach(program, ifindex, hook).close()
                elif program.type is ProgramType.XDP:
                    Link.attach_xdp(program, ifindex).close()
                program.test_run(bytes(64))
                print(
                    f"RESULT ok {program.name} insns={program.verified_insns} {settings}",
                    flush=True,
                )


def small(spec: ObjectSpec) -> dict[str, int]:
    """The guest has little memory."""
    kinds = ("HASH", "LRU_HASH", "LPM_TRIE")
    return {m.name: min(m.max_entries, 1024) for m in spec.maps.values() if m.type.name in kinds}


def main() -> None:
    subprocess.run(["ip", "link", "add", "one", "type", "veth", "peer", "name", "two"], check=True)
    subprocess.run(["ip", "link", "set", "one", "up"], check=True)
    ifindex = int(Path("/sys/class/net/one/ifindex").read_text())
    hook = "tcx" if features.have_tcx() else "clsact"
    print(f"KERNEL {os.uname().release} {hook}", flush=True)
    for name in sys.argv[1:]:
        check(name, ifindex)
    print("DONE", flush=True)


if __name__ == "__main__":
    try:
        main()
    except VerifierError as error:
        print("\n".join(error.log.splitlines()[-60:]))
        raise
