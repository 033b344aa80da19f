# SPDX-License-Identifier: Apache-2.0
"""Addresses for endpoints of one node: pools chosen by label, exact accounts, a crash-safe store.

An owner holds one allocation, of one address for each family of its pool. What an owner gives
back rests before somebody else gets it, so that nobody who still talks to the old owner reaches
the new one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycilium.lazy import public

if TYPE_CHECKING:
    from pycilium.ipam.allocation import Allocation, Usage
    from pycilium.ipam.host_scope import HostScope
    from pycilium.ipam.pool import Pool

_HOME = {
    "Allocation": "pycilium.ipam.allocation",
    "HostScope": "pycilium.ipam.host_scope",
    "Pool": "pycilium.ipam.pool",
    "Usage": "pycilium.ipam.allocation",
}

__all__ = ["Allocation", "HostScope", "Pool", "Usage"]

__getattr__, __dir__ = public(__name__, _HOME)
