# SPDX-License-Identifier: Apache-2.0
"""BFD: whether a peer can be reached, known within a fraction of a second.

packet and session are the protocol, without a socket or a clock. An engine runs sessions on real
ones, in a process of its own (no work of this one delays it) or on a thread; a Monitor is how
a program talks to it::

    with Monitor.open() as monitor:
        session = monitor.add("10.0.0.254", interval=0.1, multiplier=3)
        for change in monitor.changes():
            print(change)
"""

from __future__ import annotations

from pycilium.bgp.bfd.authentication import Authentication, AuthenticationType
from pycilium.bgp.bfd.drivers import Driver
from pycilium.bgp.bfd.monitor import Monitor
from pycilium.bgp.bfd.monitored import Client, MonitoredSession, StateChange
from pycilium.bgp.bfd.packet import ControlPacket, Diagnostic, Discard, State, decode, encode
from pycilium.bgp.bfd.session import Remote, Session, Transition
from pycilium.bgp.bfd.settings import Settings, Timers
from pycilium.bgp.bfd.status import Statistics, Status

__all__ = [
    "Authentication",
    "AuthenticationType",
    "Client",
    "ControlPacket",
    "Diagnostic",
    "Discard",
    "Driver",
    "Monitor",
    "MonitoredSession",
    "Remote",
    "Session",
    "Settings",
    "State",
    "StateChange",
    "Statistics",
    "Status",
    "Timers",
    "Transition",
    "decode",
    "encode",
]
