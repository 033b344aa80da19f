# SPDX-License-Identifier: Apache-2.0
"""Services as tables, JSON and YAML."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from pycilium.cli.output import structured, table
from pycilium.model.frontend import Backend, BackendState
from pycilium.model.service import ServiceLB, SessionAffinity

_HEAD = ("name", "kind", "frontend", "active", "backends", "affinity")


def show(services: Sequence[ServiceLB], output: str) -> str:
    """In one of the formats table, json and yaml."""
    if output == "table":
        return table(_HEAD, map(_row, services))
    return structured([to_dict(one) for one in services], output)


def to_dict(service: ServiceLB) -> dict[str, Any]:
    """What is not the default, by the names of the fields."""
    found = {"frontend": str(service.frontend), "kind": service.kind.value}
    found |= _differing(service, {"frontend", "backends", "kind"})
    backends = [{"address": str(one), **_differing(one, {"address", "port"})} for one in
                service.backends]  # fmt: skip
    return {**found, "backends": backends}


def differences(
    before: Iterable[ServiceLB], after: Iterable[ServiceLB]
) -> list[tuple[str, ServiceLB]]:
    """What changes, each with +, ~ or -."""
    old = {one.frontend: one for one in before}
    new = {one.frontend: one for one in after}
    found = [("+" if f not in old else "~", s) for f, s in new.items() if old.get(f) != s]
    return found + [("-", one) for frontend, one in old.items() if frontend not in new]


def _row(service: ServiceLB) -> dict[str, Any]:
    kept = service.session_affinity is not SessionAffinity.NONE
    return {
        "name": service.name,
        "kind": service.kind.value,
        "frontend": service.frontend,
        "active": sum(one.state is BackendState.ACTIVE for one in service.backends),
        "backends": len(service.backends),
        "affinity": f"{service.affinity_timeout} s" if kept else None,
    }


def _differing(value: ServiceLB | Backend, known: set[str]) -> Mapping[str, Any]:
    return {
        field.name: _plain(getattr(value, field.name))
        for field in attrs.fields(type(value))
        if field.name not in known and getattr(value, field.name) != field.default
    }


def _plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value if isinstance(value, (int, bool)) else str(value)
