# SPDX-License-Identifier: Apache-2.0
"""The verifier's log, read: what it refused, at which line of C, and what it knew there."""

from __future__ import annotations

import re

import attrs

from pycilium.errors import describe_errno

_NOISE = re.compile(
    r"(processed \d+|verification time|stack depth|max_states|;|\d+: |from \d+|"
    r"-- |func#|Func#|Validating|Live regs|mark_|last_idx|regs=|parent |old |reg_|propagating)"
)
_INSTRUCTION = re.compile(r"(\d+): \([0-9a-f]{2}\) ([^;]+?)\s*(?:;|$)")
_SOURCE = re.compile(r";\s*(.+?)(?: @ (\S+):(\d+))?\s*$")
_STATE = re.compile(r"\b(R\d+)(?:_[rwv]+)?=([^\s(]+(?:\([^)]*\))?)")
_KINDS = (
    ("pkt_end", "the end of the packet"),
    ("pkt_meta", "a pointer to the packet's metadata"),
    ("pkt", "a pointer into the packet"),
    ("map_value_or_null", "a map's value, or NULL where the key is absent"),
    ("map_value", "a pointer to a map's value"),
    ("map_ptr", "a map"),
    ("ctx", "the context"),
    ("fp", "a pointer to the stack"),
    ("sock_or_null", "a socket, or NULL"),
    ("sock", "a socket"),
    ("ringbuf_mem_or_null", "a record of the ring, or NULL where it is full"),
    ("mem_or_null", "memory, or NULL"),
    ("mem", "a pointer to memory"),
    ("ptr_", "a pointer to a kernel object"),
    ("scalar", "a number"),
    ("inv", "a number"),
)


@attrs.frozen
class Refusal:
    """One refusal: the verifier's words, where, and the register that they speak of.

    file and line are empty and 0 where the kernel does not print them (before Linux 6.9).
    """

    reason: str
    instruction: str = ""
    source: str = ""
    file: str = ""
    line: int = 0
    register: str = ""
    state: str = ""

    @property
    def place(self) -> str:
        """The line of C, with its file where known."""
        where = f"{self.file}:{self.line}" if self.line else ""
        return " ".join(part for part in (where, f"`{self.source}`" if self.source else "") if part)

    @property
    def register_in_words(self) -> str:
        """What the verifier knew of the register when it refused."""
        if not self.state:
            return ""
        return f"{self.register} is {in_words(self.state)}"


def has_verdict(log: str) -> bool:
    """Whether this is a verifier's log and not an empty one."""
    return "processed" in log or "R1 " in log or ": (" in log


def read(log: str) -> Refusal | None:
    """The last refusal in a log; None where there is none."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    useful = [i for i, line in enumerate(lines) if not _NOISE.match(line)]
    if not useful:
        return None
    at = useful[-1]
    reason = lines[at]
    before = lines[: at + 1]
    instruction = next((m for x in reversed(before) if (m := _INSTRUCTION.match(x))), None)
    source = next((m for x in reversed(before) if x[0] == ";" and (m := _SOURCE.match(x))), None)
    register = _register(reason, lines[useful[-2]] if len(useful) > 1 else "", instruction)
    return Refusal(
        reason,
        instruction=f"{instruction[1]}: {instruction[2]}" if instruction else "",
        source=source[1] if source else "",
        file=(source[2] or "") if source else "",
        line=int(source[3] or 0) if source else 0,
        register=register,
        state=_state(before, register),
    )


def in_words(state: str) -> str:
    """A register's state as the verifier prints it, in plain words with its known bounds."""
    kind, _, rest = state.partition("(")
    known = dict(re.findall(r"([a-z0-9_]+)=([^,)]+)", rest))
    words = next((text for name, text in _KINDS if kind.startswith(name)), kind)
    if kind == "pkt":
        checked = known.get("r", "0")
        start = f" at offset {known['off']}" if known.get("off", "0") != "0" else ""
        return f"{words}{start}, of which {checked} bytes are checked against the end"
    if kind.startswith("map_value") and "vs" in known:
        words += f" of {known['vs']} bytes"
    if re.fullmatch(r"-?\d+", kind):
        return f"the number {kind}"
    return f"{words}{_bounds(known)}" if words == "a number" else words


def _bounds(known: dict[str, str]) -> str:
    low = known.get("umin", known.get("umin_value", "0"))
    high = known.get("umax", known.get("umax_value"))
    if high is None:
        return " of which nothing is known"
    return f" from {low} to {high}"


def _register(reason: str, before: str, instruction: re.Match[str] | None) -> str:
    """The register of the verdict, or the one that the instruction goes through."""
    for text in (reason, before):
        found = re.search(r"\bR(\d+)\b", text)
        if found:
            return f"R{found[1]}"
    if instruction:
        found = re.search(r"\*\(\w+ \*\)\(r(\d+)", instruction[2])
        if found:
            return f"R{found[1]}"
    return ""


def _state(lines: list[str], register: str) -> str:
    for line in reversed(lines):
        for name, state in reversed(_STATE.findall(line)):
            if name == register:
                return str(state)
    return ""


def summarise(number: int, log: str) -> str:
    """The verdict, the instruction and the line of C, and how many lines were left out."""
    refusal = read(log)
    if refusal is None:
        return describe_errno(number)
    parts = [refusal.reason]
    if refusal.instruction and refusal.instruction not in refusal.reason:
        parts.append(f"at {refusal.instruction}")
    if refusal.place:
        parts.append(f"in {refusal.place}")
    lines = sum(1 for line in log.splitlines() if line.strip())
    return f"{' '.join(parts)} ({lines - 1} more lines in .log)"
