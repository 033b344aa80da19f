# SPDX-License-Identifier: Apache-2.0
"""The datapath of one node: endpoints, policies, services, flows and explanations.

`apply` takes the whole desired state and returns what changed; `plan` returns the same and
touches nothing. What is not proved allowed is dropped: an endpoint drops everything until its
policy is in force, and a policy is replaced by switching one map for another, never by
emptying and refilling it. Nothing is written that does not differ.
"""

from __future__ import annotations

from pycilium.datapath.claims import RefusedBind
from pycilium.datapath.config import EventLevel
from pycilium.datapath.datapath import Datapath
from pycilium.datapath.endpoint import Endpoint
from pycilium.datapath.explanation import Explanation, Step
from pycilium.datapath.flows import EventCounts, LostFlows
from pycilium.datapath.peek import Peek, peek
from pycilium.datapath.pins import is_pinned
from pycilium.datapath.status import Counter, Fill, Status

__all__ = [
    "Counter",
    "Datapath",
    "Endpoint",
    "EventCounts",
    "EventLevel",
    "Explanation",
    "Fill",
    "LostFlows",
    "Peek",
    "RefusedBind",
    "Status",
    "Step",
    "is_pinned",
    "peek",
]
