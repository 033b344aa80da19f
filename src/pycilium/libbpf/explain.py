# SPDX-License-Identifier: Apache-2.0
"""A failed call becomes a typed error with its facts; `pycilium.doctor` says why from these."""

from __future__ import annotations

import errno
import re

import attrs

from pycilium.errors import (
    ClosedError,
    KernelError,
    NotSupportedError,
    PermissionDeniedError,
    VerifierError,
)
from pycilium.failure import Failure
from pycilium.libbpf import verifier

# Where no rule of the doctor says more.
_MEANINGS = {
    ("update map", errno.EEXIST): "the key exists already",
    ("update link", errno.ENOLINK): "what it was attached to is gone; the link is severed",
    ("pin", errno.ENOENT): "the directory does not exist",
    ("test run", errno.ENODEV): "the context names an interface that this namespace lacks",
    ("test run", errno.EINVAL): "the packet is below 14 bytes or the context is not accepted",
}


def kernel_error(
    number: int, operation: str, name: str = "", failure: Failure | None = None
) -> KernelError:
    """The typed error of a failed operation, with what is known of it."""
    known = attrs.evolve(failure or Failure(), operation=operation, errno=number, object=name)
    meaning = _MEANINGS.get((operation, number), "")
    if number in (errno.EPERM, errno.EACCES):
        return PermissionDeniedError(number, operation, name, meaning=meaning, failure=known)
    if operation == "attach tcx" and number == errno.EINVAL:
        from pycilium.libbpf import features

        if not features.have_tcx():
            return NotSupportedError("tcx link", minimum_kernel="6.6", errno=number, failure=known)
    return KernelError(number, operation, name, meaning=meaning, failure=known)


def load_error(number: int, name: str, log: str, messages: str, facts: Failure) -> KernelError:
    """The verifier's refusal in one line, or what else stopped the load."""
    refused = verifier.has_verdict(log)  # else it is a remark on types
    known = attrs.evolve(facts, log=log if refused else "", messages=messages)
    if facts.map_type:
        return kernel_error(number, "create map", facts.object, known).diagnosed()
    program = failed_program(messages) or name
    if refused:
        known = attrs.evolve(known, operation="load", errno=number, object=program)
        summary = verifier.summarise(number, log)
        error = VerifierError(number, program, summary=summary, log=log, failure=known)
        return error.diagnosed()
    found = kernel_error(number, "load", program, known).diagnosed()
    detail = _last_message(messages)
    if detail and not found.diagnosis:
        found.hint = f"libbpf says: {detail}"
    return found


def failed_program(messages: str) -> str:
    """The program that did not load, from libbpf's messages; "" where they name none."""
    found = re.search(r"prog '([^']+)': (?:BPF program load failed|failed to load)", messages)
    return found.group(1) if found else ""


def failed_map(messages: str) -> str:
    """The map that was not made, likewise."""
    found = re.search(r"map '([^']+)': failed to create", messages)
    return found.group(1) if found else ""


def _last_message(messages: str) -> str:
    lines = [line for line in messages.splitlines() if "ulimit" not in line and "--" not in line]
    return lines[0].removeprefix("libbpf: ") if lines else ""


def closed(kind: str, name: str) -> ClosedError:
    """Use after close."""
    return ClosedError(f"{kind} {name} is closed")
