# SPDX-License-Identifier: Apache-2.0
"""Settings under /proc/sys, of the namespace that is asked for."""

from __future__ import annotations

from pathlib import Path

from pycilium.errors import KernelError, SpecError
from pycilium.net.netns import NetNS


def read(name: str, *, ns: NetNS | None = None) -> str:
    """A setting such as net.ipv4.ip_forward; slashes for names with dots in them."""
    path = _path(name)
    try:
        return (path.read_text() if ns is None else ns.run(path.read_text)).strip()
    except OSError as error:
        raise KernelError(error.errno or 0, "read sysctl", name) from error


def write(name: str, value: str | int, *, ns: NetNS | None = None) -> None:
    """Change a setting."""
    path = _path(name)
    try:
        if ns is None:
            path.write_text(str(value))
        else:
            ns.run(path.write_text, str(value))
    except OSError as error:
        raise KernelError(error.errno or 0, "write sysctl", name) from error


def _path(name: str) -> Path:
    parts = name.split("/") if "/" in name else name.split(".")
    if ".." in parts or "" in parts:
        raise SpecError("sysctl", name, "a name as in net.ipv4.ip_forward")
    return Path("/proc/sys", *parts)
