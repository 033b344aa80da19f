# SPDX-License-Identifier: Apache-2.0
"""Model values as JSON and back, for the manifest: only the types named here come back."""

from __future__ import annotations

import enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

import attrs

from pycilium import model
from pycilium.errors import ConflictError

_VALUES = (
    model.Policy, model.Rule, model.RuleRef, model.PortRange, model.CidrPeer, model.Selector,
    model.NamedPort, model.NodePeer, model.FqdnPeer, model.ServicePeer, model.CidrGroupPeer,
    model.L7Rules, model.HttpRule, model.HeaderMatch, model.DnsRule, model.Requirement,
    model.Label, model.Labels, model.ServiceLB, model.Frontend, model.Backend,
)  # fmt: skip
_ATOMS = (
    model.Action, model.Direction, model.Entity, model.Operator,
    model.Algorithm, model.BackendState, model.Forwarding, model.ServiceKind,
    model.SessionAffinity, model.SourceRangesMode, model.TrafficPolicy,
    IPv4Address, IPv4Network, IPv6Address, IPv6Network,
)  # fmt: skip
_TYPES: dict[str, Any] = {one.__name__: one for one in (*_VALUES, *_ATOMS)}


def dump(value: Any) -> Any:
    """A model value as lists, dicts and scalars."""
    if type(value) in _VALUES:
        fields = [dump(getattr(value, field.name)) for field in attrs.fields(type(value))]
        return {"$": type(value).__name__, "_": fields}
    if type(value) in _ATOMS:
        plain = value.value if isinstance(value, enum.Enum) else str(value)
        return {"$": type(value).__name__, "_": plain}
    if isinstance(value, (list, tuple)):
        return [dump(one) for one in value]
    return value


def load(value: Any) -> Any:
    """What dump() made; lists come back as tuples."""
    if isinstance(value, list):
        return tuple(load(one) for one in value)
    if not isinstance(value, dict):
        return value
    kind = _TYPES.get(value["$"])
    if kind is None:
        raise ConflictError(f"the manifest holds a {value['$']}: a newer pycilium wrote it")
    if kind in _ATOMS:
        return kind(value["_"])
    names = [field.alias for field in attrs.fields(kind)]
    return kind(**dict(zip(names, map(load, value["_"]), strict=True)))
