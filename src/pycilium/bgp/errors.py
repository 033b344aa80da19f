# SPDX-License-Identifier: Apache-2.0
"""What the protocol refuses, and a peer that cannot be reached."""

from __future__ import annotations

from pycilium.bgp.notification import Notification
from pycilium.errors import PyciliumError


class ProtocolError(PyciliumError):
    """A message that ends the session, with the NOTIFICATION that answers it."""

    def __init__(self, notification: Notification) -> None:
        self.notification = notification
        super().__init__(notification)

    def __str__(self) -> str:
        return str(self.notification)


class PeerError(PyciliumError):
    """A session did not come up in time; says the peer, its state and the last reason."""

    def __init__(self, peer: str, state: str, reason: str) -> None:
        self.peer = peer
        self.state = state
        self.reason = reason
        super().__init__(peer, state, reason)

    def __str__(self) -> str:
        return f"peer {self.peer} is {self.state}: {self.reason}"
