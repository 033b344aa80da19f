# SPDX-License-Identifier: Apache-2.0
"""The rules of kube-proxy as services, and what it takes to hand them over: pure, from text.

`iptables.read` and `nftables.read` take what the tools print. A rule that is not understood is
reported with its place and never guessed at: its service is left out.
"""

from __future__ import annotations

from pycilium.lb.adopt.found import Adoption, Removal, Unread

__all__ = ["Adoption", "Removal", "Unread"]
