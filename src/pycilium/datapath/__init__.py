# SPDX-License-Identifier: Apache-2.0
"""The datapath of one node: programs loaded, endpoints attached, policies and services applied."""

from __future__ import annotations

from pycilium.datapath.config import Config, Events
from pycilium.datapath.datapath import Datapath
from pycilium.datapath.endpoints import Endpoint, Endpoints
from pycilium.datapath.explain import Explanation, Step
from pycilium.datapath.flows import EventCounts
from pycilium.datapath.status import MapUse, Status

__all__ = [
    "Config",
    "Datapath",
    "Endpoint",
    "Endpoints",
    "EventCounts",
    "Events",
    "Explanation",
    "MapUse",
    "Status",
    "Step",
]
