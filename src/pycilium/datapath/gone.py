# SPDX-License-Identifier: Apache-2.0
"""Sockets that are connected to a backend which its service no longer has: they end, no other.

An iterator finds them in all namespaces at once, by what the socket layer keeps with each
socket. In each of those namespaces they are ended from within the kernel (Linux 6.5), else
through NETLINK_SOCK_DIAG. The process gets ECONNABORTED and may connect anew.
"""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING, Any

from pycilium.datapath.wire import addr, address_of, be16
from pycilium.libbpf import Map, Object, ObjectSpec, features, read_iterator
from pycilium.model import BackendState
from pycilium.net import sock_diag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pycilium.model import ServiceLB
    from pycilium.net import NetNS

_DESTROYERS = {6: "destroy_tcp", 17: "destroy_udp"}
_LOOKS = 3
_GRACE = 0.005  # seconds in which a connect() that chose before the change arrives


class GoneSockets:
    """Loaded on first need; `peers` is the socket layer's map of connected sockets."""

    def __init__(
        self,
        peers: Map,
        find_namespace: Callable[[int], NetNS | None],
        *,
        in_kernel: bool | None = None,
    ) -> None:
        self._peers = peers
        self._find_namespace = find_namespace
        self._object: Object | None = None
        self._in_kernel = features.have_sock_destroy() if in_kernel is None else in_kernel

    def end(self, old: Sequence[ServiceLB], new: Sequence[ServiceLB]) -> None:
        """Those between frontends and backends that were together and are so no more.

        old, new: the services that differ.
        """
        pairs = iter(parted(old, new))
        while chunk := list(islice(pairs, ObjectSpec.bundled("gone").maps["pcl_gone"].max_entries)):
            table = self._load().maps["pcl_gone"]
            table.update((one, 1) for one in chunk)
            try:
                self._end_marked()
            finally:
                table.remove(chunk)

    def close(self) -> None:
        """Unload."""
        if self._object is not None:
            self._object.close()
            self._object = None

    def _load(self) -> Object:
        if self._object is None:
            spec = ObjectSpec.bundled("gone")
            self._object = spec.load(
                reuse={"pcl_peers": self._peers},
                disable_maps=spec.maps_beside(("pcl_peers", "pcl_gone")),
                disable_programs=() if self._in_kernel else tuple(_DESTROYERS.values()),
            )
        return self._object

    def _end_marked(self) -> None:
        for _ in range(_LOOKS):
            found = self._find()
            for cookie in {one.netns for one in found if one.connected}:
                here = [one for one in found if one.netns == cookie and one.connected]
                namespace = self._find_namespace(cookie)
                if namespace is not None:
                    namespace.run(self._end_here, here)
            if all(one.connected for one in found):
                return
            time.sleep(_GRACE)

    def _find(self) -> list[Any]:
        loaded = self._load()
        told = read_iterator(loaded.programs["find_sockets"], self._peers)
        codec = ObjectSpec.bundled("gone").types["pcl_gone_socket"]
        return [codec.decode(told, at) for at in range(0, len(told), codec.size)]

    def _end_here(self, found: list[Any]) -> None:
        """In the namespace of the sockets."""
        if self._in_kernel:
            for protocol in {one.translation.protocol for one in found}:
                read_iterator(self._load().programs[_DESTROYERS[protocol]])
            return
        for one in found:
            sock_diag.destroy(_connection(one))


def parted(old: Sequence[ServiceLB], new: Sequence[ServiceLB]) -> Iterable[dict[str, Any]]:
    """struct pcl_translation of every pair of frontend and backend that is in old only."""
    standing = set(_pairs(new))
    return [_translation(*pair) for pair in _pairs(old) if pair not in standing]


def _pairs(services: Sequence[ServiceLB]) -> Iterator[tuple[Any, Any, int]]:
    for service in services:
        for backend in service.backends:
            if backend.state is BackendState.MAINTENANCE:
                continue
            yield service.frontend, backend.address, backend.port


def _translation(frontend: Any, address: Any, port: int) -> dict[str, Any]:
    return {
        "frontend": addr(frontend.address),
        "frontend_port_be": be16(frontend.port),
        "backend": addr(address),
        "backend_port_be": be16(port),
        "protocol": frontend.protocol,
        "family": address.version,
        "every": int(frontend.address.is_unspecified),
    }


def _connection(one: Any) -> sock_diag.Connection:
    to = one.translation
    return sock_diag.Connection(
        protocol=to.protocol,
        source=address_of(one.source.bytes, to.family),
        source_port=be16(one.source_port_be),
        destination=address_of(to.backend.bytes, to.family),
        destination_port=be16(to.backend_port_be),
        cookie=one.socket,
    )
