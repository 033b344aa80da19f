# SPDX-License-Identifier: Apache-2.0
"""One peer on an event loop: dials, reads, writes and keeps its timers."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterable

from pycilium.bgp.connection import Connection
from pycilium.bgp.errors import PeerError
from pycilium.bgp.events import PeerChanged
from pycilium.bgp.fsm import Ends, PeerMachine
from pycilium.bgp.liveness import Liveness, Unwatch
from pycilium.bgp.message import encode_refresh
from pycilium.bgp.negotiation import Negotiated
from pycilium.bgp.notification import Cease, Notification
from pycilium.bgp.peer import Peer
from pycilium.bgp.prefix import address_text
from pycilium.bgp.router import Router
from pycilium.bgp.session import (
    Ended,
    Established,
    Event,
    Received,
    Refreshed,
    Session,
    State,
)
from pycilium.bgp.sockets import MakeSocket, ends_of, limit_hops, open_towards
from pycilium.errors import KernelError

_DIAL_TIME = 10.0
_FOREVER = float("inf")


class RunningPeer:
    """A peer of a speaker; made by Speaker.peer()."""

    def __init__(
        self,
        machine: PeerMachine,
        router: Router,
        make_socket: MakeSocket,
        changed: Callable[[PeerChanged], None],
        liveness: Liveness | None = None,
    ) -> None:
        self.machine = machine
        self.negotiated: Negotiated | None = None  # of the session, also while it ends
        self.ports = (0, 0)
        self.observe: Callable[[RunningPeer, Event], None] = _ignore
        self._router = router
        self._make_socket = make_socket
        self._changed = changed
        self._liveness = liveness
        self._unwatch: Unwatch | None = None
        self.changed_routes: Callable[[], None] = self.flush  # other peers may be told more
        self._loop = asyncio.get_running_loop()
        self._connections: dict[Session, Connection] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._dial: asyncio.Task[None] | None = None
        self._adopting: set[asyncio.Task[None]] = set()
        self._flushing = False
        self._told = State.IDLE
        self._established = asyncio.Event()
        router.add(machine.peer)

    @property
    def peer(self) -> Peer:
        """What was asked for."""
        return self.machine.peer

    @property
    def address(self) -> str:
        """The peer's address."""
        return self.machine.peer.address

    @property
    def state(self) -> State:
        """RFC 4271's word for where the session is."""
        return self.machine.state

    @property
    def reason(self) -> str:
        """Why there is no session; empty where there is one."""
        return self.machine.reason

    def start(self) -> None:
        """Connect and accept from now on."""
        self.machine.start(self._loop.time())
        self._poll()

    def stop(self, why: Cease = Cease.SHUTDOWN, text: str = "") -> None:
        """End the session with a Cease, and stay down until start()."""
        self._cancel_dial()
        end = self.final(Notification.cease(why, text))
        self._run(self.machine.stop(end, reason=f"stopped by us: {text or why.name.lower()}"))
        self._poll()

    def reset(self, text: str = "") -> None:
        """End the session with a Cease, and connect again."""
        self.stop(Cease.RESET, text)
        self.start()

    def abandon(self) -> None:
        """Close without a word: a peer with graceful restart keeps our routes."""
        self._cancel_dial()
        self._run(self.machine.stop(None, reason="left behind"))
        self._poll()

    def refresh(self) -> None:
        """Ask the peer to say everything again (RFC 2918)."""
        session = self.machine.session
        if session is not None and session.negotiated is not None and session.negotiated.refresh:
            now = self._loop.time()
            session.send([encode_refresh(one) for one in session.negotiated.families], now)
            self._poll()

    def path_down(self, reason: str = "the path has failed") -> None:
        """An outside source knows that the path is gone: the routes go at once (RFC 9384)."""
        session = self.machine.session
        if session is not None:
            said = self.final(Notification.cease(Cease.BFD_DOWN))
            end = session.stop(said, f"{reason}: we sent {said}")
            self._run(self.machine.watch(session, end, self._loop.time()), restartable=False)
            self._poll()

    async def established(self, timeout: float) -> None:
        """Wait for the session; raises PeerError with the last reason."""
        try:
            await asyncio.wait_for(self._established.wait(), timeout)
        except TimeoutError:
            raise PeerError(str(self.peer), str(self.state), self.reason or "no session") from None

    def abort(self) -> None:
        """Close every connection at once, whatever is still to be written."""
        for one in list(self._connections.values()):
            if one.transport is not None:
                one.transport.abort()
        self._connections.clear()

    async def closed(self) -> None:
        """Wait until every connection has been written out and closed."""
        while self._connections:
            await asyncio.sleep(0.005)

    def final(self, why: Notification) -> Notification:
        """An end that takes our routes away, also where notifications do not (RFC 8538 §3)."""
        session = self.machine.session
        restart = session.negotiated.restart if session and session.negotiated else None
        return Notification.hard_reset(why) if restart and restart.notifications else why

    def accept(self, one: socket.socket) -> None:
        """The peer has connected to us."""
        local, remote = ends_of(one)
        session = self.machine.accepted(self._loop.time(), Ends(local, remote))
        if session is None:
            one.close()
            return
        limit_hops(one, self.peer.options, external=self._external)
        task = self._loop.create_task(self._adopt(one, session))
        self._adopting.add(task)
        task.add_done_callback(self._adopting.discard)

    def attach(self, connection: Connection) -> None:
        """A connection has its transport."""
        self._connections[connection.session] = connection
        self._poll()

    def received(self, connection: Connection, data: bytes) -> None:
        """Octets for a session."""
        now = self._loop.time()
        session = connection.session
        self._run(self.machine.watch(session, session.receive(data, now), now))
        self._poll()

    def lost(self, connection: Connection, reason: str) -> None:
        """A session has no transport any more."""
        self._connections.pop(connection.session, None)
        session = connection.session
        self._run(self.machine.watch(session, session.lost(reason), self._loop.time()))
        self._poll()

    def blocked(self, connection: Connection) -> None:
        """A session's transport is full."""
        connection.session.blocked(self._loop.time())

    def unblocked(self, connection: Connection) -> None:
        """A session's transport has room."""
        connection.session.unblocked()
        self._poll()

    def flush(self) -> None:
        """Say what is new, as far as the transport has room; soon, with whatever else is new."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    @property
    def _external(self) -> bool:
        return self.machine.local.asn != self.peer.asn

    def _run(self, events: Iterable[Event], *, restartable: bool = True) -> None:
        now = self._loop.time()
        happened = False
        for event in events:
            happened = True
            if isinstance(event, Established):
                self.negotiated = event.negotiated
            self.observe(self, event)
            if isinstance(event, Received):
                self._update(event)
            elif isinstance(event, Established):
                self._up(event, now)
            elif isinstance(event, Refreshed):
                self._router.refresh(self.address, event, now)
            elif isinstance(event, Ended):
                self._down(event, now, restartable=restartable)
        if happened:
            self.changed_routes()

    def _update(self, event: Received) -> None:
        end = self._router.update(self.address, event.update)
        session = self.machine.session
        if end is not None and session is not None:
            events = session.stop(self.final(end))
            self._run(self.machine.watch(session, events, self._loop.time()))

    def _up(self, event: Established, now: float) -> None:
        self._router.up(self.address, event.negotiated, now)
        connection = self._connections.get(self.machine.session) if self.machine.session else None
        if connection is not None and connection.transport is not None:
            names = (connection.transport.get_extra_info(f"{one}name") for one in ("sock", "peer"))
            self.ports = tuple(name[1] for name in names)
        self._established.set()
        if self._liveness is not None:
            local = address_text(event.negotiated.local_address)
            self._unwatch = self._liveness.watch(local, self.address, self._liveness_changed)

    def _liveness_changed(self, is_up: bool) -> None:
        if not is_up:
            self._loop.call_soon_threadsafe(self.path_down)

    def _down(self, event: Ended, now: float, *, restartable: bool) -> None:
        self._router.down(self.address, event, now, restartable=restartable)
        if self.machine.session is None:
            self._established.clear()
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None

    def _poll(self) -> None:
        """After anything happened: write, close, dial, set the timer, tell."""
        for connection in list(self._connections.values()):
            self._write(connection)
        if self.machine.wants_dial(self._loop.time()):
            self._dial = self._loop.create_task(self._connect())
        self._set_timer()
        self._tell()
        self.flush()

    def _write(self, connection: Connection) -> None:
        transport, session = connection.transport, connection.session
        if transport is None or transport.is_closing():
            return
        data = session.take_output()
        if data:
            transport.write(data)
        if session.state is State.IDLE:
            transport.close()

    def _flush(self) -> None:
        self._flushing = False
        session = self.machine.session
        connection = self._connections.get(session) if session is not None else None
        if session is None or connection is None or not connection.writable:
            return
        for messages in self._router.drain(self.address):
            session.send(messages, self._loop.time())
            self._write(connection)
            self.flush()  # the next slab, after others had their turn
            break

    def _tell(self) -> None:
        if self.state is not self._told:
            self._told = self.state
            self._changed(PeerChanged(self.address, self.state, self.reason))

    def _set_timer(self) -> None:
        """One timer at most; one that fires too early looks again."""
        due = min(self.machine.deadline, self._router.neighbours[self.address].deadline)
        if self._timer is not None:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = None if due == _FOREVER else self._loop.call_at(due, self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = self._loop.time()
        for session in self.machine.sessions:
            self._run(self.machine.watch(session, session.tick(now), now))
        if self.address in self._router.neighbours:
            self._router.tick(now)
            self.changed_routes()
            self._poll()

    async def _connect(self) -> None:
        try:
            one = open_towards(self.peer, self._make_socket)
        except KernelError as error:
            self._dial_failed(str(error))
            return
        try:
            limit_hops(one, self.peer.options, external=self._external)
            where = (self.peer.address, self.peer.options.port)
            async with asyncio.timeout(_DIAL_TIME):
                await self._loop.sock_connect(one, where)
        except OSError as error:  # TimeoutError is one
            one.close()
            reason = os.strerror(error.errno) if error.errno else "no answer"
            self._dial_failed(f"connect: {reason}")
        except BaseException:
            one.close()
            raise
        else:
            session = self.machine.dialled(self._loop.time(), Ends(*ends_of(one)))
            await self._adopt(one, session)

    async def _adopt(self, one: socket.socket, session: Session) -> None:
        connection = Connection(self, session)
        self._connections[session] = connection
        await self._loop.create_connection(lambda: connection, sock=one)

    def _dial_failed(self, reason: str) -> None:
        self.machine.failed(reason, self._loop.time())
        self._poll()

    def _cancel_dial(self) -> None:
        if self._dial is not None and not self._dial.done():
            self._dial.cancel()
            self.machine.failed("stopped", self._loop.time())


def _ignore(peer: RunningPeer, event: Event) -> None:  # noqa: ARG001
    return
