# SPDX-License-Identifier: Apache-2.0
"""What is known of a failure, and what was found out: values that an exception carries.

The layer that fails writes down a `Failure`; the rules of `pycilium.doctor` make a `Diagnosis`
of it. Neither knows the other: both know these values.
"""

from __future__ import annotations

import enum

import attrs


@attrs.frozen(kw_only=True)
class Failure:
    """The facts of one failed operation; what is not known is empty or 0.

    messages: libbpf's or another tool's lines; log: the verifier's; kernel_text: what the kernel
    said beyond the errno. Types are names as in ProgramType and MapType; used and needed: entries
    in the map, and those that were to be added.
    """

    operation: str = ""
    errno: int = 0
    object: str = ""
    messages: str = ""
    log: str = ""
    kernel_text: str = ""
    ifindex: int = 0
    hook: str = ""
    mode: str = ""
    kind: str = ""
    path: str = ""
    program_type: str = ""
    program_id: int = 0
    map_type: str = ""
    key_size: int = 0
    value_size: int = 0
    max_entries: int = 0
    flags: int = 0
    used: int = -1
    needed: int = 1

    @property
    def text(self) -> str:
        """Everything that anybody said."""
        return "\n".join(part for part in (self.kernel_text, self.messages, self.log) if part)


class Result(enum.StrEnum):
    """How sure a finding is: a probe has shown it, nothing speaks against it, or a probe has."""

    CONFIRMED = "confirmed"
    LIKELY = "likely"
    RULED_OUT = "ruled out"


@attrs.frozen
class Finding:
    """One rule's answer. fix: what to type or change."""

    code: str
    result: Result
    cause: str
    evidence: str
    fix: str

    def __str__(self) -> str:
        if self.result is Result.RULED_OUT:
            return f"[{self.code} {self.result}] {self.evidence}"
        shown = f": {self.evidence}" if self.evidence else ""
        return f"{self.cause}{shown} [{self.code} {self.result}]; {self.fix}"


@attrs.frozen
class Diagnosis:
    """Every rule that was asked, the surest first."""

    findings: tuple[Finding, ...] = ()

    @property
    def best(self) -> Finding | None:
        """The surest finding, or None where every rule was ruled out."""
        return next((one for one in self.findings if one.result is not Result.RULED_OUT), None)

    def __bool__(self) -> bool:
        return self.best is not None

    def __str__(self) -> str:
        return "\n".join(map(str, self.findings)) or "no rule speaks of this"
