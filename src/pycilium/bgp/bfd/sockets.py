# SPDX-License-Identifier: Apache-2.0
"""The UDP sockets of BFD (RFC 5881 sections 4 and 5, RFC 5883 section 5)."""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address
from typing import Final

from pycilium.bgp.bfd.settings import Address

SINGLE_HOP_PORT: Final = 3784
MULTIHOP_PORT: Final = 4784
TTL: Final = 255

_SOURCE_PORTS = (49152, 65535)
_PORTS_TRIED = 100
_RECEIVE_BUFFER = 4 << 20  # a stall of a second at thousands of packets per second
_CLASS_SELECTOR_6 = 0xC0  # network control, before what it guards
_IP_RECVTTL = 12
_SO_RCVBUFFORCE = 33


class Listener:
    """Where the packets of all sessions with one local address arrive, with their TTL."""

    def __init__(self, local: Address, device: str | None, *, multihop: bool) -> None:
        self.port = MULTIHOP_PORT if multihop else SINGLE_HOP_PORT
        self.socket = _open(local)
        try:
            _bind_to_device(self.socket, device)
            _ask_for_ttl(self.socket)
            _enlarge(self.socket)
            self.socket.bind(_sockaddr(local, self.port, device))
        except OSError:
            self.socket.close()
            raise

    def read(self, limit: int) -> Iterator[tuple[bytes, str, int]]:
        """What waits, at most `limit` of it: payload, source address, TTL."""
        for _ in range(limit):
            try:
                data, control, _, source = self.socket.recvmsg(2048, 64)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error that the kernel remembers: not a packet
                continue
            ttl = int.from_bytes(control[0][2][:4], "little") if control else 0
            yield data, source[0], ttl

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()


class Sender:
    """What one session sends with: a source port of its own, TTL 255."""

    def __init__(
        self,
        peer: Address,
        local: Address,
        device: str | None,
        *,
        multihop: bool,
        taken: frozenset[int] = frozenset(),
    ) -> None:
        self._peer = _sockaddr(peer, MULTIHOP_PORT if multihop else SINGLE_HOP_PORT, device)
        self._socket = _open(local)
        try:
            _bind_to_device(self._socket, device)
            _mark_outgoing(self._socket)
            self.port = _bind_source_port(self._socket, local, device, taken)
        except OSError:
            self._socket.close()
            raise

    def send(self, data: bytes) -> bool:
        """Whether the kernel took the packet; an interface that is down takes none."""
        with suppress(OSError):
            return self._socket.sendto(data, self._peer) == len(data)
        return False

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def route_source(peer: Address, device: str | None) -> Address:
    """The address that the kernel would send from; OSError where there is no route."""
    with _open(peer) as probe:
        _bind_to_device(probe, device)
        probe.connect(_sockaddr(peer, SINGLE_HOP_PORT, device))
        return ip_address(probe.getsockname()[0].partition("%")[0])


def canonical(address: Address) -> str:
    """An address as recvmsg() shows it."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    return socket.inet_ntop(family, address.packed)


def _open(address: Address) -> socket.socket:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    one = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    if family == socket.AF_INET6:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return one


def _sockaddr(address: Address, port: int, device: str | None) -> tuple[object, ...]:
    if address.version == 4:
        return canonical(address), port
    scope = socket.if_nametoindex(device) if device and address.is_link_local else 0
    return canonical(address), port, 0, scope


def _bind_to_device(one: socket.socket, device: str | None) -> None:
    if device is not None:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode() + b"\0")


def _ask_for_ttl(one: socket.socket) -> None:
    if one.family == socket.AF_INET:
        one.setsockopt(socket.IPPROTO_IP, _IP_RECVTTL, 1)
    else:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)


def _enlarge(one: socket.socket) -> None:
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
    with suppress(PermissionError):  # past the machine's limit with CAP_NET_ADMIN only
        one.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)


def _mark_outgoing(one: socket.socket) -> None:
    if one.family == socket.AF_INET:
        one.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, TTL)
        one.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, _CLASS_SELECTOR_6)
    else:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, TTL)
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, _CLASS_SELECTOR_6)


def _bind_source_port(
    one: socket.socket, local: Address, device: str | None, taken: frozenset[int]
) -> int:
    """RFC 5881 section 4: one that no other session has, as long as there are any."""
    for left in reversed(range(_PORTS_TRIED)):
        port = random.SystemRandom().randint(*_SOURCE_PORTS)
        if port in taken and left > _PORTS_TRIED // 2:
            continue
        try:
            one.bind(_sockaddr(local, port, device))
            return port
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not left:
                raise
    raise AssertionError("unreachable")
