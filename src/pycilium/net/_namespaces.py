# SPDX-License-Identifier: Apache-2.0
"""setns(2) and unshare(2) on threads that are thrown away afterwards.

The caller's thread never moves: a thread that could not be moved back would go on in the
wrong namespace. Python 3.11 has no os.setns, hence ctypes.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from pycilium.errors import KernelError, PermissionDeniedError

_CLONE_NEWNET = 0x40000000
_THREAD_NS = "/proc/thread-self/ns/net"
T = TypeVar("T")
here = threading.local()  # in a session: `ns`, and `route` once something was asked


def run_inside(fd: int, function: Callable[..., T], *arguments: Any) -> T:
    """Call a function on a thread of its own inside the namespace behind a descriptor."""
    return _on_thread(lambda: _enter(fd), function, *arguments)


def run_session(ns: Any, function: Callable[..., T], *arguments: Any) -> T:
    """The same, and what it asks of this namespace needs neither thread nor socket of its own."""

    def body() -> T:
        here.ns, here.route = ns, None
        try:
            return function(*arguments)
        finally:
            if here.route is not None:
                here.route.close()

    return run_inside(ns.fd, body)


def is_session_of(ns: object) -> bool:
    """Whether the calling thread is a session's of this namespace."""
    return getattr(here, "ns", None) is ns


def create() -> int:
    """A new namespace with its loopback up; the descriptor is all that keeps it."""
    return _on_thread(_unshare, _finish_new)


def current() -> int:
    """A descriptor of the calling thread's namespace."""
    return os.open(_THREAD_NS, os.O_RDONLY | os.O_CLOEXEC)


def _on_thread(prepare: Callable[[], None], function: Callable[..., T], *arguments: Any) -> T:
    results: list[T] = []
    failures: list[BaseException] = []

    def body() -> None:
        try:
            prepare()
            results.append(function(*arguments))
        except BaseException as error:  # noqa: BLE001 - handed to the caller
            failures.append(error)

    thread = threading.Thread(target=body, name="pycilium-netns")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def _enter(fd: int) -> None:
    _call("setns", fd, _CLONE_NEWNET)


def _unshare() -> None:
    _call("unshare", _CLONE_NEWNET)


def _call(name: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments):
        number = ctypes.get_errno()
        if number == 1:
            raise PermissionDeniedError(
                number, name, "network namespace", hint="run as root: it needs CAP_SYS_ADMIN"
            )
        raise KernelError(number, name, "network namespace")


def _finish_new() -> int:
    from pycilium.net import _netlink

    with _netlink.connect() as route:
        _netlink.call(route, "link", "set", "set up link", "lo", index=1, state="up")
    return current()
