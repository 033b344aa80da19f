# SPDX-License-Identifier: Apache-2.0
"""NETLINK_SOCK_DIAG (linux/inet_diag.h): the sockets of the caller's namespace."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import attrs

from pycilium.errors import KernelError

_NETLINK_SOCK_DIAG = 4
_SOCK_DESTROY = 21
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST_ACK = 5  # NLM_F_REQUEST | NLM_F_ACK
_REQUEST_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_SKV6ONLY = 11  # INET_DIAG_SKV6ONLY
_ALL_STATES = 0xFFFFFFFF
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBxI2s2s16s16sIQ")  # struct inet_diag_req_v2
_ANSWER = struct.Struct("=BBBB2s2s16s16sIQIIIII")  # struct inet_diag_msg
_FAMILIES = (socket.AF_INET, socket.AF_INET6)
# A bit for each state: TCP_CLOSE, in which UDP without a peer is; TCP_LISTEN and, from Linux 6.8
# on, TCP_BOUND_INACTIVE.
WAITING = {socket.IPPROTO_TCP: 1 << 10 | 1 << 13, socket.IPPROTO_UDP: 1 << 7}


@attrs.frozen(kw_only=True)
class Connection:
    """One connected socket, and its cookie (SO_COOKIE), which no other ever has."""

    protocol: int
    source: IPv4Address | IPv6Address
    source_port: int
    destination: IPv4Address | IPv6Address
    destination_port: int
    cookie: int


def destroy(connection: Connection) -> bool:
    """End it with ECONNABORTED; False where it is gone already.

    Linux >= 4.9 with CONFIG_INET_DIAG_DESTROY. Raises KernelError.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        netlink.send(_request(connection))
        answer = netlink.recv(4096)
    (code,) = struct.unpack_from("=i", answer, _HEADER.size)
    if code and -code != errno.ENOENT:
        raise KernelError(-code, "destroy socket", f"to {connection.destination}")
    return not code


@attrs.frozen(kw_only=True)
class Bound:
    """A socket that waits at an address and port, and the inode of its descriptor (0: none)."""

    protocol: int
    address: IPv4Address | IPv6Address
    port: int
    inode: int
    uid: int
    only_ipv6: bool = False

    @property
    def holder(self) -> str:
        """The process that has it, as in "nginx (pid 12)", as far as this one may see."""
        for directory in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended
                if any(self._is(one) for one in (directory / "fd").iterdir()):
                    name = (directory / "comm").read_text().strip()
                    return f"{name} (pid {directory.name})"
        return f"a process of uid {self.uid} that is not seen from here"

    def _is(self, descriptor: Path) -> bool:
        with suppress(OSError):
            return str(descriptor.readlink()) == f"socket:[{self.inode}]"
        return False


def bound(protocol: int) -> list[Bound]:
    """The TCP sockets that listen, or the UDP sockets without a peer, of both families."""
    return [one for family in _FAMILIES for one in _dump(family, protocol)]


def _dump(family: int, protocol: int) -> Iterator[Bound]:
    body = _REQUEST.pack(family, protocol, 0, WAITING[protocol], b"", b"", b"", b"", 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        netlink.send(_message(_SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, body))
        done = False
        while not done:
            answer, at = netlink.recv(1 << 16), 0
            while at < len(answer) and not done:
                length, kind, *_ = _HEADER.unpack_from(answer, at)
                done = kind == _NLMSG_DONE
                if kind == _NLMSG_ERROR:
                    (code,) = struct.unpack_from("=i", answer, at + _HEADER.size)
                    raise KernelError(-code, "list sockets", f"of protocol {protocol}")
                if not done:
                    yield _bound(protocol, answer[at + _HEADER.size : at + length])
                at += (length + 3) & ~3


def _bound(protocol: int, message: bytes) -> Bound:
    family, _, _, _, port, _, source, *_, uid, inode = _ANSWER.unpack_from(message)
    four = family == socket.AF_INET
    return Bound(
        protocol=protocol,
        address=IPv4Address(source[:4]) if four else IPv6Address(source),
        port=int.from_bytes(port, "big"),
        inode=inode,
        uid=uid,
        only_ipv6=any(_attribute(message, _SKV6ONLY)),
    )


def _attribute(message: bytes, wanted: int) -> bytes:
    at = _ANSWER.size
    while at + 4 <= len(message):
        length, kind = struct.unpack_from("=HH", message, at)
        if kind == wanted:
            return message[at + 4 : at + length]
        at += (length + 3) & ~3
    return b""


def _request(connection: Connection) -> bytes:
    family = socket.AF_INET if connection.source.version == 4 else socket.AF_INET6
    body = _REQUEST.pack(
        family,
        connection.protocol,
        0,
        _ALL_STATES,
        connection.source_port.to_bytes(2, "big"),
        connection.destination_port.to_bytes(2, "big"),
        connection.source.packed,
        connection.destination.packed,
        0,
        connection.cookie,
    )
    return _message(_SOCK_DESTROY, _REQUEST_ACK, body)


def _message(kind: int, flags: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body
