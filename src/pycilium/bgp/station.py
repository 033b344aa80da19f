# SPDX-License-Identifier: Apache-2.0
"""A connection to a BMP station: the whole picture at first, then every change."""

from __future__ import annotations

import asyncio
import platform
import time

from pycilium.bgp import bmp
from pycilium.bgp.running import RunningPeer
from pycilium.bgp.session import Ended, Established, Event, Received
from pycilium.bgp.speaker import Speaker

_RETRY = 5.0
_HIGH_WATER = 16 << 20  # octets; a station that is further behind is connected to anew
_STATISTICS = 60.0


class BmpStation:
    """Keeps a monitoring station informed, until close().

    A station that is slow or gone costs a bounded buffer, and gets the whole tables again.
    """

    def __init__(self, speaker: Speaker, address: str, port: int = 11019) -> None:
        self.speaker = speaker
        self.address = address
        self.port = port
        self.connected = False
        self.reason = "not started"
        self._writer: asyncio.StreamWriter | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Connect, now and whenever the connection is lost."""
        self.speaker.observers.append(self._observe)
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Say so and close."""
        if self._task is None:
            return
        self.speaker.observers.remove(self._observe)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None

    async def _run(self) -> None:
        while True:
            try:
                await self._connection()
            except OSError as error:
                self.reason = str(error)
            await asyncio.sleep(_RETRY)

    async def _connection(self) -> None:
        reader, writer = await asyncio.open_connection(self.address, self.port)
        try:
            writer.write(bmp.initiation(platform.node(), "pycilium"))
            for peer in self.speaker.peers.values():
                self._introduce(writer, peer)
            self._writer, self.connected = writer, True
            await self._wait(reader, writer)
            self.reason = "the station closed the connection"
        finally:
            self._writer, self.connected = None, False
            if not writer.is_closing():
                writer.write(bmp.termination())
            writer.close()

    async def _wait(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until the station closes; it says nothing. Counters from time to time."""
        while True:
            try:
                async with asyncio.timeout(_STATISTICS):
                    if not await reader.read(4096):
                        return
            except TimeoutError:
                for peer in self.speaker.peers.values():
                    self._statistics(writer, peer)

    def _introduce(self, writer: asyncio.StreamWriter, peer: RunningPeer) -> None:
        session = peer.machine.session
        if session is None or session.negotiated is None or session.theirs is None:
            return
        now = time.time()
        opens = (peer.machine.our_open().encode(), session.theirs.encode())
        writer.write(bmp.peer_up(session.negotiated, now, peer.ports, opens))
        neighbour = self.speaker.router.neighbours[peer.address]
        for adj_in in neighbour.adj_in.values():
            if not adj_in.has_paths:
                writer.writelines(bmp.table(session.negotiated, now, adj_in))

    def _statistics(self, writer: asyncio.StreamWriter, peer: RunningPeer) -> None:
        session = peer.machine.session
        if session is None or session.negotiated is None:
            return
        tables = self.speaker.router.neighbours[peer.address].adj_in.values()
        routes, rejected = sum(len(one.routes) for one in tables), sum(o.rejected for o in tables)
        message = bmp.statistics(session.negotiated, time.time(), rejected=rejected, routes=routes)
        writer.write(message)

    def _observe(self, peer: RunningPeer, event: Event) -> None:
        writer = self._writer
        if writer is None:
            return
        if writer.transport.get_write_buffer_size() > _HIGH_WATER:
            self.reason = "the station reads too slowly"
            writer.transport.abort()
            self._writer = None
            return
        now = time.time()
        if isinstance(event, Established):
            self._introduce(writer, peer)
        elif isinstance(event, Received) and peer.negotiated is not None:
            writer.writelines(bmp.monitoring(peer.negotiated, now, event.update))
        elif isinstance(event, Ended) and peer.negotiated is not None:
            writer.write(bmp.peer_down(peer.negotiated, now, event))
