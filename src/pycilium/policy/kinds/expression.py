# SPDX-License-Identifier: Apache-2.0
"""Calico's selector expressions, as alternatives of selectors.

A selector here is a conjunction, so an expression becomes a disjunction of them: negations move
inwards (De Morgan), conjunctions are multiplied out.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from pycilium.errors import SpecError
from pycilium.model.labels import NAMESPACE_KEY
from pycilium.model.selector import Operator, Requirement, Selector

MAX_ALTERNATIVES = 64
_TOKEN = re.compile(
    r"\s*(?:(?P<op>&&|\|\||==|!=|!|\(|\)|\{|\}|,)"
    r"|\"(?P<double>[^\"]*)\"|'(?P<single>[^']*)'|(?P<word>[A-Za-z0-9_./-]+))"
)
Alternatives = tuple[tuple[Requirement, ...], ...]
_EVERYTHING: Alternatives = ((),)
_NOTHING: Alternatives = ()
_UNMAPPED = ("contains", "starts", "ends")


def parse_expression(text: str, *, prefix: str = "") -> tuple[Selector, ...]:
    """The alternatives; none of them for an expression that nothing can satisfy.

    Raises SpecError with the place, and for what selectors cannot say (contains, starts with,
    ends with).
    """
    return tuple(Selector(one) for one in _Parser(text, prefix).parse())


class _Parser:
    """Recursive descent: or, and, not, one condition."""

    def __init__(self, text: str, prefix: str) -> None:
        self._text = text
        self._prefix = prefix
        self._tokens = list(_tokens(text))
        self._at = 0
        self._depth = 0

    def parse(self) -> Alternatives:
        if not self._tokens:
            return _EVERYTHING
        found = self._or(False)
        if self._at < len(self._tokens):
            raise self._error("&& or ||")
        return found

    def _or(self, negated: bool) -> Alternatives:
        return self._chain("||", self._and, negated, _and if negated else _or)

    def _and(self, negated: bool) -> Alternatives:
        return self._chain("&&", self._not, negated, _or if negated else _and)

    def _chain(
        self,
        operator: str,
        part: Callable[[bool], Alternatives],
        negated: bool,
        join: Callable[[Alternatives, Alternatives], Alternatives],
    ) -> Alternatives:
        found = part(negated)
        while self._peek() == ("op", operator):
            self._at += 1
            found = join(found, part(negated))
            if len(found) > MAX_ALTERNATIVES:
                raise SpecError("selector", self._text, f"at most {MAX_ALTERNATIVES} alternatives")
        return found

    def _not(self, negated: bool) -> Alternatives:
        self._depth += 1
        if self._depth > MAX_ALTERNATIVES:
            raise SpecError("selector", self._text, f"at most {MAX_ALTERNATIVES} levels")
        try:
            if self._accept("!"):
                return self._not(not negated)
            if self._accept("("):
                found = self._or(negated)
                self._expect(")")
                return found
            return self._condition(negated)
        finally:
            self._depth -= 1

    def _condition(self, negated: bool) -> Alternatives:
        word = self._word("a label's key, all(), global() or has(key)")
        if word in ("all", "global", "has") and self._accept("("):
            return self._function(word, negated)
        key = self._prefix + word
        if self._accept("=="):
            return _one(key, Operator.NOT_IN if negated else Operator.IN, (self._value(),))
        if self._accept("!="):
            return _one(key, Operator.IN if negated else Operator.NOT_IN, (self._value(),))
        verb = self._word("==, !=, in or not in")
        if verb in _UNMAPPED:
            raise SpecError("selector", f"{word} {verb}", "==, !=, in, not in or has()")
        inverse = verb == "not"
        if inverse:
            verb = self._word("in")
        if verb != "in":
            raise self._error("in")
        values = self._values()
        return _one(key, Operator.NOT_IN if negated != inverse else Operator.IN, values)

    def _function(self, word: str, negated: bool) -> Alternatives:
        if word == "has":
            key = self._prefix + self._word("a label's key")
            found = _one(key, Operator.DOES_NOT_EXIST if negated else Operator.EXISTS)
        elif word == "global":
            found = _one(NAMESPACE_KEY, Operator.EXISTS if negated else Operator.DOES_NOT_EXIST)
        else:
            found = _NOTHING if negated else _EVERYTHING
        self._expect(")")
        return found

    def _values(self) -> tuple[str, ...]:
        self._expect("{")
        found = [self._value()]
        while self._accept(","):
            found.append(self._value())
        self._expect("}")
        return tuple(found)

    def _value(self) -> str:
        kind, text = self._peek()
        if kind != "text":
            raise self._error("a value in quotes")
        self._at += 1
        return text

    def _word(self, allowed: str) -> str:
        kind, text = self._peek()
        if kind != "word":
            raise self._error(allowed)
        self._at += 1
        return text

    def _accept(self, operator: str) -> bool:
        found = self._peek() == ("op", operator)
        self._at += found
        return found

    def _expect(self, operator: str) -> None:
        if not self._accept(operator):
            raise self._error(operator)

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("end", "")

    def _error(self, allowed: str) -> SpecError:
        kind, text = self._peek()
        found = "the end" if kind == "end" else repr(text)
        return SpecError("selector", self._text, f"{allowed} where {found} stands")


def _tokens(text: str) -> list[tuple[str, str]]:
    found, at = [], 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            raise SpecError("selector", text, f"an expression; character {at} is not part of one")
        at = match.end()
        if match["op"]:
            found.append(("op", match["op"]))
        elif match["word"]:
            found.append(("word", match["word"]))
        else:
            double, single = match["double"], match["single"]
            found.append(("text", single if double is None else double))
    return found


def _one(key: str, operator: Operator, values: tuple[str, ...] = ()) -> Alternatives:
    return ((Requirement(key, operator, values),),)


def _or(left: Alternatives, right: Alternatives) -> Alternatives:
    return tuple(dict.fromkeys((*left, *right)))


def _and(left: Alternatives, right: Alternatives) -> Alternatives:
    return tuple(dict.fromkeys((*one, *other) for one in left for other in right))
