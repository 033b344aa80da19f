# SPDX-License-Identifier: Apache-2.0
"""Where an engine runs: in a process of its own, or on a thread of this one."""

from __future__ import annotations

import enum
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Protocol

from pycilium.bgp.bfd import control
from pycilium.bgp.bfd.server import Server
from pycilium.errors import KernelError, PyciliumError

_SECONDS_TO_END = 5.0


class Driver(enum.Enum):
    """PROCESS holds its times whatever this process does; THREAD starts at once and is cheaper."""

    PROCESS = "process"
    THREAD = "thread"


class Runner(Protocol):
    """An engine that runs; `end` is the monitor's end of the pair, `pid` the engine's process."""

    end: socket.socket
    pid: int

    def join(self) -> str:
        """Wait for its end, and say how it ended."""


def start(driver: Driver) -> Runner:
    """Start an engine in the network namespace of the calling thread."""
    return _ProcessRunner() if driver is Driver.PROCESS else _ThreadRunner()


class _ThreadRunner:
    def __init__(self) -> None:
        self.end, theirs = control.pair()
        self.pid = os.getpid()
        self._thread = threading.Thread(
            target=Server(theirs).serve, name="pycilium-bfd", daemon=True
        )
        self._thread.start()

    def join(self) -> str:
        self._thread.join(_SECONDS_TO_END)
        return "the thread has ended"


class _ProcessRunner:
    def __init__(self) -> None:
        if not sys.executable:
            raise PyciliumError("no Python to start a BFD worker with: use Driver.THREAD")
        self.end, theirs = control.pair()
        module = f"{__package__}.worker"
        command = [sys.executable, "-P", "-m", module, str(theirs.fileno()), str(os.getpid())]
        try:
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": _path()},
            )
        except OSError as error:
            self.end.close()
            raise KernelError(error.errno or 0, "start", sys.executable) from error
        finally:
            theirs.close()
        self.pid = self._process.pid

    def join(self) -> str:
        try:
            code = self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        return f"its process ended with signal {-code}" if code < 0 else f"it exited with {code}"


def _path() -> str:
    """This package first, so that the worker is of the same version as its monitor."""
    ours = str(Path(__file__).parents[3])
    inherited = os.environ.get("PYTHONPATH")
    return f"{ours}{os.pathsep}{inherited}" if inherited else ours
