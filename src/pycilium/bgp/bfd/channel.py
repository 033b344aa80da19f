# SPDX-License-Identifier: Apache-2.0
"""A monitor's side of the pair of sockets: requests, their answers, and what is heard between."""

from __future__ import annotations

import os
import select
import time
from collections import deque
from contextlib import suppress
from typing import Any, Final

import attrs

from pycilium.bgp.bfd import control
from pycilium.bgp.bfd.control import Failure, Reply, Report, Request, Verb
from pycilium.bgp.bfd.drivers import Runner
from pycilium.bgp.bfd.monitored import MonitoredSession, StateChange
from pycilium.bgp.bfd.packet import Diagnostic, State
from pycilium.errors import ClosedError, ConflictError, KernelError, PyciliumError

_CHANGES_KEPT: Final = 10_000
_SECONDS_TO_ANSWER: Final = 30.0
_SECONDS_TO_CLOSE: Final = 5.0


class Channel:
    """Talks to one engine, and keeps what it says until somebody takes it."""

    def __init__(self, runner: Runner) -> None:
        self.sessions: dict[int, MonitoredSession] = {}
        self.lost = 0
        self.pid = runner.pid
        self._runner: Runner | None = runner
        self._end = runner.end
        self._end.setblocking(False)
        self._heard: deque[StateChange] = deque()
        self._replies: dict[int, Reply] = {}
        self._serial = 0
        self._ended = ""
        self._waiting = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poller = select.epoll()
        self._poller.register(self._end.fileno(), select.EPOLLIN)
        self._poller.register(self._waiting, select.EPOLLIN)

    @property
    def is_open(self) -> bool:
        """Whether close() was not called yet."""
        return self._runner is not None

    def fileno(self) -> int:
        """Readable while take() has something to give or the engine has said something."""
        self._require_open()
        return self._poller.fileno()

    def wait(self, timeout: float | None) -> bool:
        """Wait, at most `timeout` seconds, until fileno() is readable; whether it is."""
        self._require_open()
        return bool(self._poller.poll(timeout))

    def wait_for_engine(self, timeout: float) -> bool:
        """Wait until the engine says something new; whether it has."""
        return bool(select.select([self._end], [], [], max(0.0, timeout))[0])

    def hear(self) -> None:
        """Take in all that the engine has said, without waiting; PyciliumError if it is gone."""
        self._require_open()
        while True:
            try:
                message = control.receive(self._end)
            except BlockingIOError:
                return
            if message is None:
                self._engine_ended()
            elif isinstance(message, Reply):
                self._replies[message.serial] = message
            elif isinstance(message, Report):
                self._keep(message)

    def take(self) -> list[StateChange]:
        """What has changed since the last call; never waits."""
        self.hear()
        found = list(self._heard)
        self._heard.clear()
        if found:
            os.eventfd_read(self._waiting)
        return found

    def ask(self, verb: Verb, session: MonitoredSession | None = None, about: Any = None) -> Any:
        """Put a question and wait for its answer; the engine's errors are raised here."""
        self.hear()
        if session is not None and session.number not in self.sessions:
            raise ClosedError(f"{session!r} was removed")
        self._serial += 1
        number = session.number if session else 0
        control.send(self._end, Request(self._serial, verb, number, about))
        reply = self._answer(self._serial)
        if reply.failure is not None:
            raise _error(reply.failure, verb, session)
        return reply.result

    def close(self) -> None:
        """Let the engine end its sessions in order, and wait for it. Idempotent."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        if not self._ended:
            self._end.settimeout(_SECONDS_TO_CLOSE)
            with suppress(OSError):  # it may end by itself just now
                control.send(self._end, Request(0, Verb.CLOSE))
            runner.join()
        self._end.close()
        self._poller.close()
        os.close(self._waiting)

    def _keep(self, report: Report) -> None:
        session = self.sessions.get(report.number)
        if session is None:
            return
        session.learn(report.transition.state, report.transition.diagnostic)
        fields = attrs.asdict(report.transition, recurse=False)
        if len(self._heard) == _CHANGES_KEPT:
            self._heard.popleft()
            self.lost += 1
        elif not self._heard:
            os.eventfd_write(self._waiting, 1)
        self._heard.append(StateChange(**fields, session=session, merged=report.merged))

    def _answer(self, serial: int) -> Reply:
        end = time.monotonic() + _SECONDS_TO_ANSWER
        while serial not in self._replies:
            if not self.wait_for_engine(end - time.monotonic()):
                raise PyciliumError("the BFD engine does not answer")
            self.hear()
        return self._replies.pop(serial)

    def _engine_ended(self) -> None:
        if self._runner is not None and not self._ended:
            self._ended = f"the BFD engine is gone: {self._runner.join()}"
            for session in self.sessions.values():
                session.learn(State.DOWN, Diagnostic.NONE)
        raise PyciliumError(self._ended)

    def _require_open(self) -> None:
        if self._runner is None:
            raise ClosedError("the BFD monitor is closed")


def _error(failure: Failure, verb: Verb, session: MonitoredSession | None) -> PyciliumError:
    peer = session.settings.peer if session else ""
    if failure.errno == 0:
        return ConflictError(failure.text)
    if failure.errno == 98:  # EADDRINUSE
        port = "4784" if session and session.settings.multihop else "3784"
        return ConflictError(f"another program has BFD's port {port} in this network namespace")
    return KernelError(failure.errno, f"{verb.value} BFD session with", str(peer))
