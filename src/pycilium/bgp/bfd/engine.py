# SPDX-License-Identifier: Apache-2.0
"""Sessions on real sockets and the real clock: who is due, and whose packet this is."""

from __future__ import annotations

import heapq
import itertools
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from selectors import EVENT_READ, BaseSelector

from pycilium.bgp.bfd.packet import Discard, State, decode
from pycilium.bgp.bfd.session import Session, Transition
from pycilium.bgp.bfd.settings import Address, Settings, Timers
from pycilium.bgp.bfd.sockets import TTL, Listener, Sender, canonical, route_source
from pycilium.bgp.bfd.status import Statistics, Status
from pycilium.errors import ConflictError

Place = tuple[str, str | None, bool]  # local address, device, multihop


class Engine:
    """Runs sessions, each under a number of its owner's; `report` hears of every transition.

    The selector's entries have a function without arguments as data, for when there is work.
    """

    def __init__(self, selector: BaseSelector, report: Callable[[int, Transition], None]) -> None:
        self._selector = selector
        self._report = report
        self._random = random.Random(random.SystemRandom().getrandbits(128))
        self._links: dict[int, _Link] = {}
        self._by_discriminator: dict[int, _Link] = {}
        self._ports: dict[Place, _Port] = {}
        self._heap: list[tuple[float, int, _Link]] = []
        self._order = itertools.count()
        self._discarded: Counter[Discard] = Counter()

    def add(self, number: int, settings: Settings) -> None:
        """Start a session; OSError where a socket cannot be had, and nothing is left of it."""
        local = settings.local or route_source(settings.peer, settings.device)
        port = self._port(local, settings)
        try:
            port.require_free(settings.peer, local)
            taken = frozenset(one.source_port for one in self._links.values())
            link = _Link(number, self._session(settings), port, local, taken)
        except (OSError, ConflictError):
            self._release(port)
            raise
        self._links[number] = self._by_discriminator[link.session.discriminator] = link
        self._settle(link)

    def remove(self, number: int) -> None:
        """Tell the peer that this is on purpose, and forget the session."""
        link = self._links.pop(number)
        link.session.disable(time.monotonic())
        link.flush()
        link.close()
        self._by_discriminator.pop(link.session.discriminator)
        self._release(link.port)

    def change(self, number: int, timers: Timers) -> None:
        """Offer the peer other timers."""
        link = self._links[number]
        link.session.change(timers)
        self._settle(link)

    def enable(self, number: int, wanted: bool) -> None:
        """Leave or enter AdminDown."""
        link = self._links[number]
        (link.session.enable if wanted else link.session.disable)(time.monotonic())
        self._settle(link)

    def status(self, number: int) -> Status:
        """All there is to know of one session."""
        return self._links[number].status()

    @property
    def discarded(self) -> Mapping[Discard, int]:
        """Packets that belong to no session, by reason."""
        return dict(self._discarded)

    def timeout(self) -> float | None:
        """Seconds until advance() has something to do; None: nothing is planned."""
        return max(0.0, self._heap[0][0] - time.monotonic()) if self._heap else None

    def is_due(self, now: float) -> bool:
        """Whether advance() has something to do."""
        return bool(self._heap) and self._heap[0][0] <= now

    def advance(self, now: float) -> None:
        """Do what is due; what came before `now` must have been read, or a peer seems silent."""
        while self.is_due(now):
            when, _, link = heapq.heappop(self._heap)
            if link.scheduled == when and link.is_open:
                link.scheduled = math.inf
                link.session.tick(now)
                self._settle(link)

    def close(self) -> None:
        """Remove every session, each peer being told."""
        for number in tuple(self._links):
            self.remove(number)

    def abandon(self) -> None:
        """Close every socket without a word: to the peers this is a failure, as it should be."""
        for link in self._links.values():
            link.close()
            self._release(link.port)
        self._links.clear()

    def _session(self, settings: Settings) -> Session:
        discriminator = 0
        while not discriminator or discriminator in self._by_discriminator:
            discriminator = self._random.getrandbits(32)
        return Session(settings, discriminator, now=time.monotonic(), generator=self._random)

    def _port(self, local: Address, settings: Settings) -> _Port:
        place = (canonical(local), settings.device, settings.multihop)
        if place not in self._ports:
            listener = Listener(local, settings.device, multihop=settings.multihop)
            port = self._ports[place] = _Port(place, listener)
            self._selector.register(listener.socket, EVENT_READ, lambda: self._read(port))
        return self._ports[place]

    def _release(self, port: _Port) -> None:
        if not port.links:
            self._selector.unregister(port.listener.socket)
            port.listener.close()
            del self._ports[port.place]

    def _read(self, port: _Port) -> None:
        # All that every session can have waiting, and no more: a flood must not hold the loop.
        for data, source, ttl in port.listener.read(4 * len(port.links) + 64):
            self._receive(port, data, source, ttl)

    def _receive(self, port: _Port, data: bytes, source: str, ttl: int) -> None:
        packet = decode(data)
        if isinstance(packet, Discard):
            self._count(port.links.get(source), packet)
            return
        if packet.your_discriminator:
            link = self._by_discriminator.get(packet.your_discriminator)
        else:
            link = port.links.get(source)
        if link is None or link.is_multihop != port.is_multihop:
            self._count(None, Discard.NO_SESSION)
        elif ttl != TTL and not port.is_multihop:
            self._count(link, Discard.TTL)
        else:
            self._count(link, link.session.receive(packet, time.monotonic()))
            self._settle(link)

    def _count(self, link: _Link | None, refused: Discard | None) -> None:
        if refused is None and link is not None:
            link.received += 1
        elif refused is not None:
            (self._discarded if link is None else link.discarded)[refused] += 1

    def _settle(self, link: _Link) -> None:
        """Send what the session wants sent, report, and plan its next deadline."""
        link.flush()
        for transition in link.take_transitions():
            self._report(link.number, transition)
        deadline = link.session.deadline
        if deadline is not None and deadline < link.scheduled:
            link.scheduled = deadline
            heapq.heappush(self._heap, (deadline, next(self._order), link))
        if len(self._heap) > 4 * len(self._links) + 64:
            self._heap = [one for one in self._heap if one[2].scheduled == one[0]]
            heapq.heapify(self._heap)


