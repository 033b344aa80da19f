# SPDX-License-Identifier: Apache-2.0
"""NETLINK_SOCK_DIAG (linux/inet_diag.h): end one socket of the caller's namespace."""

from __future__ import annotations

import errno
import socket
import struct
from ipaddress import IPv4Address, IPv6Address

import attrs

from pycilium.errors import KernelError

_NETLINK_SOCK_DIAG = 4
_SOCK_DESTROY = 21
_REQUEST_ACK = 5  # NLM_F_REQUEST | NLM_F_ACK
_ALL_STATES = 0xFFFFFFFF
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBxI2s2s16s16sIQ")  # struct inet_diag_req_v2


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
    header = _HEADER.pack(_HEADER.size + len(body), _SOCK_DESTROY, _REQUEST_ACK, 1, 0)
    return header + body
