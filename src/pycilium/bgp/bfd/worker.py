# SPDX-License-Identifier: Apache-2.0
"""`python -m pycilium.bgp.bfd.worker DESCRIPTOR PARENT`: an engine in a process of its own.

No other work of the program that started it can hold its interpreter's lock. It ends with that
program, however that ends, and then without a word to the peers: for them it has failed.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
from contextlib import suppress

from pycilium.bgp.bfd.server import Server

_PRIORITY = 1  # the lowest of real time: before every normal process, behind all else


def main(arguments: list[str]) -> int:
    """Serve the monitor behind a descriptor until its process closes it or ends."""
    descriptor, parent = map(int, arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which closes us
    with suppress(ProcessLookupError):
        guard = os.pidfd_open(parent)
        _prefer()
        gc.collect()
        gc.freeze()
        Server(socket.socket(fileno=descriptor), guard).serve()
        os.close(guard)
    return 0


def _prefer() -> None:
    """Run before normal processes where we may; the kernel's RT throttling stays in force."""
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_PRIORITY))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
