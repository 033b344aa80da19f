# SPDX-License-Identifier: Apache-2.0
"""TCP for BGP: MD5 signatures (RFC 2385), TTL security (RFC 5082), multihop, listening."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable
from ipaddress import ip_address

from pycilium.bgp.peer import Peer, PeerOptions
from pycilium.errors import KernelError, PermissionDeniedError

MakeSocket = Callable[[int, int], socket.socket]

_TCP_MD5SIG, _TCP_MD5SIG_EXT = 14, 32
_PREFIX_FLAG = 1
_IP_MINTTL, _IPV6_MINHOPCOUNT = 21, 73
_MAX_TTL = 255
_BACKLOG = 1024


def family_of(address: str) -> int:
    """AF_INET or AF_INET6."""
    return socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET


def open_towards(peer: Peer, make: MakeSocket) -> socket.socket:
    """A socket that is ready to connect to a peer."""
    options = peer.options
    one = make(family_of(peer.address), socket.SOCK_STREAM)
    try:
        one.setblocking(False)
        if options.password is not None:
            set_password(one, peer.address, options.password)
        if options.local_address is not None:
            one.bind((options.local_address, 0))
    except OSError as error:
        one.close()
        raise KernelError(error.errno or 0, "open socket to", peer.address) from error
    except BaseException:
        one.close()
        raise
    return one


def limit_hops(one: socket.socket, options: PeerOptions, *, external: bool) -> None:
    """The TTL to send with, and the one that packets must still have."""
    six = one.family == socket.AF_INET6
    level = socket.IPPROTO_IPV6 if six else socket.IPPROTO_IP
    ttl = socket.IPV6_UNICAST_HOPS if six else socket.IP_TTL
    if options.ttl_security:
        one.setsockopt(level, ttl, _MAX_TTL)
        least = _MAX_TTL + 1 - options.ttl_security
        one.setsockopt(level, _IPV6_MINHOPCOUNT if six else _IP_MINTTL, least)
    elif options.multihop:
        one.setsockopt(level, ttl, options.multihop)
    elif external:
        one.setsockopt(level, ttl, 1)


def set_password(
    one: socket.socket, address: str, password: str | None, *, prefix_length: int | None = None
) -> None:
    """Sign segments from and to an address, or a prefix; None takes the password away."""
    packed = ip_address(address).packed
    family = socket.AF_INET6 if len(packed) == 16 else socket.AF_INET
    where = bytes(6) + packed if family == socket.AF_INET6 else bytes(2) + packed
    key = (password or "").encode()
    flags = 0 if prefix_length is None else _PREFIX_FLAG
    head = struct.pack("=H", family) + where.ljust(126, b"\0")
    tail = struct.pack("=BBHi80s", flags, prefix_length or 0, len(key), 0, key)
    option = _TCP_MD5SIG if prefix_length is None else _TCP_MD5SIG_EXT
    try:
        one.setsockopt(socket.IPPROTO_TCP, option, head + tail)
    except OSError as error:
        if password is None and error.errno == errno.ENOENT:
            return
        raise KernelError(error.errno or 0, "set TCP MD5 key for", address) from error


def listen(address: str, port: int, make: MakeSocket) -> socket.socket:
    """A listening socket; KernelError with the way out where the port is taken or refused."""
    one = make(family_of(address), socket.SOCK_STREAM)
    try:
        one.setblocking(False)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if one.family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind((address, port))
        one.listen(_BACKLOG)
    except OSError as error:
        one.close()
        hint = "listen=False connects only, port= takes another port"
        kind = PermissionDeniedError if error.errno == errno.EACCES else KernelError
        raise kind(error.errno or 0, "listen on", f"{address} port {port}", hint=hint) from error
    return one


def ends_of(one: socket.socket) -> tuple[bytes, bytes]:
    """The packed addresses of both ends."""
    return tuple(  # type: ignore[return-value]
        ip_address(name[0].partition("%")[0]).packed
        for name in (one.getsockname(), one.getpeername())
    )
