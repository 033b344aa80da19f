# SPDX-License-Identifier: Apache-2.0
"""What a monitor and its engine say to each other over a pair of sockets, one message a datagram.

The pair has no name that a third could reach, and both ends are this very code, hence pickle.
"""

from __future__ import annotations

import enum
import pickle
import socket
from typing import Any, Final

import attrs

from pycilium.bgp.bfd.session import Transition

_LARGEST: Final = 1 << 16


class Verb(enum.Enum):
    """What a monitor asks for."""

    ADD = "add"
    REMOVE = "remove"
    CHANGE = "change"
    ENABLE = "enable"
    STATUS = "status"
    DISCARDED = "discarded"
    CLOSE = "close"


@attrs.frozen
class Request:
    """One question; `number` names the session."""

    serial: int
    verb: Verb
    number: int = 0
    argument: Any = None


@attrs.frozen
class Failure:
    """A system call that failed, as an error that both sides can make."""

    errno: int
    text: str


@attrs.frozen
class Reply:
    """The answer to the request of the same serial number."""

    serial: int
    result: Any = None
    failure: Failure | None = None


@attrs.frozen
class Report:
    """A transition of a session; `merged`: how many before it were not told one by one."""

    number: int
    transition: Transition
    merged: int = 0


Message = Request | Reply | Report


def pair() -> tuple[socket.socket, socket.socket]:
    """The two ends, neither of which an exec inherits."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(end: socket.socket, message: Message) -> None:
    """Send one; BlockingIOError where the other side does not read, OSError where it is gone."""
    end.send(pickle.dumps(message))


def receive(end: socket.socket) -> Message | None:
    """The next message; None when the other side is gone, BlockingIOError when there is none."""
    try:
        data = end.recv(_LARGEST)
    except ConnectionResetError:
        return None
    return pickle.loads(data) if data else None