class _Port:
    """A listener and the sessions that share it, by the peer's address."""

    def __init__(self, place: Place, listener: Listener) -> None:
        self.place = place
        self.listener = listener
        self.is_multihop = place[2]
        self.links: dict[str, _Link] = {}

    def require_free(self, peer: Address, local: Address) -> None:
        """ConflictError where another session has what comes from this peer."""
        if canonical(peer) in self.links:
            raise ConflictError(f"there is a BFD session from {local} to {peer} already")


class _Link:
    """A session with what it sends through and what it counts."""

    def __init__(
        self, number: int, session: Session, port: _Port, local: Address, taken: frozenset[int]
    ) -> None:
        settings = session.settings
        self.number = number
        self.session = session
        self.port = port
        self.local = local
        self.is_multihop = settings.multihop
        self.is_open = True
        self.scheduled = math.inf
        self.sent = self.received = self.send_errors = self.ups = self.failures = 0
        self.discarded: Counter[Discard] = Counter()
        self._sender = Sender(
            settings.peer, local, settings.device, multihop=settings.multihop, taken=taken
        )
        port.links[canonical(settings.peer)] = self

    @property
    def source_port(self) -> int:
        """What it sends from."""
        return self._sender.port

    def flush(self) -> None:
        """Send what waits."""
        for data in self.session.outgoing:
            if self._sender.send(data):
                self.sent += 1
            else:
                self.send_errors += 1
        self.session.outgoing.clear()

    def take_transitions(self) -> list[Transition]:
        """What has changed since the last call."""
        taken, self.session.transitions = self.session.transitions, []
        self.ups += sum(one.state is State.UP for one in taken)
        self.failures += sum(one.is_failure for one in taken)
        return taken

    def status(self) -> Status:
        """What the session is, and its counters."""
        session = self.session
        return Status(
            state=session.state,
            diagnostic=session.diagnostic,
            remote=session.remote,
            local=str(self.local),
            source_port=self.source_port,
            discriminator=session.discriminator,
            interval=session.interval,
            detection_time=session.detection_time,
            statistics=Statistics(
                sent=self.sent,
                received=self.received,
                send_errors=self.send_errors,
                discarded=dict(self.discarded),
                ups=self.ups,
                failures=self.failures,
            ),
        )

    def close(self) -> None:
        """Close the sender, and let the port have another session with this peer."""
        self.is_open = False
        self._sender.close()
        self.port.links.pop(canonical(self.session.settings.peer), None)
