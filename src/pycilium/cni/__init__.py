# SPDX-License-Identifier: Apache-2.0
"""A CNI plugin as a library: containers get their network from a Datapath and a HostScope.

`Network` does what the specification's commands ask for, on one node. `Plugin` reads a call and
writes its answer. The same two serve the executable that a runtime starts and the socket of a
process that stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycilium.lazy import public

if TYPE_CHECKING:
    from pycilium.cni.errors import CniError, Code
    from pycilium.cni.network import Network
    from pycilium.cni.node import Settings, opened, standing_datapath
    from pycilium.cni.plugin import Answer, Plugin
    from pycilium.cni.queue import Queue
    from pycilium.cni.request import Command, Request
    from pycilium.cni.result import Interface, Ip, Result, Route
    from pycilium.cni.server import Server

_HOME = {
    "Answer": "pycilium.cni.plugin",
    "CniError": "pycilium.cni.errors",
    "Code": "pycilium.cni.errors",
    "Command": "pycilium.cni.request",
    "Interface": "pycilium.cni.result",
    "Ip": "pycilium.cni.result",
    "Network": "pycilium.cni.network",
    "Plugin": "pycilium.cni.plugin",
    "Queue": "pycilium.cni.queue",
    "Request": "pycilium.cni.request",
    "Result": "pycilium.cni.result",
    "Route": "pycilium.cni.result",
    "Server": "pycilium.cni.server",
    "Settings": "pycilium.cni.node",
    "opened": "pycilium.cni.node",
    "standing_datapath": "pycilium.cni.node",
}

__all__ = [
    "Answer",
    "CniError",
    "Code",
    "Command",
    "Interface",
    "Ip",
    "Network",
    "Plugin",
    "Queue",
    "Request",
    "Result",
    "Route",
    "Server",
    "Settings",
    "opened",
    "standing_datapath",
]

__getattr__, __dir__ = public(__name__, _HOME)
