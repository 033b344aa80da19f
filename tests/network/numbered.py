# SPDX-License-Identifier: Apache-2.0
"""Numbered packets: what of an allowed stream is lost, what of a denied one leaks."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

import attrs

ALLOWED, DENIED = 7001, 7002
NUMBER = struct.Struct(">Q")


def pace(stop: threading.Event, pause: float, send: Callable[[], None]) -> None:
    """Call again and again, so many seconds apart on the average, until told to stop."""
    following = time.monotonic()
    while not stop.is_set():
        send()
        following += pause
        time.sleep(max(0.0, following - time.monotonic()))


def receiver(endpoint: Any, port: int) -> socket.socket:
    """A socket of an endpoint's, with room for what comes while nobody looks."""
    one: socket.socket = endpoint.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    one.bind((str(endpoint.ip), port))
    one.settimeout(0.2)
    return one


def collect(one: socket.socket, stop: threading.Event, note: Callable[[int], None]) -> None:
    """Hand over every number that arrives; goes on for a moment after the sender has stopped."""
    quiet = 0
    while quiet < 2:
        try:
            data = one.recv(16)
        except TimeoutError:
            quiet += stop.is_set()
            continue
        note(NUMBER.unpack(data)[0])


@attrs.frozen
class Tally:
    """Packets of the allowed and of the denied stream."""

    sent: int
    lost: int
    denied_sent: int
    leaked: int


class Stream:
    """UDP from one endpoint to another on two ports, as fast as asked, until the `with` ends."""

    def __init__(self, source: Any, target: Any, *, per_second: int = 2000) -> None:
        self._pause = 1 / per_second
        self._address = str(target.ip)
        self._stop = threading.Event()
        self._sender = source.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._receivers = {port: receiver(target, port) for port in (ALLOWED, DENIED)}
        self._sent = 0
        self._got: dict[int, set[int]] = {ALLOWED: set(), DENIED: set()}
        self._threads = [threading.Thread(target=self._send, daemon=True)]
        self._threads += [
            threading.Thread(target=self._receive, args=(port,), daemon=True)
            for port in self._receivers
        ]

    def __enter__(self) -> Stream:
        for thread in self._threads:
            thread.start()
        while not self._got[ALLOWED]:
            time.sleep(0.01)
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)
        for one in (self._sender, *self._receivers.values()):
            one.close()

    @property
    def tally(self) -> Tally:
        """After the `with`: every number is accounted for."""
        return Tally(
            self._sent, self._sent - len(self._got[ALLOWED]), self._sent, len(self._got[DENIED])
        )

    def _send(self) -> None:
        pace(self._stop, self._pause, self._send_one)

    def _send_one(self) -> None:
        for port in (ALLOWED, DENIED):
            with contextlib.suppress(ConnectionRefusedError):
                self._sender.sendto(NUMBER.pack(self._sent), (self._address, port))
        self._sent += 1

    def _receive(self, port: int) -> None:
        collect(self._receivers[port], self._stop, self._got[port].add)
