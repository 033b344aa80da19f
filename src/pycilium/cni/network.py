# SPDX-License-Identifier: Apache-2.0
"""Network: what the commands of CNI do on one node, over its datapath and its addresses.

A container's attachment is an endpoint; its name, network/container/interface, is also the owner
of its addresses. The datapath knows what stands and the pools know what is given, and both
survive the process: there is no third account that could disagree.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from pycilium.cni import attachment
from pycilium.cni.errors import CniError, Code
from pycilium.cni.labels import addresses_of, labels_of, mac_of
from pycilium.cni.request import Command
from pycilium.errors import ConflictError, PyciliumError, SpecError

if TYPE_CHECKING:
    from pycilium.cni.queue import Queue
    from pycilium.cni.request import Request
    from pycilium.cni.result import Result
    from pycilium.datapath import Datapath
    from pycilium.datapath.endpoint import Endpoint
    from pycilium.ipam import Allocation, HostScope
    from pycilium.model import Labels


class Network:
    """The commands, one at a time. It closes neither the datapath nor the addresses.

    labels: how a request says which labels its container has. queue: requests that could not
    be answered while nobody had the node, which are done before anything else.
    """

    def __init__(
        self,
        datapath: Datapath,
        addresses: HostScope,
        *,
        labels: Callable[[Request], Labels] = labels_of,
        queue: Queue | None = None,
    ) -> None:
        self.datapath = datapath
        self.addresses = addresses
        self._labels = labels
        self._queue = queue
        self._lock = threading.RLock()
        self._settle()
        self._catch_up()

    def add(self, request: Request) -> Result:
        """Attach a container, or say again how it is attached.

        After a plugin of the same chain that made the interface, that interface is taken charge
        of. Raises CniError and what Endpoints.create() and HostScope.allocate() raise; after each
        of them the container has nothing.
        """
        with self._lock:
            self._catch_up()
            standing = self.datapath.endpoints.get(request.owner)
            if standing is not None and not attachment.is_inside(standing, request):
                self._remove(request.owner)
                standing = None
            if request.previous is not None:
                if standing is None:
                    self._take_charge(request)
                return request.previous
            return attachment.result(standing or self._create(request), request)

    def delete(self, request: Request) -> None:
        """Detach a container; what is gone already, or never was, is fine."""
        with self._lock:
            self._catch_up()
            self._remove(request.owner)

    def check(self, request: Request) -> None:
        """CniError where the container's network is not what its ADD answered."""
        with self._lock:
            self._catch_up()
            if request.previous is None:
                raise CniError(Code.INVALID_CONFIG, "CHECK without prevResult")
            endpoint = self.datapath.endpoints.get(request.owner)
            if endpoint is None:
                raise CniError(
                    Code.UNKNOWN_CONTAINER,
                    f"{request.owner} has no network",
                    "remove the container and add it again",
                )
            attachment.check(endpoint, request, self.datapath.node)

    def status(self) -> None:
        """CniError (50) where no container could be added now."""
        with self._lock:
            self._catch_up()
            full = [one for one in self.addresses.usage() if one.free <= 0]
            if full and len(full) == len(self.addresses.usage()):
                names = ", ".join(f"{one.pool} (IPv{one.family}, {one.size})" for one in full)
                raise CniError(Code.UNAVAILABLE, "no pool has an address left", names)

    def collect(self, request: Request) -> None:
        """Detach every container of the request's network that is not in its list (GC)."""
        with self._lock:
            self._catch_up()
            self._collect(request)

    def _create(self, request: Request) -> Endpoint:
        assert request.netns is not None
        allocation = self._allocate(request)
        try:
            return self.datapath.endpoints.create(
                allocation.addresses,
                labels=self._labels(request),
                name=request.owner,
                netns=request.netns,
                ifname=request.ifname,
                mac=mac_of(request),
            )
        except BaseException:
            self.addresses.release(request.owner)
            raise

    def _allocate(self, request: Request) -> Allocation:
        pool = request.config.get("pool")
        if pool is not None and not isinstance(pool, str):
            raise SpecError("pool", pool, "a pool's name")
        return self.addresses.allocate(
            request.owner,
            labels=self._labels(request),
            pool=pool,
            addresses=addresses_of(request),
        )

    def _take_charge(self, request: Request) -> None:
        """Of the interface that an earlier plugin of the chain made."""
        made = attachment.found(request, self.datapath.node)
        self.datapath.endpoints.attach(
            ifname=made.host_ifname,
            address=made.addresses,
            mac=made.mac,
            labels=self._labels(request),
            name=request.owner,
            netns=request.netns,
        )

    def _remove(self, owner: str) -> None:
        """The endpoint first: an address is not given back while packets can reach it."""
        self.datapath.endpoints.remove(owner, missing_ok=True)
        self.addresses.release(owner)

    def _collect(self, request: Request) -> None:
        kept = request.attachments
        if kept is None:
            raise CniError(Code.INVALID_CONFIG, "GC without cni.dev/valid-attachments")
        names = {one.name for one in self.datapath.endpoints}
        names |= {one.owner for one in self.addresses}
        ours = f"{request.network}/"
        gone = sorted(one for one in names if one.startswith(ours) and one not in kept)
        _each(self._remove, gone)

    def _settle(self) -> None:
        """Make both accounts agree after a death between the two."""
        endpoints = {one.name: one for one in self.datapath.endpoints}
        self.addresses.keep(endpoints)
        for name, endpoint in endpoints.items():
            if self.addresses.get(name) is None:
                with suppress(SpecError, ConflictError):  # not an address of these pools
                    self.addresses.allocate(name, addresses=endpoint.addresses)

    def _catch_up(self) -> None:
        if self._queue is not None:
            self._queue.drain(self._late)

    def _late(self, request: Request) -> None:
        """A request of the queue."""
        if request.command is Command.GC:
            self._collect(request)
        else:
            self._remove(request.owner)


def _each(function: Callable[[str], None], names: list[str]) -> None:
    """All of them, whatever fails; then the first failure."""
    failures: list[PyciliumError] = []
    for name in names:
        try:
            function(name)
        except PyciliumError as error:
            failures.append(error)
    if failures:
        raise failures[0]
