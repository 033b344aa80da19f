# SPDX-License-Identifier: Apache-2.0
"""Monitor: BFD sessions from the side of the program that wants to know."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Self

from pycilium.bgp.bfd import drivers
from pycilium.bgp.bfd.authentication import Authentication
from pycilium.bgp.bfd.channel import Channel
from pycilium.bgp.bfd.control import Verb
from pycilium.bgp.bfd.drivers import Driver
from pycilium.bgp.bfd.monitored import MonitoredSession, StateChange
from pycilium.bgp.bfd.packet import Discard
from pycilium.bgp.bfd.settings import Address, Settings, Timers
from pycilium.errors import SpecError


class Monitor:
    """BFD sessions with any number of peers (RFC 5880, 5881, 5883), and what happens to them.

    Read it with changes(), `async for`, or dispatch() whenever fileno() is readable. One thread
    at a time. The sessions end with the process, and with close() as administratively down.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._numbers = itertools.count(1)

    @classmethod
    def open(cls, *, driver: Driver = Driver.PROCESS) -> Monitor:
        """Start an engine; its sockets are in the network namespace of the calling thread."""
        if not isinstance(driver, Driver):
            raise SpecError("driver", driver, "Driver.PROCESS or Driver.THREAD")
        return cls(Channel(drivers.start(driver)))

    def add(
        self,
        peer: str | Address,
        *,
        local: str | Address | None = None,
        interface: str | None = None,
        interval: float = 0.3,
        receive_interval: float | None = None,
        multiplier: int = 3,
        multihop: bool = False,
        passive: bool = False,
        authentication: Authentication | None = None,
    ) -> MonitoredSession:
        """Start a session with a peer.

        interval, receive_interval: seconds between packets that we send, and that we can take
        (None: the same). local: None for the address that the kernel would choose. interface:
        for link-local peers. SpecError for bad values, ConflictError where there is such a
        session or another program has the port, KernelError where a socket cannot be had.
        """
        receive = interval if receive_interval is None else receive_interval
        timers = Timers(interval=interval, receive_interval=receive, multiplier=multiplier)
        settings = Settings(
            peer=peer, local=local, interface=interface, timers=timers,
            multihop=multihop, passive=passive, authentication=authentication,
        )  # fmt: skip
        session = MonitoredSession(self._channel, next(self._numbers), settings)
        self._channel.sessions[session.number] = session
        try:
            self._channel.ask(Verb.ADD, session, settings)
        except BaseException:
            del self._channel.sessions[session.number]
            raise
        return session

    @property
    def sessions(self) -> tuple[MonitoredSession, ...]:
        """The sessions, in the order in which they were added."""
        return tuple(self._channel.sessions.values())

    @property
    def pid(self) -> int:
        """The process that the engine runs in: with Driver.THREAD, this one."""
        return self._channel.pid

    @property
    def lost(self) -> int:
        """Changes that were dropped because nobody read them; states are right all the same."""
        return self._channel.lost

    def discarded(self) -> Mapping[Discard, int]:
        """Packets that belonged to no session, by reason."""
        found: Mapping[Discard, int] = self._channel.ask(Verb.DISCARDED)
        return found

    def fileno(self) -> int:
        """Readable while dispatch() has something to give."""
        return self._channel.fileno()

    def dispatch(self) -> list[StateChange]:
        """What has changed since the last call, the clients being told; never waits."""
        found = self._channel.take()
        for change in found:
            change.session.notify(change)
        return found

    def changes(self, timeout: float | None = None) -> Iterator[StateChange]:
        """Changes as they come; ends when none has come for `timeout` seconds (None: never)."""
        while True:
            found = self.dispatch()
            yield from found
            if not found and not self._channel.wait(timeout):
                return

    async def __aiter__(self) -> AsyncIterator[StateChange]:
        """Changes as they come, on the running asyncio loop; one reader at a time."""
        import asyncio

        loop = asyncio.get_running_loop()
        while True:
            for change in self.dispatch():
                yield change
            readable = asyncio.Event()
            loop.add_reader(self.fileno(), readable.set)
            try:
                await readable.wait()
            finally:
                loop.remove_reader(self.fileno())

    def close(self) -> None:
        """End all sessions as administratively down, and the engine. Idempotent."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<BFD monitor of {len(self._channel.sessions)} sessions>"

    def __del__(self) -> None:
        if hasattr(self, "_channel") and self._channel.is_open:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2)
            self.close()
