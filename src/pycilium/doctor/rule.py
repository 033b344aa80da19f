# SPDX-License-Identifier: Apache-2.0
"""A rule: which failures it speaks of, a probe that decides, the cause and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import attrs

from pycilium.doctor.machine import Machine
from pycilium.failure import Failure, Finding, Result

PREFIX = "PYC-"


@attrs.frozen
class Evidence:
    """What a probe found. values: what the cause and the fix of the rule name in braces."""

    result: Result
    text: str = ""
    values: Mapping[str, object] = attrs.field(factory=dict)


Probe = Callable[[Failure, Machine], Evidence]


def confirmed(text: str = "", **values: object) -> Evidence:
    """A probe has shown it."""
    return Evidence(Result.CONFIRMED, text, values)


def likely(text: str = "", **values: object) -> Evidence:
    """It fits, and nothing shown speaks against it."""
    return Evidence(Result.LIKELY, text, values)


def ruled_out(text: str = "") -> Evidence:
    """A probe has shown that it is not this."""
    return Evidence(Result.RULED_OUT, text)


@attrs.frozen(kw_only=True)
class Rule:
    """One cause. It speaks of a failure whose operation fits, by its errno or by what was said.

    operations: names, or beginnings that end in "*"; errnos: any of these; said: a pattern, whose
    named groups go into cause and fix. With neither, the operation is enough. more: for the page.
    """

    code: str
    title: str
    operations: tuple[str, ...]
    cause: str
    fix: str
    more: str
    probe: Probe
    errnos: tuple[int, ...] = ()
    said: str = ""

    def matches(self, failure: Failure) -> bool:
        """Whether it is worth a probe."""
        if failure.operation and not self.is_about(failure.operation):
            return False
        if self.said and re.search(self.said, failure.text):
            return True
        if failure.operation:
            asked = failure.operation.startswith("check ")
            return asked or failure.errno in self.errnos or not (self.errnos or self.said)
        return False

    def is_about(self, operation: str) -> bool:
        """Whether the operation is one of the rule's."""
        return any(
            operation.startswith(one[:-1]) if one.endswith("*") else operation == one
            for one in self.operations
        )

    def ask(self, failure: Failure, machine: Machine) -> Finding:
        """Run the probe; what it cannot read leaves the cause likely, never confirmed."""
        try:
            evidence = self.probe(failure, machine)
        except (OSError, ImportError, ValueError) as error:
            evidence = likely(f"not probed: {type(error).__name__}")
        said = re.search(self.said, failure.text) if self.said else None
        values = _Values({**(said.groupdict() if said else {}), **evidence.values})
        return Finding(
            self.code,
            evidence.result,
            self.cause.format_map(values),
            evidence.text,
            self.fix.format_map(values),
        )


class _Values(dict[str, object]):
    """What is not known stands there in capitals, to be filled in."""

    def __missing__(self, key: str) -> str:
        return key.upper()
