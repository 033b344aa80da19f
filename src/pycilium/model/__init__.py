# SPDX-License-Identifier: Apache-2.0
"""The values that everything else speaks of: pure, immutable, and the same on any system."""

from __future__ import annotations

from pycilium.model.delta import Change, Delta
from pycilium.model.endpoint import Endpoint
from pycilium.model.flow import Flow, Party
from pycilium.model.frontend import Backend, BackendState, Frontend
from pycilium.model.identity import Identity, IdentityAllocator
from pycilium.model.l7 import DnsRule, HeaderMatch, HttpRule, L7Rules
from pycilium.model.label_filter import LabelFilter
from pycilium.model.labels import Label, Labels
from pycilium.model.peer import (
    CidrGroupPeer,
    CidrPeer,
    Entity,
    FqdnPeer,
    NodePeer,
    RulePeer,
    ServicePeer,
)
from pycilium.model.policy import Action, Direction, Policy, Rule, RuleRef, Tier
from pycilium.model.port import NamedPort, PortRange
from pycilium.model.selector import Operator, Requirement, Selector
from pycilium.model.service import (
    Algorithm,
    Forwarding,
    ServiceKind,
    ServiceLB,
    SessionAffinity,
    SourceRangesMode,
    TrafficPolicy,
)
from pycilium.model.verdict import Nearest, Verdict

__all__ = [
    "Action",
    "Algorithm",
    "Backend",
    "BackendState",
    "Change",
    "CidrGroupPeer",
    "CidrPeer",
    "Delta",
    "Direction",
    "DnsRule",
    "Endpoint",
    "Entity",
    "Flow",
    "Forwarding",
    "FqdnPeer",
    "Frontend",
    "HeaderMatch",
    "HttpRule",
    "Identity",
    "IdentityAllocator",
    "L7Rules",
    "Label",
    "LabelFilter",
    "Labels",
    "NamedPort",
    "Nearest",
    "NodePeer",
    "Operator",
    "Party",
    "Policy",
    "PortRange",
    "Requirement",
    "Rule",
    "RulePeer",
    "RuleRef",
    "Selector",
    "ServiceKind",
    "ServiceLB",
    "ServicePeer",
    "SessionAffinity",
    "SourceRangesMode",
    "Tier",
    "TrafficPolicy",
    "Verdict",
]
