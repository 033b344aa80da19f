# SPDX-License-Identifier: Apache-2.0
"""Errors with the numbers of the CNI specification; from 100 on they are pycilium's own."""

from __future__ import annotations

import enum

from pycilium.errors import (
    ConflictError,
    KernelError,
    PoolExhaustedError,
    PyciliumError,
    SpecError,
)


class Code(enum.IntEnum):
    """What a runtime sees in `code`."""

    INCOMPATIBLE_VERSION = 1
    UNSUPPORTED_FIELD = 2
    UNKNOWN_CONTAINER = 3
    INVALID_ENVIRONMENT = 4
    IO_FAILURE = 5
    UNDECODABLE = 6
    INVALID_CONFIG = 7
    TRY_AGAIN_LATER = 11
    UNAVAILABLE = 50
    LIMITED = 51
    KERNEL = 100
    POOL_EXHAUSTED = 101
    CONFLICT = 102
    CHANGED = 103
    INTERNAL = 199


class CniError(PyciliumError):
    """A command failed; `details` say how to mend it."""

    def __init__(self, code: Code, message: str, details: str = "") -> None:
        self.code = code
        self.message = message
        self.details = details
        super().__init__(code, message)

    def __str__(self) -> str:
        return f"{self.message}: {self.details}" if self.details else self.message

    @classmethod
    def of(cls, error: Exception) -> CniError:
        """Any error, with the number that fits it."""
        if isinstance(error, cls):
            return error
        return cls(_code(error), *_texts(error))


_CODES: tuple[tuple[type[Exception], Code], ...] = (
    (SpecError, Code.INVALID_CONFIG),
    (ConflictError, Code.CONFLICT),
    (KernelError, Code.KERNEL),
)


def _code(error: Exception) -> Code:
    if isinstance(error, PoolExhaustedError):
        return Code.POOL_EXHAUSTED if error.free_in is None else Code.TRY_AGAIN_LATER
    return next((code for kind, code in _CODES if isinstance(error, kind)), Code.INTERNAL)


def _texts(error: Exception) -> tuple[str, str]:
    """What it says, and the hint that it has for mending."""
    if isinstance(error, KernelError):
        return f"{error.operation} {error.object}: {error.meaning}", error.hint
    if isinstance(error, PyciliumError):
        return str(error), ""
    return "pycilium failed", f"{type(error).__name__}: {error}"
