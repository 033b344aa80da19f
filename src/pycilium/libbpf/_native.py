# SPDX-License-Identifier: Apache-2.0
"""The one place where C meets Python: the module, buffers, and codes that become errors."""

from __future__ import annotations

import logging
from typing import Any

from pycilium.errors import KernelError
from pycilium.failure import Failure
from pycilium.libbpf import _bpf

ffi: Any = _bpf.ffi
lib: Any = _bpf.lib
log = logging.getLogger("pycilium.libbpf")


def check(result: int, operation: str, name: str = "", failure: Failure | None = None) -> int:
    """Return a non-negative result, or raise what the negative errno means here.

    failure: what else is known of the operation, for its diagnosis.
    """
    if result >= 0:
        return result
    from pycilium.libbpf.explain import kernel_error

    raise kernel_error(-result, operation, name, failure).diagnosed()


def check_pointer(pointer: Any, operation: str, name: str) -> Any:
    """Return a pointer, or raise what errno says where it is NULL."""
    if pointer == ffi.NULL:
        raise KernelError(ffi.errno, operation, name)
    return pointer


def take_messages() -> str:
    """What libbpf has printed on this thread since the last call, also into the log."""
    text: str = ffi.string(lib.pcl_messages()).decode(errors="replace")
    lib.pcl_messages_clear()
    for line in text.splitlines():
        log.debug("%s", line)
    return text


def text(pointer: Any) -> str:
    """A C string, or nothing where there is none."""
    return "" if pointer == ffi.NULL else ffi.string(pointer).decode()
