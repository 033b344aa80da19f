# SPDX-License-Identifier: Apache-2.0
"""What iptables-save prints: the rules of kube-proxy's chains and the jumps to them."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

import attrs

from pycilium.errors import SpecError
from pycilium.lb.adopt.found import Removal, UnreadableError

MAX_BYTES = 256 << 20
MAX_LINE = 8192
_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"(?=\s|$)|([^\s"]+)(?=\s|$)')
_COUNTERS = re.compile(r"\[\d+:\d+\] ")
_CHAIN = re.compile(r":(\S+) (\S+)(?: \[\d+:\d+\])?")
_ONE_VALUE = ("--comment",)


@attrs.frozen
class Rule:
    """One rule; options without values have "". position: counted from 1 in its chain."""

    table: str
    chain: str
    position: int
    origin: str
    text: str = attrs.field(repr=False)
    options: Mapping[str, str]
    negated: frozenset[str]

    @property
    def target(self) -> str:
        """The chain or action; "" for a rule that only counts."""
        return self.options.get("-j", self.options.get("-g", ""))

    @property
    def comment(self) -> str:
        """Whose the rule is, in kube-proxy's words."""
        return self.options.get("--comment", "")

    def only(self, *allowed: str, negated: tuple[str, ...] = ()) -> Rule:
        """The rule itself, if it has no other conditions. Raises UnreadableError."""
        for name in self.options:
            if name not in ("-m", "-j", "-g", "--comment", *allowed):
                raise self.error(f"{name} is not known here")
        if not self.negated <= set(negated):
            raise self.error(f"! {min(self.negated - set(negated))} is not known here")
        return self

    def error(self, why: str) -> UnreadableError:
        """What is not understood."""
        return UnreadableError(why, self.origin, self.text)

    @property
    def removal(self) -> Removal:
        """How it goes and comes back, at its old place."""
        rest = self.text.removeprefix(f"-A {self.chain} ")
        back = f"-I {self.chain} {self.position} {rest}"
        return Removal(self.table, f"-D {self.chain} {rest}", back)


Chains = Mapping[tuple[str, str], list[Rule]]


def parse(text: str, file: str) -> Chains:
    """kube-proxy's rules by table and chain, with those that jump to them.

    Raises SpecError with file and line for what is no output of iptables-save.
    """
    if len(text) > MAX_BYTES:
        raise SpecError("rules", f"{len(text)} characters", f"at most {MAX_BYTES}", origin=file)
    found: dict[tuple[str, str], list[Rule]] = defaultdict(list)
    for rule in _rules(text, file):
        found[rule.table, rule.chain].append(rule)
    return found


def _rules(text: str, file: str) -> Iterator[Rule]:
    table = ""
    positions: Counter[tuple[str, str]] = Counter()
    for number, raw in enumerate(text.split("\n"), 1):
        origin, line = f"{file}:{number}", _COUNTERS.sub("", raw.strip("\r"), count=1)
        if len(line) > MAX_LINE:
            raise SpecError("line", line, f"at most {MAX_LINE} characters", origin=origin)
        if line.startswith("-A ") and table:
            chain = line.split(" ", 2)[1]
            positions[table, chain] += 1
            if chain.startswith("KUBE-") or "KUBE-" in line:
                options, negated = _options(line, origin)
                position = positions[table, chain]
                yield Rule(table, chain, position, origin, line, options, negated)
        elif line.startswith("*") and line[1:].isalnum():
            table = line[1:]
        elif line == "COMMIT":
            table = ""
        elif line and not line.startswith("#") and not (table and _CHAIN.fullmatch(line)):
            allowed = "what iptables-save prints: *table, :CHAIN, -A CHAIN …, COMMIT"
            raise SpecError("line", line, allowed, origin=origin)


def _options(line: str, origin: str) -> tuple[dict[str, str], frozenset[str]]:
    """Options by name, with their values; -m takes all matches together."""
    found: dict[str, list[str]] = {}
    negated = set()
    words, values, negate, single = _words(line, origin), [""], False, False
    for word, quoted in words:
        if word == "!" and not quoted:
            negate = True
        elif word.startswith("-") and not quoted and not single:
            values = found.setdefault(word, [])
            single = word in _ONE_VALUE
            if negate:
                negated.add(word)
            negate = False
        else:
            values.append(word)
            single = False
    del found["-A"]
    return {name: " ".join(several) for name, several in found.items()}, frozenset(negated)


def _words(line: str, origin: str) -> Iterator[tuple[str, bool]]:
    """Words, and whether they are in quotes."""
    at = 0
    while at < len(line):
        if line[at] in " \t":
            at += 1
            continue
        match = _WORD.match(line, at)
        if match is None:
            raise SpecError("line", line, "words, with closed quotes", origin=origin)
        at = match.end()
        quoted = match[2] is None
        yield (re.sub(r"\\(.)", r"\1", match[1]) if quoted else match[2]), quoted
