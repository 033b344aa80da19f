# SPDX-License-Identifier: Apache-2.0
"""A short life of a HostScope; each change that was acknowledged is printed."""

from __future__ import annotations

import sys
from contextlib import suppress

from pycilium.errors import KernelError
from pycilium.ipam import HostScope, Pool, store

STEPS = ("+a", "+b", "-a", "+c", "+d", "-b", "-c", "+e")


def step(scope: HostScope, what: str) -> None:
    if what[0] == "+":
        scope.allocate(what[1:])
    else:
        scope.release(what[1:])
    print(what, flush=True)


def main() -> None:
    store._SLACK = 1  # so that the log is written anew on the way
    pool = Pool(ipv4="10.1.0.0/29", quarantine=0)
    with HostScope.open(pool, path=sys.argv[1]) as scope:
        for what in STEPS:
            with suppress(KernelError):
                step(scope, what)


if __name__ == "__main__":
    with suppress(KernelError):
        main()
