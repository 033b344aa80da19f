# SPDX-License-Identifier: Apache-2.0
"""The values that everything else speaks of: pure, immutable, and the same on any system."""

from __future__ import annotations

from pycilium.model.delta import Change, Delta
from pycilium.model.endpoint import Endpoint
from pycilium.model.flow import Flow, Party
from pycilium.model.identity import Identity, IdentityAllocator
from pycilium.model.labels import Label, Labels
from pycilium.model.policy import CidrPeer, Direction, Entity, Policy, PortRange, Rule, RuleRef
from pycilium.model.selector import Operator, Requirement, Selector
from pycilium.model.service import Backend, Frontend, ServiceLB
from pycilium.model.verdict import Nearest, Verdict

__all__ = [
    "Backend",
    "Change",
    "CidrPeer",
    "Delta",
    "Direction",
    "Endpoint",
    "Entity",
    "Flow",
    "Frontend",
    "Identity",
    "IdentityAllocator",
    "Label",
    "Labels",
    "Nearest",
    "Operator",
    "Party",
    "Policy",
    "PortRange",
    "Requirement",
    "Rule",
    "RuleRef",
    "Selector",
    "ServiceLB",
    "Verdict",
]
