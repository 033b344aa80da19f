# SPDX-License-Identifier: Apache-2.0
"""Every exception that pycilium raises on purpose.

PyciliumError
├─ KernelError(OSError)     a system call failed: errno, operation, object, hint
│  ├─ VerifierError         the kernel's verifier refused a program
│  ├─ NotSupportedError     the kernel lacks a feature, confirmed by a probe
│  ├─ PermissionDeniedError a capability is missing, confirmed by a probe
│  └─ MapFullError          a map has no room: map, used, size
├─ SpecError(ValueError)    bad input, refused before any change: field, value, allowed
├─ PoolExhaustedError       a pool has no address left: pool, need, size, what is in the way
├─ ConflictError            somebody else holds the hook, pin or address
└─ ClosedError(RuntimeError) use after close
"""

from __future__ import annotations

import errno as _errno
import importlib
import os
import reprlib
from typing import Self

from pycilium.failure import Diagnosis, Failure

_DOCTOR = "pycilium.doctor"  # by name: the rules stand above the layers that fail


class PyciliumError(Exception):
    """Base of every error that pycilium raises on purpose."""


class KernelError(PyciliumError, OSError):
    """A system call failed; the same errno means different things by operation.

    failure: the facts; diagnosis: what the doctor's rules make of them.
    """

    def __init__(
        self,
        errno: int,
        operation: str,
        object: str = "",  # noqa: A002 - the field's standard name
        *,
        meaning: str = "",
        hint: str = "",
        failure: Failure | None = None,
    ) -> None:
        self.operation = operation
        self.object = object
        self.meaning = meaning or describe_errno(errno)
        self.hint = hint
        self.failure = failure or Failure(operation=operation, errno=errno, object=object)
        self._number = errno
        self._diagnosis: Diagnosis | None = None
        super().__init__(errno, self.meaning)

    @property
    def diagnosis(self) -> Diagnosis:
        """The cause with its code and fix; the probes run once."""
        if self._diagnosis is None:
            doctor = importlib.import_module(_DOCTOR)
            self._diagnosis = doctor.diagnose(self.failure)
        return self._diagnosis

    def diagnosed(self) -> Self:
        """Probe now, while the machine and the thread's namespace are as they were."""
        _ = self.diagnosis
        return self

    def __str__(self) -> str:
        best = self.diagnosis.best
        said = self.meaning if best is None or self.meaning != describe_errno(self._number) else ""
        parts = (said, self.hint, str(best) if best else "")
        subject = f"{self.operation} {self.object}".rstrip()
        return f"{subject}: {'; '.join(part for part in parts if part)}"


class VerifierError(KernelError):
    """The kernel's verifier refused a program; `summary` is one line, `log` is all."""

    def __init__(
        self, errno: int, program: str, *, summary: str, log: str, failure: Failure | None = None
    ) -> None:
        known = failure or Failure(operation="load", errno=errno, object=program, log=log)
        super().__init__(errno, "load", program, meaning=summary, failure=known)
        self.program = program
        self.summary = summary
        self.log = log


class NotSupportedError(KernelError):
    """The running kernel lacks a feature; a probe has confirmed it."""

    def __init__(
        self,
        feature: str,
        *,
        minimum_kernel: str = "",
        errno: int = _errno.EOPNOTSUPP,
        failure: Failure | None = None,
    ) -> None:
        self.feature = feature
        self.minimum_kernel = minimum_kernel
        needs = f" (requires Linux >= {minimum_kernel})" if minimum_kernel else ""
        meaning = f"not supported by this kernel{needs}"
        super().__init__(errno, "use", feature, meaning=meaning, failure=failure)


class PermissionDeniedError(KernelError):
    """A capability or permission is missing; the diagnosis holds the command that mends it."""


class MapFullError(KernelError):
    """A map has no room for what was asked; nothing was written."""

    def __init__(
        self, map_name: str, *, needed: int, used: int, size: int, map_type: str = ""
    ) -> None:
        self.map_name = map_name
        self.needed = needed
        self.used = used
        self.size = size
        super().__init__(
            _errno.E2BIG,
            "update map",
            map_name,
            meaning=f"needs {needed} more entries, {used} of {size} are used",
            failure=Failure(
                operation="update map",
                errno=_errno.ENOSPC if map_type == "LPM_TRIE" else _errno.E2BIG,
                object=map_name,
                map_type=map_type,
                max_entries=size,
                used=used,
                needed=needed,
            ),
        )


class SpecError(PyciliumError, ValueError):
    """Bad input, refused before any change; says the field, the value and what is allowed."""

    def __init__(self, field: str, value: object, allowed: str, *, origin: str = "") -> None:
        self.field = field
        self.value = value
        self.allowed = allowed
        self.origin = origin
        super().__init__(field, value, allowed)

    def __str__(self) -> str:
        where = f"{self.origin}: " if self.origin else ""
        field = self.field if len(self.field) <= 200 else f"...{self.field[-197:]}"
        text = f"{field}: {_shorten(self.value)} is not allowed; expected {self.allowed}"
        return where + _printable(text)


class PoolExhaustedError(PyciliumError):
    """A pool has no address to give now; free_in: seconds until one has rested long enough."""

    def __init__(
        self,
        pool: str,
        *,
        family: int,
        needed: int,
        size: int,
        allocated: int,
        quarantined: int,
        reserved: int,
        free_in: float | None,
    ) -> None:
        self.pool = pool
        self.family = family
        self.needed = needed
        self.size = size
        self.allocated = allocated
        self.quarantined = quarantined
        self.reserved = reserved
        self.free_in = free_in
        super().__init__(pool, family)

    def __str__(self) -> str:
        text = (
            f"pool {self.pool} has no IPv{self.family} address left: needs {self.needed}, "
            f"of {self.size} are {self.allocated} allocated, {self.quarantined} in quarantine "
            f"and {self.reserved} reserved"
        )
        wait = "" if self.free_in is None else f"; the next one is free in {self.free_in:.0f} s"
        return _printable(text + wait)


class ConflictError(PyciliumError):
    """Somebody else holds the hook, pin, name or address; the text says who."""


class ClosedError(PyciliumError, RuntimeError):
    """A closed object was used."""


def describe_errno(number: int) -> str:
    """Name and text of an errno, with the kernel-internal ones that libc does not know."""
    if number == 524:  # ENOTSUPP: kernel-internal, leaks out of the JIT
        return "ENOTSUPP (the kernel cannot do this here)"
    name = _errno.errorcode.get(number, str(number))
    return f"{os.strerror(number)} ({name})"


def _shorten(value: object) -> str:
    """At most a line of it, however large it is."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = 80
    text = short.repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _printable(text: str) -> str:
    """Without what would steer a terminal: names come from whoever wrote the input."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
