# SPDX-License-Identifier: Apache-2.0
"""The speaker on an asyncio event loop: peers, what is announced, what was learned, and why."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address
from typing import Self

from pycilium.bgp.events import Feed, PeerChanged
from pycilium.bgp.family import Family
from pycilium.bgp.fsm import Local, PeerMachine
from pycilium.bgp.liveness import Liveness
from pycilium.bgp.notification import Cease
from pycilium.bgp.peer import DynamicPeers, Peer, PeerOptions
from pycilium.bgp.prefix import parse_address, parse_prefix
from pycilium.bgp.route import Announced
from pycilium.bgp.router import Router
from pycilium.bgp.running import RunningPeer
from pycilium.bgp.session import Event
from pycilium.bgp.sockets import MakeSocket, listen, set_password
from pycilium.bgp.why import Explanation, explain
from pycilium.errors import ClosedError, ConflictError, SpecError
from pycilium.model.delta import Delta

_EVERYWHERE = ("0.0.0.0", "::")
_GRACE = 120.0  # seconds in which this process counts as having restarted
_CLOSE_TIME = 2.0
_STRANGER = 10.0  # after which a dynamic peer that is gone is forgotten


class Speaker:
    """A BGP speaker in this process.

    async with Speaker(asn=64512, router_id="10.0.0.1") as speaker:
        await speaker.peer("10.0.0.254", asn=64513)
        speaker.announce(["10.96.0.10/32"])

    listen: addresses to accept sessions on (True: all; False, the default: connect only, which
    takes no privilege; dynamic peers need one). settle_time: seconds
    after which peers are told End-of-RIB although nothing was announced yet, so that a program that
    restarts has time to say what it announces. liveness: what watches paths, such as BFD.
    make_socket: for sockets of another network namespace (NetNS.socket).
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
        self.local = Local(asn, _router_id(router_id))
        self.router = Router()
        self.peers: dict[str, RunningPeer] = {}
        self._configured = list(peers)
        self._dynamic = list(dynamic)
        self._came_by_themselves: dict[str, DynamicPeers] = {}
        self._listen = _addresses(listen)
        if self._dynamic and not self._listen:
            raise SpecError("listen", listen, "True or addresses: dynamic peers connect to us")
        self._port = port
        self._settle_time = settle_time
        self._liveness = liveness
        self._make_socket = make_socket
        self._listeners: list[socket.socket] = []
        self._feeds: list[Feed] = []
        self.observers: list[Callable[[RunningPeer, Event], None]] = []
        self._settle: asyncio.TimerHandle | None = None
        self._started = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """Listen and connect; KernelError where listening is not possible."""
        self._loop = asyncio.get_running_loop()
        self._started = time.monotonic()
        try:
            for address in self._listen:
                self._listeners.append(listen(address, self._port, self._make_socket))
        except BaseException:
            self._close_listeners()
            raise
        for one in self._listeners:
            self._loop.add_reader(one, self._accept, one)
        self._settle = self._loop.call_later(self._settle_time, self._settled)
        for group in self._dynamic:
            self._key_for_prefix(group)
        for peer in self._configured:
            self.add(peer)

    async def close(self, *, graceful: bool = False, text: str = "") -> None:
        """End every session: our routes are withdrawn, or (graceful) kept by peers for a restart.

        text: for the peers' logs (RFC 9003).
        """
        if self._loop is None:
            return
        self._close_listeners()
        if self._settle is not None:
            self._settle.cancel()
        running = list(self.peers.values())
        for one in running:
            if graceful:
                one.abandon()
            else:
                one.stop(Cease.SHUTDOWN, text)
        try:
            async with asyncio.timeout(_CLOSE_TIME):
                await asyncio.gather(*(one.closed() for one in running))
        except TimeoutError:
            for one in running:
                one.abort()
            await asyncio.sleep(0)
        for feed in list(self._feeds):
            feed.close()
        self._loop = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def peer(
        self,
        peer: Peer | str,
        *,
        asn: int | None = None,
        options: PeerOptions | None = None,
        timeout: float = 30.0,
    ) -> RunningPeer:
        """Add a peer and wait for its session.

        Raises PeerError, with the state and the decoded reason, where there is none after `timeout`
        seconds; the peer stays and goes on trying.
        """
        if isinstance(peer, str):
            if asn is None:
                raise SpecError("asn", asn, "the peer's AS number")
            peer = Peer(peer, asn=asn, options=options or PeerOptions())
        elif asn is not None or options is not None:
            raise SpecError("peer", peer, "an address beside asn and options, or a Peer alone")
        running = self.add(peer)
        await running.established(timeout)
        return running

    def add(self, peer: Peer) -> RunningPeer:
        """Add a peer without waiting; ConflictError where its address is taken."""
        if peer.address in self.peers:
            raise ConflictError(f"there is a peer {self.peers[peer.address].peer} already")
        if peer.options.password is not None:
            self._set_key(peer.address, peer.options.password)
        return self._run(PeerMachine(peer, self.local))

    async def remove(self, address: str) -> None:
        """End a peer's session for good, and forget what it said; what is absent is fine."""
        running = self.peers.pop(address, None)
        if running is None:
            return
        running.stop(Cease.DECONFIGURED)
        await running.closed()
        self.router.remove(address)
        self._came_by_themselves.pop(address, None)
        if running.peer.options.password is not None:
            self._set_key(address, None)
        self._flush()

    def announce(self, routes: Announced, *, owner: str = "") -> Delta:
        """Announce exactly these: what the same owner announced and is not listed is withdrawn.

        Raises SpecError before anything is changed.
        """
        delta = self.router.announce(routes, owner)
        self._flush()
        return delta

    def why(self, prefix: str) -> Explanation:
        """Where a prefix comes from, and for each peer why it is announced to it or not."""
        family, nlri = parse_prefix(prefix)
        return explain(self.router, {a: p.machine for a, p in self.peers.items()}, family, nlri)

    def events(self, *, routes: bool = False, max_paths: int = 1) -> Feed:
        """An async iterator of what happens from now on; with routes, at first the whole table."""
        feed = Feed(self.router.tables, self._feeds_remove, routes=routes, paths=max_paths)
        for family in Family:
            feed.mark(family, list(self.router.tables[family]))
        self._feeds.append(feed)
        self.router.watchers.append(feed)
        return feed

    def _feeds_remove(self, feed: Feed) -> None:
        if feed in self._feeds:
            self._feeds.remove(feed)
            self.router.watchers.remove(feed)

    def _run(self, machine: PeerMachine) -> RunningPeer:
        if self._loop is None:
            raise ClosedError("the speaker is not running")
        machine.restarting = time.monotonic() - self._started < _GRACE
        running = RunningPeer(
            machine, self.router, self._make_socket, self._peer_changed, self._liveness
        )
        running.changed_routes = self._flush
        running.observe = self._observe
        self.peers[machine.peer.address] = running
        running.start()
        return running

    def _accept(self, listener: socket.socket) -> None:
        try:
            one, where = listener.accept()
        except OSError:  # gone again, or no descriptor left: the next one tells
            return
        one.setblocking(False)
        address = where[0].partition("%")[0].removeprefix("::ffff:")
        running = self.peers.get(address) or self._welcome(address)
        if running is None:
            one.close()
        else:
            running.accept(one)

    def _welcome(self, address: str) -> RunningPeer | None:
        """A dynamic peer that is not known yet."""
        for group in self._dynamic:
            here = sum(one is group for one in self._came_by_themselves.values())
            if group.matches(address) and here < group.limit:
                peer = group.peer(address)
                self._came_by_themselves[address] = group
                return self._run(PeerMachine(peer, self.local, asns=group.asns))
        return None

    def _peer_changed(self, event: PeerChanged) -> None:
        for feed in self._feeds:
            feed.peer_changed(event)
        if event.peer in self._came_by_themselves and self._loop is not None:
            self._loop.call_later(_STRANGER, self._let_go, event.peer)

    def _let_go(self, address: str) -> None:
        """A dynamic peer without a connection and without routes makes room for another."""
        running = self.peers.get(address)
        if self._loop is None or running is None or address not in self._came_by_themselves:
            return
        if running.machine.sessions:
            return
        if self.router.neighbours[address].adj_in:
            self._loop.call_later(_STRANGER, self._let_go, address)
            return
        running.abandon()
        self.router.remove(address)
        del self.peers[address], self._came_by_themselves[address]

    def _observe(self, peer: RunningPeer, event: Event) -> None:
        for observer in self.observers:
            observer(peer, event)

    def _flush(self) -> None:
        for one in self.peers.values():
            one.flush()

    def _settled(self) -> None:
        self.router.settle()
        self._flush()

    def _set_key(self, address: str, password: str | None) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        for one in self._listeners:
            if one.family == family:
                set_password(one, address, password)

    def _key_for_prefix(self, group: DynamicPeers) -> None:
        if group.options.password is None:
            return
        address, _, length = group.prefix.partition("/")
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        for one in self._listeners:
            if one.family == family:
                password = group.options.password
                bits = int(length) if length else (128 if ":" in address else 32)
                set_password(one, address, password, prefix_length=bits)

    def _close_listeners(self) -> None:
        for one in self._listeners:
            if self._loop is not None:
                self._loop.remove_reader(one)
            one.close()
        self._listeners.clear()

    def __repr__(self) -> str:
        up = sum(one.machine.session is not None for one in self.peers.values())
        return f"<Speaker AS {self.local.asn}, {up} of {len(self.peers)} peers established>"


def _router_id(text: str) -> bytes:
    packed = parse_address(text, "router_id")
    if len(packed) != 4 or packed == bytes(4) or IPv4Address(packed).is_multicast:
        raise SpecError("router_id", text, "an IPv4 address of one host")
    return packed


def _addresses(given: bool | Sequence[str]) -> tuple[str, ...]:
    if isinstance(given, bool):
        return _EVERYWHERE if given else ()
    for one in given:
        parse_address(one, "listen")
    return tuple(given)
