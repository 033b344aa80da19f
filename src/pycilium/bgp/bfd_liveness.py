# SPDX-License-Identifier: Apache-2.0
"""BGP sessions that end when BFD says that the path has failed (RFC 5882, 9384)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from pycilium.errors import PyciliumError


class BfdSession(Protocol):
    """One session of a monitor; pycilium.bgp.bfd.MonitoredSession is one."""

    def attach(self, client: Any) -> None:
        """Tell a client of failures and recoveries."""

    def remove(self) -> None:
        """End it, on purpose."""


class BfdMonitor(Protocol):
    """What watches paths; pycilium.bgp.bfd.Monitor is one."""

    def add(
        self, peer: str, *, local: str | None, interval: float, multiplier: int, multihop: bool
    ) -> Any:
        """Start a session with a peer."""

    def fileno(self) -> int:
        """Readable while dispatch() has something to tell."""

    def dispatch(self) -> Sequence[object]:
        """Tell the clients what has changed."""


class _Client:
    def __init__(self, changed: Callable[[bool], None]) -> None:
        self._changed = changed

    def bfd_up(self, _: object) -> None:
        self._changed(True)

    def bfd_down(self, _: object) -> None:
        self._changed(False)


class BfdLiveness:
    """A speaker's Liveness by BFD: a BFD session for each BGP session that is established.

    Speaker(…, liveness=BfdLiveness(monitor)). interval: seconds between packets; the path has
    failed when `multiplier` of them are missing. A peer that speaks no BFD keeps its BGP session:
    only a BFD session that was up can fail. What could not be watched is in `failures`.
    """

    def __init__(
        self,
        monitor: BfdMonitor,
        *,
        interval: float = 0.3,
        multiplier: int = 3,
        multihop: bool = False,
    ) -> None:
        self._monitor = monitor
        self._interval = interval
        self._multiplier = multiplier
        self._multihop = multihop
        self._watched = 0
        self.failures: dict[str, str] = {}

    def watch(self, local: str, remote: str, changed: Callable[[bool], None]) -> Callable[[], None]:
        """Start a BFD session; it ends when the BGP session does."""
        try:
            session: BfdSession = self._monitor.add(
                remote,
                local=local,
                interval=self._interval,
                multiplier=self._multiplier,
                multihop=self._multihop,
            )
        except PyciliumError as error:
            self.failures[remote] = str(error)
            return lambda: None
        self.failures.pop(remote, None)
        session.attach(_Client(changed))
        self._read(1)

        def unwatch() -> None:
            session.remove()
            self._read(-1)

        return unwatch

    def _read(self, more: int) -> None:
        """Follow the monitor on this event loop while anything is watched."""
        loop, before = asyncio.get_running_loop(), self._watched
        self._watched += more
        if before == 0:
            loop.add_reader(self._monitor.fileno(), self._monitor.dispatch)
        elif self._watched == 0:
            loop.remove_reader(self._monitor.fileno())
