# SPDX-License-Identifier: Apache-2.0
"""Numbers for rules: policy entries, events and traces carry a u32, people read the rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycilium.model.policy import DEFAULT_ALLOW, DEFAULT_DENY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pycilium.model import RuleRef


class Rules:
    """Rule to number and back; a number keeps its rule until two applies no longer use it."""

    def __init__(self) -> None:
        self._numbers: dict[RuleRef, int] = {}
        self._rules: dict[int, RuleRef] = {}
        self._previous: frozenset[int] = frozenset()
        self._next = 1

    def number(self, rule: RuleRef) -> int:
        """The rule's number, a new one if need be; 0 for the default."""
        if rule in (DEFAULT_ALLOW, DEFAULT_DENY):
            return 0
        if rule not in self._numbers:
            self.restore(self._next, rule)
        return self._numbers[rule]

    def find(self, number: int, *, allowed: bool) -> RuleRef | None:
        """The rule behind a number; 0 is the default; None where it is long gone."""
        if number == 0:
            return DEFAULT_ALLOW if allowed else DEFAULT_DENY
        return self._rules.get(number)

    def restore(self, number: int, rule: RuleRef) -> None:
        """Give a rule the number that it had before a restart."""
        self._numbers[rule] = number
        self._rules[number] = rule
        self._next = max(self._next, number + 1)

    def retire(self, used: Iterable[int]) -> None:
        """Forget what neither this apply nor the one before uses: events may lag behind."""
        now = frozenset(used)
        for number in set(self._rules) - now - self._previous:
            del self._numbers[self._rules.pop(number)]
        self._previous = now

    def items(self) -> list[tuple[int, RuleRef]]:
        """For the manifest."""
        return sorted(self._rules.items())

    def __len__(self) -> int:
        return len(self._rules)
