# SPDX-License-Identifier: Apache-2.0
"""Which labels make an identity: fewer labels, fewer identities."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import lru_cache

import attrs

from pycilium.errors import SpecError
from pycilium.model.labels import NAMESPACE_KEY, TRUSTED_KEYS, Label, Labels

MAX_PATTERN = 256
_REMEMBERED = 65536


def _patterns(given: str | Iterable[str]) -> tuple[str, ...]:
    several = given.split(",") if isinstance(given, str) else list(given)
    for one in several:
        if not isinstance(one, str):
            raise SpecError("label_filter", one, "patterns that are text")
    found = tuple(one.strip() for one in several if one.strip())
    for one in found:
        if one == "!" or len(one) > MAX_PATTERN or any(c.isspace() or c == "=" for c in one):
            allowed = f'keys as in "app", "team.*" or "!pod-template-hash", {MAX_PATTERN} at most'
            raise SpecError("label_filter", one, allowed)
    return found


@attrs.frozen
class LabelFilter:
    """Patterns of keys, as in "app", "team.example.com/*" or "!pod-template-hash".

    A key counts that a pattern names, or every key where no pattern asks for one; what a
    pattern with "!" names never does. The namespace and named ports always count, and what else
    the cluster says of a pod does unless a pattern with "!" names it. Raises SpecError.
    """

    patterns: tuple[str, ...] = attrs.field(default=(), converter=_patterns)

    @classmethod
    def kubernetes(cls) -> LabelFilter:
        """Without the keys that controllers make new for each pod or roll-out."""
        return cls(_OF_CONTROLLERS)

    def apply(self, labels: Labels) -> Labels:
        """The labels that count."""
        return _filtered(self, labels) if self.patterns else labels

    def keeps(self, label: Label) -> bool:
        """Whether a label counts."""
        if label.source == "port" or label.key == NAMESPACE_KEY:
            return True
        if any(_names(one[1:], label) for one in self.patterns if one.startswith("!")):
            return False
        wanted = [one for one in self.patterns if not one.startswith("!")]
        if not wanted or label.key.startswith(TRUSTED_KEYS):
            return True
        return any(_names(one, label) for one in wanted)

    def __bool__(self) -> bool:
        return bool(self.patterns)

    def __str__(self) -> str:
        return ",".join(self.patterns) or "every label"


_OF_CONTROLLERS = (
    "!pod-template-hash", "!pod-template-generation", "!controller-revision-hash",
    "!controller-uid", "!job-name", "!statefulset.kubernetes.io/pod-name",
    "!apps.kubernetes.io/pod-index", "!batch.kubernetes.io/*",
)  # fmt: skip


def _names(pattern: str, label: Label) -> bool:
    """A pattern with a source, as in "k8s:app", means that one."""
    key = f"{label.source}:{label.key}" if ":" in pattern else label.key
    return fnmatchcase(key, pattern)


@lru_cache(maxsize=_REMEMBERED)
def _filtered(label_filter: LabelFilter, labels: Labels) -> Labels:
    return Labels(tuple(one for one in labels if label_filter.keeps(one)))
