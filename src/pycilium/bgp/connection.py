# SPDX-License-Identifier: Apache-2.0
"""A TCP connection between its socket and its session, on an event loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pycilium.bgp.session import Session

if TYPE_CHECKING:
    from pycilium.bgp.running import RunningPeer

_HIGH_WATER = 1 << 20  # octets that wait to be written before no more are made


class Connection(asyncio.Protocol):
    """One TCP connection, between its socket and its session."""

    def __init__(self, peer: RunningPeer, session: Session) -> None:
        self.session = session
        self.writable = True
        self.transport: asyncio.Transport | None = None
        self._peer = peer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The transport is ready."""
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(high=_HIGH_WATER)
        self.transport = transport
        self._peer.attach(self)

    def data_received(self, data: bytes) -> None:
        """Octets of the peer."""
        self._peer.received(self, data)

    def connection_lost(self, error: Exception | None) -> None:
        """The transport is gone."""
        self._peer.lost(self, str(error) if error else "the peer closed the connection")

    def pause_writing(self) -> None:
        """The peer reads more slowly than we write."""
        self.writable = False
        self._peer.blocked(self)

    def resume_writing(self) -> None:
        """There is room again."""
        self.writable = True
        self._peer.unblocked(self)
