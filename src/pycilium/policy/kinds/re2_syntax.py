# SPDX-License-Identifier: Apache-2.0
"""Whether a text is a regular expression of RE2, for where google-re2 is not installed.

RE2's syntax has no look-around and no back-references, and caps on repetition, so that matching
takes linear time; Python's own compiler knows another language.
"""

from __future__ import annotations

import re

MAX_REPEAT = 1000
_FLAGS = re.compile(r"\?(?=[imsU:-])(?:[imsU]+)?(?:-[imsU]+)?([:)])")
_NAME = re.compile(r"\?P?<(\w+)>")
_REPEAT = re.compile(r"\{([0-9]+)(,([0-9]*))?\}")
_OCTAL = re.compile(r"0[0-7]{0,2}|[1-7][0-7]{1,2}")
_HEX = re.compile(r"x(?:([0-9A-Fa-f]{2})|\{([0-9A-Fa-f]+)\})")
_PROPERTY = re.compile(r"[pP](?:[CLMNPSZ]|\{\^?[A-Za-z_]+\})")
_POSIX = re.compile(r"\[:\^?(\w+):\]")
_POSIX_NAMES = {
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
    "space", "upper", "word", "xdigit",
}  # fmt: skip
_LETTERS = {"a": 7, "f": 12, "t": 9, "n": 10, "r": 13, "v": 11}
_CLASSES = "dDsSwW"
_OUTSIDE_OF_CLASSES = "bBAzC"


def re2_problem(text: str) -> str:
    """What is wrong, "" if nothing is."""
    try:
        _Scanner(text).scan()
    except _NotRe2Error as problem:
        return str(problem)
    return ""


class _NotRe2Error(Exception):
    """Why a text is none; never leaves this file."""


class _Scanner:
    """Goes over a text once; remembers how often what stands before may be repeated."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._open: list[int] = []  # for each group, the most that is repeated inside of it
        self._most = 1
        self._atom: int | None = None  # how much the last atom repeats already; None is no atom

    def scan(self) -> None:
        """Raises _NotRe2Error."""
        while self._at < len(self._text):
            self._one(self._text[self._at])
        if self._open:
            raise self._problem("a group that is not closed")

    def _one(self, char: str) -> None:
        if char == "(":
            self._group()
        elif char == ")":
            self._close()
        elif char in "*+?" or (char == "{" and _REPEAT.match(self._text, self._at)):
            self._repeat()
        elif char == "[":
            self._at, self._atom = self._class_end(), 1
        elif char == "\\":
            self._escape()
        else:
            self._at += 1
            self._atom = None if char == "|" else 1
            self._most = max(self._most, 1)

    def _group(self) -> None:
        self._at += 1
        if self._text.startswith("?", self._at):
            flags = _FLAGS.match(self._text, self._at)
            name = _NAME.match(self._text, self._at)
            found = flags or name
            if not found or found[0] == "?)":
                raise self._problem("no look-around, no conditions; (?:, (?P<name> and flags imsU")
            self._at = found.end()
            if flags and flags[1] == ")":
                return
        self._open.append(self._most)
        self._most, self._atom = 1, None

    def _close(self) -> None:
        if not self._open:
            raise self._problem("a ) without its (")
        self._at += 1
        self._atom = self._most
        self._most = max(self._open.pop(), self._most)

    def _repeat(self) -> None:
        """An operator once; a second one after it is another language's."""
        if self._atom is None:
            raise self._problem("nothing to repeat")
        counted = _REPEAT.match(self._text, self._at)
        times = 1
        if counted:
            times = self._times(counted)
        self._at = counted.end() if counted else self._at + 1
        if self._text.startswith("?", self._at):
            self._at += 1
        if self._text[self._at : self._at + 1] in ("*", "+", "?") or _REPEAT.match(
            self._text, self._at
        ):
            raise self._problem("one operator of repetition")
        self._most = max(self._most, self._atom * times)
        if self._most > MAX_REPEAT:
            raise self._problem(f"repetitions inside of each other up to {MAX_REPEAT}")
        self._atom = self._atom * times

    def _times(self, counted: re.Match[str]) -> int:
        low = int(counted[1][:9])
        high = int(counted[3][:9]) if counted[3] else low
        if not low <= high <= MAX_REPEAT:
            raise self._problem(f"a repetition up to {MAX_REPEAT}, the lower number first")
        return max(high, 1)

    def _escape(self) -> None:
        rest = self._text[self._at + 1 :]
        if rest.startswith("Q"):
            end = self._text.find("\\E", self._at)
            quoted = self._text[self._at + 2 : end if end >= 0 else None]
            self._at = end + 2 if end >= 0 else len(self._text)
            self._atom = 1 if quoted else self._atom
            return
        whole = rest[:1] and rest[0] in _OUTSIDE_OF_CLASSES
        self._at = self._at + 2 if whole else self._char_end(self._at)[0]
        self._atom = 1

    def _char_end(self, at: int) -> tuple[int, int | None]:
        """The end of an escape, and the character that it stands for; None is several."""
        rest = self._text[at + 1 :]
        if not rest:
            raise self._problem("a character after \\")
        if rest[0] in _CLASSES:
            return at + 2, None
        if rest[0] in _LETTERS:
            return at + 2, _LETTERS[rest[0]]
        for pattern in (_OCTAL, _HEX, _PROPERTY):
            found = pattern.match(rest)
            if found:
                return at + 1 + found.end(), self._value(pattern, found)
        if rest[0].isascii() and not rest[0].isalnum():
            return at + 2, ord(rest[0])
        raise self._problem(f"no escape \\{rest[0]}")

    def _value(self, pattern: re.Pattern[str], found: re.Match[str]) -> int | None:
        if pattern is _PROPERTY:
            return None
        value = int(found[0], 8) if pattern is _OCTAL else int(found[1] or found[2], 16)
        if value > 0x10FFFF:
            raise self._problem("a character up to \\x{10FFFF}")
        return value

    def _class_end(self) -> int:
        """Of [...]; each range with its lower end first."""
        at = self._at + 1
        at += self._text.startswith("^", at)
        first = True
        while first or not self._text.startswith("]", at):
            posix = _POSIX.match(self._text, at)
            if posix:
                if posix[1] not in _POSIX_NAMES:
                    raise self._problem(f"no class [:{posix[1]}:]")
                at, first = posix.end(), False
                continue
            at, low = self._class_char(at)
            if (
                low is not None
                and self._text[at : at + 1] == "-"
                and self._text[at + 1 :][:1] != "]"
            ):
                at, high = self._class_char(at + 1)
                if high is None or high < low:
                    raise self._problem("a range, the lower end first")
            first = False
        return at + 1

    def _class_char(self, at: int) -> tuple[int, int | None]:
        if at >= len(self._text):
            raise self._problem("a class that is not closed")
        if self._text[at] == "\\":
            return self._char_end(at)
        return at + 1, ord(self._text[at])

    def _problem(self, what: str) -> _NotRe2Error:
        return _NotRe2Error(f"{what}, at {self._at}")
