# SPDX-License-Identifier: Apache-2.0
"""A running speaker's control socket: one JSON request a line, answers a line each.

The socket is made inside a directory that only its owner may enter, so nobody else can connect at
any moment.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pycilium.bgp.mrt import write_mrt
from pycilium.bgp.prefix import prefix_text
from pycilium.bgp.route import Route
from pycilium.bgp.speaker import Speaker
from pycilium.errors import ConflictError, PyciliumError, SpecError

DEFAULT = Path("/run/pycilium/bgp.sock")
_MAX_REQUEST = 64 << 20
_OWNER = "command line"

Request = dict[str, Any]


class Control:
    """Serves one speaker."""

    def __init__(self, speaker: Speaker, path: Path = DEFAULT) -> None:
        self._speaker = speaker
        self._path = path
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen; ConflictError where another speaker does."""
        _claim(self._path)
        self._server = await asyncio.start_unix_server(
            self._serve, str(self._path), limit=_MAX_REQUEST
        )

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            self._server = None
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = json.loads(await reader.readline())
            for answer in self._answer(request):
                writer.write(json.dumps(answer, ensure_ascii=False).encode() + b"\n")
                await writer.drain()
        except (ValueError, OSError) as error:
            writer.write(json.dumps({"error": str(error)}).encode() + b"\n")
        finally:
            writer.close()

    def _answer(self, request: Request) -> Iterator[Request]:
        name = request.get("command") if isinstance(request, dict) else None
        if name not in _COMMANDS:
            yield {"error": f"command: {name!r} is not one of {', '.join(_COMMANDS)}"}
            return
        try:
            yield from _COMMANDS[name](self._speaker, request)
        except PyciliumError as error:
            yield {"error": str(error)}


def _claim(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.parent.stat()
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise SpecError("socket", str(path), "a path in a directory of mode 0700 of your own")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink(missing_ok=True)
        else:
            raise ConflictError(f"another speaker serves {path}")


def _peers(speaker: Speaker, _: Request) -> Iterator[Request]:
    for address, one in speaker.peers.items():
        neighbour, counts = speaker.router.neighbours[address], speaker.router.counts[address]
        yield {
            "peer": address,
            "asn": one.peer.asn,
            "state": str(one.state),
            "reason": one.reason,
            "flaps": one.machine.flaps,
            "received": sum(len(adj.routes) for adj in neighbour.adj_in.values()),
            "sent": sum(len(adj.sent) for adj in neighbour.adj_out.values()),
            "problems": dict(counts.problems),
        }


def _routes(speaker: Speaker, _: Request) -> Iterator[Request]:
    for family, table in speaker.router.tables.items():
        for prefix in list(table):
            for path in table.paths(prefix):
                best = path is table.best(prefix)
                head = {"prefix": prefix_text(family, prefix), "best": best}
                yield {**head, "from": path.source.name, **path.attributes.to_dict()}


def _why(speaker: Speaker, request: Request) -> Iterator[Request]:
    yield {"text": str(speaker.why(str(request.get("prefix", ""))))}


def _announce(speaker: Speaker, request: Request) -> Iterator[Request]:
    communities = request.get("communities") or ()
    routes = [
        Route(str(one), communities=[str(c) for c in communities], med=request.get("med"))
        for one in request.get("prefixes") or ()
    ]
    delta = speaker.announce(routes, owner=_OWNER)
    yield {"added": delta.added, "changed": delta.changed, "removed": delta.removed}


def _dump(speaker: Speaker, _: Request) -> Iterator[Request]:
    out = io.BytesIO()
    write_mrt(speaker.router, speaker.local.router_id, out)
    data = out.getvalue()
    for at in range(0, len(data), 1 << 16):
        yield {"mrt": base64.b64encode(data[at : at + (1 << 16)]).decode()}


_COMMANDS: dict[str, Callable[[Speaker, Request], Iterator[Request]]] = {
    "peers": _peers,
    "routes": _routes,
    "why": _why,
    "announce": _announce,
    "dump": _dump,
}


def ask(request: Request, path: Path = DEFAULT) -> Iterator[Request]:
    """Ask a running speaker; raises SpecError for its refusals, and where none listens."""
    with socket.socket(socket.AF_UNIX) as one:
        try:
            one.connect(str(path))
        except OSError as error:
            allowed = f"the socket of a running `pycilium bgp run` ({error.strerror})"
            raise SpecError("socket", str(path), allowed) from None
        one.sendall(json.dumps(request).encode() + b"\n")
        with one.makefile("rb") as lines:
            for line in lines:
                answer = json.loads(line)
                if "error" in answer:
                    raise SpecError("request", request.get("command"), answer["error"])
                yield answer
