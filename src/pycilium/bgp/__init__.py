# SPDX-License-Identifier: Apache-2.0
"""A BGP speaker in parts, each of use alone.

`Speaker` runs on asyncio, `BlockingSpeaker` in scripts. Below them is a core without sockets and
without a clock: `Session` and `PeerMachine` (octets and time in, octets and events out), `Router`
(tables), codecs of every message. docs/reference-bgp.md lists the standards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycilium.lazy import public

if TYPE_CHECKING:
    from pycilium.bgp.attributes import Attributes, Origin
    from pycilium.bgp.bfd_liveness import BfdLiveness
    from pycilium.bgp.blocking import BlockingSpeaker
    from pycilium.bgp.capabilities import Role
    from pycilium.bgp.config import Configuration
    from pycilium.bgp.errors import PeerError, ProtocolError
    from pycilium.bgp.events import PeerChanged, RouteChanged
    from pycilium.bgp.family import Family
    from pycilium.bgp.kernel import KernelRoutes
    from pycilium.bgp.liveness import Liveness
    from pycilium.bgp.mrt import read_mrt, write_mrt
    from pycilium.bgp.notification import Cease, Notification
    from pycilium.bgp.peer import DynamicPeers, Peer, PeerOptions
    from pycilium.bgp.policy import Action, Change, Match, Predicate, Rule, RulePolicy
    from pycilium.bgp.route import Route, RouteGroup
    from pycilium.bgp.router import Router
    from pycilium.bgp.services import Pool, ServiceAnnouncer
    from pycilium.bgp.session import State
    from pycilium.bgp.speaker import Speaker
    from pycilium.bgp.station import BmpStation
    from pycilium.model.service import TrafficPolicy

_HOME = {
    "Action": "policy",
    "Attributes": "attributes",
    "BfdLiveness": "bfd_liveness",
    "BlockingSpeaker": "blocking",
    "BmpStation": "station",
    "Cease": "notification",
    "Change": "policy",
    "Configuration": "config",
    "DynamicPeers": "peer",
    "Family": "family",
    "KernelRoutes": "kernel",
    "Liveness": "liveness",
    "Match": "policy",
    "Notification": "notification",
    "Origin": "attributes",
    "Peer": "peer",
    "PeerChanged": "events",
    "PeerError": "errors",
    "PeerOptions": "peer",
    "Pool": "services",
    "Predicate": "policy",
    "ProtocolError": "errors",
    "Role": "capabilities",
    "Route": "route",
    "RouteChanged": "events",
    "RouteGroup": "route",
    "Router": "router",
    "Rule": "policy",
    "RulePolicy": "policy",
    "ServiceAnnouncer": "services",
    "Speaker": "speaker",
    "State": "session",
    "TrafficPolicy": "services",
    "read_mrt": "mrt",
    "write_mrt": "mrt",
}

__all__ = [
    "Action",
    "Attributes",
    "BfdLiveness",
    "BlockingSpeaker",
    "BmpStation",
    "Cease",
    "Change",
    "Configuration",
    "DynamicPeers",
    "Family",
    "KernelRoutes",
    "Liveness",
    "Match",
    "Notification",
    "Origin",
    "Peer",
    "PeerChanged",
    "PeerError",
    "PeerOptions",
    "Pool",
    "Predicate",
    "ProtocolError",
    "Role",
    "Route",
    "RouteChanged",
    "RouteGroup",
    "Router",
    "Rule",
    "RulePolicy",
    "ServiceAnnouncer",
    "Speaker",
    "State",
    "TrafficPolicy",
    "read_mrt",
    "write_mrt",
]

__getattr__, __dir__ = public(
    __name__, {name: f"{__name__}.{home}" for name, home in _HOME.items()}
)
