# SPDX-License-Identifier: Apache-2.0
"""Interleave what is compared, so that the machine's moods fall on all alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

_Subject = TypeVar("_Subject")
_Sample = TypeVar("_Sample")


def interleave(
    subjects: Mapping[str, _Subject], rounds: int, measure: Callable[[_Subject], _Sample]
) -> dict[str, list[_Sample]]:
    """Measure every subject once per round, in reversed order on odd rounds."""
    samples: dict[str, list[_Sample]] = {name: [] for name in subjects}
    for number in range(rounds):
        for name in _order(list(subjects), number):
            samples[name].append(measure(subjects[name]))
    return samples


def _order(names: Sequence[str], number: int) -> Sequence[str]:
    return names if number % 2 == 0 else names[::-1]
