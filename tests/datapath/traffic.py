# SPDX-License-Identifier: Apache-2.0
"""Real sockets inside endpoints."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def _listen(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    server = socket.socket(family)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((address, port))
    server.listen(64)
    return server


@contextmanager
def listening(endpoint: Any, port: int, family: int = 4) -> Iterator[socket.socket]:
    """A TCP server; the backlog answers, so connecting needs no accept."""
    server = endpoint.run(_listen, "::" if family == 6 else "0.0.0.0", port)
    try:
        yield server
    finally:
        server.close()


def open_connection(address: str, port: int, timeout: float = 0.3) -> socket.socket | None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    client = socket.socket(family)
    client.settimeout(timeout)
    try:
        client.connect((address, port))
    except OSError:
        client.close()
        return None
    return client


def reaches(client: Any, address: str, port: int) -> bool:
    """Whether a TCP connection from inside the client comes about; client: endpoint or NetNS."""
    connection = client.run(open_connection, address, port)
    if connection is None:
        return False
    connection.close()
    return True
