# SPDX-License-Identifier: Apache-2.0
"""Namespaces, interfaces, addresses, routes, neighbours and sysctls, typed over pyroute2.

Every function takes `ns`, the namespace to work in (None: the caller's), and no caller ever
moves: what must happen inside another namespace happens on a thread of its own.
"""

from __future__ import annotations

from pycilium.net import addresses, devices, links, neighbours, routes, sock_diag, sysctl
from pycilium.net.fib import Fib
from pycilium.net.links import LinkInfo
from pycilium.net.netns import NetNS

__all__ = [
    "Fib",
    "LinkInfo",
    "NetNS",
    "addresses",
    "devices",
    "links",
    "neighbours",
    "routes",
    "sock_diag",
    "sysctl",
]
