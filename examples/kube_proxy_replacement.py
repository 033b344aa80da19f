# SPDX-License-Identifier: Apache-2.0
"""Serve the Services of a directory of manifests to a datapath's endpoints; follow its changes."""

import sys
import time
from pathlib import Path

from pycilium.datapath import Datapath, is_pinned
from pycilium.lb.health_check import HealthChecks
from pycilium.lb.manifests import read_services


def main(directory: str, pin: str = "pycilium", bpffs: str = "/sys/fs/bpf") -> None:
    """Until it is stopped; the kernel goes on with what it has."""
    pinned, seen = is_pinned(pin, bpffs), None
    dp = Datapath.adopt(pin, bpffs=bpffs) if pinned else Datapath.open(pin=pin, bpffs=bpffs)
    with dp, HealthChecks() as checks:
        while True:
            time.sleep(0.2)
            if (now := {f: f.stat().st_mtime_ns for f in Path(directory).rglob("*.yaml")}) != seen:
                found, seen = read_services(directory, go_on=True), now
                errors = (*found.errors, *dp.services.refused(found.services))
                sys.stderr.writelines(f"{one}\n" for one in errors)
                if not found.errors:  # a file that is half written: what is in force stays
                    print(dp.services.apply(found.services, go_on=True), flush=True)
                    checks.apply(found.services)


if __name__ == "__main__":
    main(*sys.argv[1:])
