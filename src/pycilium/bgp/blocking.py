# SPDX-License-Identifier: Apache-2.0
"""The speaker for scripts without asyncio: it runs on a thread of its own."""

from __future__ import annotations

import asyncio
import queue
import socket
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from typing import Any, Self, TypeVar

from pycilium.bgp.events import BgpEvent
from pycilium.bgp.liveness import Liveness
from pycilium.bgp.peer import DynamicPeers, Peer, PeerOptions
from pycilium.bgp.route import Announced
from pycilium.bgp.running import RunningPeer
from pycilium.bgp.session import State
from pycilium.bgp.sockets import MakeSocket
from pycilium.bgp.speaker import Speaker
from pycilium.bgp.why import Explanation
from pycilium.errors import ClosedError
from pycilium.model.delta import Delta

T = TypeVar("T")


class BlockingSpeaker:
    """Speaker with the same words, each waiting for its answer.

    with BlockingSpeaker(asn=64512, router_id="10.0.0.1") as speaker:
        speaker.peer("10.0.0.254", asn=64513)
        speaker.announce(["10.96.0.10/32"])
    """

    def __init__(
        self,
        *,
        asn: int,
        router_id: str,
        peers: Iterable[Peer] = (),
        dynamic: Iterable[DynamicPeers] = (),
        listen: bool | Sequence[str] = False,
        port: int = 179,
        settle_time: float = 30.0,
        liveness: Liveness | None = None,
        make_socket: MakeSocket = socket.socket,
    ) -> None:
        self.speaker = Speaker(
            asn=asn,
            router_id=router_id,
            peers=peers,
            dynamic=dynamic,
            listen=listen,
            port=port,
            settle_time=settle_time,
            liveness=liveness,
            make_socket=make_socket,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listen and connect."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="bgp", daemon=True)
        self._thread.start()
        try:
            self._await(self.speaker.start())
        except BaseException:
            self._end_loop()
            raise

    def close(self, *, graceful: bool = False, text: str = "") -> None:
        """End every session; see Speaker.close()."""
        if self._loop is not None:
            self._await(self.speaker.close(graceful=graceful, text=text))
            self._end_loop()

    def peer(
        self,
        peer: Peer | str,
        *,
        asn: int | None = None,
        options: PeerOptions | None = None,
        timeout: float = 30.0,
    ) -> RunningPeer:
        """Add a peer and wait for its session; PeerError where there is none in time."""
        return self._await(self.speaker.peer(peer, asn=asn, options=options, timeout=timeout))

    def add(self, peer: Peer) -> RunningPeer:
        """Add a peer without waiting."""
        return self.call(lambda: self.speaker.add(peer))

    def remove(self, address: str) -> None:
        """End a peer's session for good."""
        self._await(self.speaker.remove(address))

    def announce(self, routes: Announced, *, owner: str = "") -> Delta:
        """Announce exactly these; see Speaker.announce()."""
        return self.call(lambda: self.speaker.announce(routes, owner=owner))

    def why(self, prefix: str) -> Explanation:
        """Why a prefix is announced to each peer, or not."""
        return self.call(lambda: self.speaker.why(prefix))

    def states(self) -> dict[str, State]:
        """Every peer's state."""
        return self.call(lambda: {a: one.state for a, one in self.speaker.peers.items()})

    def events(self, *, routes: bool = False, timeout: float | None = None) -> Iterator[BgpEvent]:
        """What happens from now on; ends when nothing happens for `timeout` seconds."""
        feed = self.call(lambda: self.speaker.events(routes=routes))
        found: queue.Queue[BgpEvent | None] = queue.Queue(maxsize=1000)
        reading = asyncio.run_coroutine_threadsafe(_pass_on(feed, found), self._running())
        try:
            while (event := _next(found, timeout)) is not None:
                yield event
        finally:
            reading.cancel()
            if self._loop is not None:
                self.call(feed.close)

    def call(self, function: Callable[[], T]) -> T:
        """Run a function on the speaker's thread, where all its objects live."""

        async def inner() -> T:
            return function()

        return self._await(inner())

    def _await(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            loop = self._running()
        except ClosedError:
            work.close()
            raise
        return asyncio.run_coroutine_threadsafe(work, loop).result()

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise ClosedError("the speaker is not running")
        return self._loop

    def _end_loop(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None and self._thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()
            loop.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Blocking{repr(self.speaker)[1:]}"


async def _pass_on(feed: Any, found: queue.Queue[BgpEvent | None]) -> None:
    """Without waiting in the queue: what does not fit stays in the feed, which is bounded."""
    async for event in feed:
        while found.full():
            await asyncio.sleep(0.01)
        found.put_nowait(event)
    found.put_nowait(None)


def _next(found: queue.Queue[BgpEvent | None], timeout: float | None) -> BgpEvent | None:
    try:
        return found.get(timeout=timeout)
    except queue.Empty:
        return None
