# SPDX-License-Identifier: Apache-2.0
"""The loop around an engine: reads packets and requests, keeps time, tells its monitor.

It never waits for the monitor: of what a busy one has not read yet, a few reports are
kept for each session.
"""

from __future__ import annotations

import errno
import selectors
import socket
import time
from collections import deque
from selectors import EVENT_READ, EVENT_WRITE
from typing import Any

import attrs

from pycilium.bgp.bfd import control
from pycilium.bgp.bfd.control import Failure, Reply, Report, Request, Verb
from pycilium.bgp.bfd.engine import Engine
from pycilium.bgp.bfd.session import Transition
from pycilium.errors import ConflictError

_MESSAGES_AT_ONCE = 32
_REPORTS_KEPT = 16


class Server:
    """Serves one monitor until it closes or is gone; `guard` is a descriptor that ends it too."""

    def __init__(self, end: socket.socket, guard: int | None = None) -> None:
        self._end = end
        self._end.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(end, EVENT_READ, self._listen)
        if guard is not None:
            self._selector.register(guard, EVENT_READ, self._stop)
        self._engine = Engine(self._selector, self._report)
        self._reports: dict[int, list[Report]] = {}
        self._replies: deque[Reply] = deque()
        self._serving = True

    def serve(self) -> None:
        """Run until the monitor closes or is gone."""
        try:
            while self._serving:
                self._turn()
        finally:
            self._engine.abandon()
            self._selector.close()
            self._end.close()

    def _turn(self) -> None:
        self._read(self._engine.timeout())
        now = time.monotonic()
        if self._engine.is_due(now):
            self._read(0)  # what came before `now` counts, however long we stood still
            self._engine.advance(now)
        self._tell()

    def _read(self, timeout: float | None) -> None:
        for key, _ in self._selector.select(timeout):
            key.data()

    def _stop(self) -> None:
        self._serving = False

    def _listen(self) -> None:
        for _ in range(_MESSAGES_AT_ONCE):
            try:
                message = control.receive(self._end)
            except BlockingIOError:
                return
            if message is None:
                self._stop()
                return
            if isinstance(message, Request):
                self._replies.append(self._answer(message))

    def _answer(self, request: Request) -> Reply:
        try:
            return Reply(request.serial, self._do(request))
        except OSError as error:
            failure = Failure(error.errno or errno.EINVAL, str(error))
            return Reply(request.serial, failure=failure)
        except ConflictError as error:
            return Reply(request.serial, failure=Failure(0, str(error)))

    def _do(self, request: Request) -> Any:
        engine, number, argument = self._engine, request.number, request.argument
        result: Any = None
        match request.verb:
            case Verb.ADD:
                engine.add(number, argument)
            case Verb.REMOVE:
                self._reports.pop(number, None)
                engine.remove(number)
            case Verb.CHANGE:
                engine.change(number, argument)
            case Verb.ENABLE:
                engine.enable(number, argument)
            case Verb.STATUS:
                result = engine.status(number)
            case Verb.DISCARDED:
                result = engine.discarded
            case Verb.CLOSE:
                engine.close()
                self._stop()
        return result

    def _report(self, number: int, transition: Transition) -> None:
        waiting = self._reports.setdefault(number, [])
        if len(waiting) < _REPORTS_KEPT:
            waiting.append(Report(number, transition))
            return
        last = waiting[-1]
        joined = attrs.evolve(transition, previous=last.transition.previous)
        waiting[-1] = Report(number, joined, last.merged + 1)

    def _tell(self) -> None:
        """Reports before replies: an answer then finds its monitor knowing what came before."""
        try:
            while self._reports:
                number, waiting = next(iter(self._reports.items()))
                while waiting:
                    control.send(self._end, waiting[0])
                    waiting.pop(0)
                del self._reports[number]
            while self._replies:
                control.send(self._end, self._replies[0])
                self._replies.popleft()
        except BlockingIOError:
            self._selector.modify(self._end, EVENT_READ | EVENT_WRITE, self._listen)
        except OSError:
            self._stop()
        else:
            self._selector.modify(self._end, EVENT_READ, self._listen)
