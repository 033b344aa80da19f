# SPDX-License-Identifier: Apache-2.0
"""Servers that answer with their name and what they were asked, over TCP and UDP."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def _bind(family: int, kind: int, port: int) -> socket.socket:
    """The two families side by side on one port."""
    one = socket.socket(family, kind)
    if family == socket.AF_INET6:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind(("", port))
    if kind == socket.SOCK_STREAM:
        one.listen(256)
    one.setblocking(False)
    return one


class Echo:
    """One thread for all sockets of a server; `answered` counts."""

    def __init__(self, where: Any, name: str, port: int) -> None:
        self.name = name
        self.answered = 0
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ, self._stop)
        self._running = True
        for family in (socket.AF_INET, socket.AF_INET6):
            for kind, take in (
                (socket.SOCK_STREAM, self._accept),
                (socket.SOCK_DGRAM, self._datagram),
            ):
                one = where.run(_bind, family, kind, port)
                self._selector.register(one, selectors.EVENT_READ, take)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while self._running:
            for key, _ in self._selector.select():
                key.data(key.fileobj)

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection = listener.accept()[0]
        except OSError:
            return
        connection.setblocking(False)
        self._selector.register(connection, selectors.EVENT_READ, self._answer)

    def _answer(self, connection: socket.socket) -> None:
        try:
            asked = connection.recv(100)
        except OSError:
            asked = b""
        if not asked:
            self._selector.unregister(connection)
            connection.close()
            return
        connection.send(self.name.encode() + b" " + asked)
        self.answered += 1

    def _datagram(self, one: socket.socket) -> None:
        asked, client = one.recvfrom(100)
        self.answered += 1
        if asked != b"quiet":
            one.sendto(self.name.encode() + b" " + asked, client)

    def _stop(self, _one: socket.socket) -> None:
        self._running = False

    def close(self) -> None:
        self._wake.send(b"x")
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()
        self._wake.close()


@contextmanager
def echo(where: Any, name: str, port: int) -> Iterator[Echo]:
    """A server in an endpoint or namespace, for as long as the block."""
    server = Echo(where, name, port)
    try:
        yield server
    finally:
        server.close()
