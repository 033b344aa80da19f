# SPDX-License-Identifier: Apache-2.0
"""The plugin behind a Unix socket, for a process that stays: what the executable asks first.

A call is the CNI_… variables, each ended by a NUL, one more NUL, the configuration, and the end of
what is sent. The answer is one byte, the exit code as a digit, and the text for standard output.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pycilium.cni.plugin import Plugin
from pycilium.durable.files import errors
from pycilium.errors import ConflictError

if TYPE_CHECKING:
    from pycilium.cni.network import Network

_WORKERS = 8
_TIMEOUT = 10.0  # seconds for a call to arrive
_MAX_CALL = 2 << 20  # bytes
_CREDENTIALS = struct.Struct("3i")


class Server:
    """Made by open(); close() ends it after the calls that it has begun.

    Who may connect is said by the file's mode, 0660, and its directory's, 0700 where it is made
    here; and only root and this process's own user are answered.
    """

    def __init__(self, plugin: Plugin, listener: socket.socket, path: Path) -> None:
        self.path = path
        self._plugin = plugin
        self._listener = listener
        self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="pycilium-cni")
        self._thread = threading.Thread(target=self._accept, name="pycilium-cni-accept")
        self._thread.start()

    @classmethod
    def open(cls, network: Network, path: str | os.PathLike[str]) -> Server:
        """Answer for a network at a path; ConflictError where somebody answers there."""
        where = Path(path)
        with errors("create", where.parent):
            where.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _require_free(where)
        listener = _listen(where)
        return cls(Plugin(lambda _request: nullcontext(network)), listener, where)

    def close(self) -> None:
        """No new calls; the file goes."""
        with suppress(OSError):  # closed already
            self._listener.shutdown(socket.SHUT_RDWR)
            self.path.unlink(missing_ok=True)
        self._thread.join()
        self._workers.shutdown()
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _accept(self) -> None:
        with suppress(OSError):  # shut down
            while True:
                connection, _ = self._listener.accept()
                self._workers.submit(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):  # a caller that went away
            connection.settimeout(_TIMEOUT)
            if not _is_trusted(connection):
                return
            call = _read(connection)
            if call is None:
                return
            answer = self._plugin.call(*call)
            connection.sendall(str(answer.code).encode() + answer.text.encode())


def _require_free(path: Path) -> None:
    """A socket file that nobody listens at is what a killed process left."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise ConflictError(f"somebody answers at {path} already")


def _listen(path: Path) -> socket.socket:
    """Bound under another name, and in its place only when its mode is right."""
    fresh = path.with_name(path.name + ".new")
    listener = socket.socket(socket.AF_UNIX)
    try:
        with errors("bind", path):
            fresh.unlink(missing_ok=True)
            listener.bind(str(fresh))
            fresh.chmod(0o660)
            listener.listen(128)
            fresh.rename(path)
    except BaseException:
        listener.close()
        raise
    return listener


def _is_trusted(connection: socket.socket) -> bool:
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(raw)
    return user in (0, os.geteuid())


def _read(connection: socket.socket) -> tuple[dict[str, str], bytes] | None:
    """Variables and configuration; None for what is no call."""
    received = bytearray()
    while part := connection.recv(1 << 16):
        received += part
        if len(received) > _MAX_CALL:
            return None
    head, end, text = bytes(received).partition(b"\0\0")
    if not end:
        return None
    pairs = (one.partition("=") for one in os.fsdecode(head).split("\0"))
    return {key: value for key, _, value in pairs}, text
