# SPDX-License-Identifier: Apache-2.0
"""Selectors over labels, with Kubernetes' semantics."""

from __future__ import annotations

import enum

import attrs

from pycilium.errors import SpecError
from pycilium.model.labels import NAMESPACE_KEY, NAMESPACE_LABELS, Labels, split_key


class Operator(enum.Enum):
    """The four operators of matchExpressions."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


@attrs.frozen
class Requirement:
    """One expression; an absent key satisfies NotIn and DoesNotExist."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def __attrs_post_init__(self) -> None:
        needs = self.operator in (Operator.IN, Operator.NOT_IN)
        if needs != bool(self.values):
            allowed = "at least one value" if needs else "no values"
            raise SpecError(f"values of {self.operator.value}", list(self.values), allowed)

    def matches(self, labels: Labels) -> bool:
        """Whether a label set satisfies it."""
        found = labels.values_of(self.key)
        if self.operator is Operator.IN:
            return any(value in self.values for value in found)
        if self.operator is Operator.NOT_IN:
            return not any(value in self.values for value in found)
        return bool(found) == (self.operator is Operator.EXISTS)

    def __str__(self) -> str:
        if self.operator is Operator.IN and len(self.values) == 1:
            return f"{self.key}={self.values[0]}"
        values = f" ({', '.join(self.values)})" if self.values else ""
        return f"{self.key} {self.operator.value}{values}"


@attrs.frozen(cache_hash=True)
class Selector:
    """All requirements together; none of them selects everything."""

    requirements: tuple[Requirement, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Selector:
        """From "app=web,tier=db"; "*" selects everything. SpecError for anything else."""
        if text.strip() == "*":
            return cls()
        requirements = []
        for part in text.split(","):
            key, equals, value = (word.strip() for word in part.partition("="))
            if not key or not equals or not value or "=" in value:
                raise SpecError("selector", text, '"key=value,key=value" or "*"')
            requirements.append(Requirement(key, Operator.IN, (value,)))
        return cls(tuple(requirements))

    def matches(self, labels: Labels) -> bool:
        """Whether a label set satisfies every requirement."""
        return all(requirement.matches(labels) for requirement in self.requirements)

    def within(self, namespace: str) -> Selector:
        """The same, in one namespace only."""
        only = Requirement(NAMESPACE_KEY, Operator.IN, (namespace,))
        return Selector((*self.requirements, only))

    @property
    def names_namespace(self) -> bool:
        """Whether it says itself which namespaces it means, by name or by their labels."""
        keys = (split_key(one.key)[1] for one in self.requirements)
        return any(key == NAMESPACE_KEY or key.startswith(NAMESPACE_LABELS) for key in keys)

    def __str__(self) -> str:
        return ",".join(str(one) for one in self.requirements) or "*"
