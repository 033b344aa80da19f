# SPDX-License-Identifier: Apache-2.0
"""Network namespaces: anonymous, named, of a process, or borrowed."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Self, TypeVar

from pycilium.errors import ClosedError, ConflictError, KernelError, SpecError
from pycilium.net import _namespaces

T = TypeVar("T")
_NAMED = Path("/run/netns")
_MS_BIND, _MNT_DETACH = 4096, 2
_SO_NETNS_COOKIE = 71


class NetNS:
    """A network namespace, kept by a descriptor until close()."""

    def __init__(self, fd: int, name: str, *, path: Path | None = None) -> None:
        self._fd = fd
        self.name = name
        self._path = path

    @classmethod
    def create(cls, name: str | None = None) -> NetNS:
        """A new namespace with loopback up; a named one stands in /run/netns until close()."""
        if name is None:
            fd = _namespaces.create()
            return cls(fd, f"anonymous-{os.fstat(fd).st_ino}")
        path = _named_path(name)
        if path.exists():
            raise ConflictError(f"network namespace {name} exists already at {path}")
        fd = _namespaces.create()
        try:
            _bind(fd, path)
        except BaseException:
            os.close(fd)
            raise
        return cls(fd, name, path=path)

    @classmethod
    def open(cls, source: str | int | os.PathLike[str]) -> NetNS:
        """By name, by path or by process id; SpecError where there is none."""
        if isinstance(source, int):
            path = Path(f"/proc/{source}/ns/net")
        else:
            text = os.fspath(source)
            path = Path(text) if "/" in text else _named_path(text)
        try:
            return cls(os.open(path, os.O_RDONLY | os.O_CLOEXEC), path.name)
        except OSError as error:
            raise SpecError("netns", source, "a namespace's name, path or process id") from error

    @classmethod
    def adopt(cls, name: str) -> NetNS | None:
        """A named namespace that an earlier process made, as if made here; None if it is gone."""
        path = _named_path(name)
        if not path.exists():
            return None
        return cls(os.open(path, os.O_RDONLY | os.O_CLOEXEC), name, path=path)

    @property
    def is_named(self) -> bool:
        """Whether it has a name of its own in /run/netns, which close() takes away."""
        return self._path is not None

    @classmethod
    def current(cls) -> NetNS:
        """The namespace of the calling thread."""
        return cls(_namespaces.current(), "current")

    @classmethod
    def delete(cls, name: str) -> None:
        """Take a named namespace's name away; it lives on while something uses it."""
        _unbind(_named_path(name))

    def keep(self) -> None:
        """Leave a named namespace its name at close(), for whoever opens it next."""
        self._path = None

    @property
    def fd(self) -> int:
        """The descriptor, still owned by this object."""
        if self._fd < 0:
            raise ClosedError(f"network namespace {self.name} is closed")
        return self._fd

    @property
    def cookie(self) -> int:
        """The kernel's number for the namespace (SO_NETNS_COOKIE, Linux 5.14)."""
        with self.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            return int.from_bytes(one.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), "little")

    def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function inside, on a thread of its own; its result or exception comes back."""
        if _namespaces.is_session_of(self):
            return function(*arguments)
        return _namespaces.run_inside(self.fd, function, *arguments)

    def session(self, function: Callable[..., T], *arguments: Any) -> T:
        """Like run(), for a function that asks this namespace for much: over one netlink socket."""
        return _namespaces.run_session(self, function, *arguments)

    def start(self, function: Callable[..., Any], *arguments: Any) -> threading.Thread:
        """Like run(), without waiting; an exception ends the thread."""
        fd = self.fd
        thread = threading.Thread(
            target=_namespaces.run_inside, args=(fd, function, *arguments), daemon=True
        )
        thread.start()
        return thread

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket that lives inside, for use from any thread."""
        return self.run(socket.socket, family, kind, protocol)

    def popen(
        self,
        command: Sequence[str],
        *,
        stdin: int | IO[bytes] | None = None,
        stdout: int | IO[bytes] | None = None,
        stderr: int | IO[bytes] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a process inside."""
        return self.run(
            lambda: subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=stderr, env=env)
        )

    def close(self) -> None:
        """Let go; a named namespace loses its name."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            if self._path is not None:
                _unbind(self._path)

    def leave(self) -> None:
        """Close the descriptor but leave a named namespace its name."""
        self._path = None
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<NetNS {self.name}>"

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2)
            self.close()


def _named_path(name: str) -> Path:
    if not name or "/" in name or name in (".", ".."):
        raise SpecError("netns.name", name, "a file name")
    return _NAMED / name


def _bind(fd: int, path: Path) -> None:
    import ctypes

    _NAMED.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.touch()
    libc = ctypes.CDLL(None, use_errno=True)
    source = f"/proc/self/fd/{fd}".encode()
    if libc.mount(source, os.fsencode(path), b"none", _MS_BIND, None):
        number = ctypes.get_errno()
        path.unlink()
        raise KernelError(number, "mount", str(path))


def _unbind(path: Path) -> None:
    import ctypes

    ctypes.CDLL(None, use_errno=True).umount2(os.fsencode(path), _MNT_DETACH)
    path.unlink(missing_ok=True)
