# SPDX-License-Identifier: Apache-2.0
"""The one importer of pyroute2: a short-lived socket per operation, errors made typed.

pyroute2 passes unknown keywords to the wire; so nothing outside this package calls it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from pycilium.errors import KernelError, PermissionDeniedError
from pycilium.failure import Failure
from pycilium.net._namespaces import here, is_session_of

if TYPE_CHECKING:
    from pycilium.net.netns import NetNS

T = TypeVar("T")


def inside(ns: NetNS | None, function: Callable[[Any], T]) -> T:
    """Call a function with a netlink socket of a namespace (None: the caller's)."""

    def body() -> T:
        with connect() as route:
            return function(route)

    if ns is not None and is_session_of(ns):
        here.route = here.route or _open()
        return function(here.route)
    return body() if ns is None else ns.run(body)


@contextmanager
def connect() -> Iterator[Any]:
    """A netlink socket in the calling thread's namespace."""
    with _open() as route:
        yield route


def _open() -> Any:
    from pyroute2 import IPRoute

    return IPRoute(ext_ack=True)  # the kernel says why, not only what


def call(route: Any, method: str, command: str, operation: str, name: str, **fields: Any) -> Any:
    """One request; `fields` come from the typed functions of this package only."""
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        return list(getattr(route, method)(command, **fields))
    except NetlinkError as error:
        said = _extack(error)
        failure = Failure(
            operation=operation,
            errno=error.code,
            object=name,
            kernel_text=said,
            ifindex=fields.get("index", 0),
            kind=fields.get("kind", ""),
        )
        kind = PermissionDeniedError if error.code == errno.EPERM else KernelError
        hint = f"the kernel says: {said}" if said else ""
        raise kind(error.code, operation, name, hint=hint, failure=failure).diagnosed() from error


def _extack(error: Any) -> str:
    """What the kernel said beyond the errno."""
    detail = error.args[1] if len(error.args) > 1 and error.args[1] else ""
    return "" if detail == os.strerror(error.code) else str(detail)


def attributes(message: Any) -> dict[str, Any]:
    """A message's attributes by name."""
    return dict(message["attrs"])
