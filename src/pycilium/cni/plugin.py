# SPDX-License-Identifier: Apache-2.0
"""Plugin: a call in, an answer out, as the specification has them; whatever fails is an answer."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import attrs

from pycilium.cni.errors import CniError
from pycilium.cni.request import Command, Request, require_version
from pycilium.cni.versions import LATEST, SUPPORTED
from pycilium.errors import ConflictError, KernelError, PyciliumError

if TYPE_CHECKING:
    from pycilium.cni.network import Network
    from pycilium.cni.queue import Queue


@attrs.frozen
class Answer:
    """An exit code and what goes to standard output."""

    code: int
    text: str


class Plugin:
    """`network` opens the node's Network for a request and closes what it opened.

    queue: where the DEL and GC of a node that nobody can open wait, by request; None: they fail.
    """

    def __init__(
        self,
        network: Callable[[Request], AbstractContextManager[Network]],
        *,
        queue: Callable[[Request], Queue] | None = None,
    ) -> None:
        self._network = network
        self._queue = queue

    def call(self, environment: Mapping[str, str], text: bytes) -> Answer:
        """Answer one call; it raises nothing."""
        version = LATEST
        try:
            request = Request.parse(environment, text)
            version = request.version
            require_version(request)
            return _success(self._perform(request, environment, text))
        except Exception as error:  # noqa: BLE001 - every failure has an answer
            return _failure(version, CniError.of(error))

    def main(self) -> None:
        """Answer the call that this process was started for, and exit."""
        answer = self.call(os.environ, sys.stdin.buffer.read())
        sys.stdout.write(answer.text)
        sys.stdout.flush()
        sys.exit(answer.code)

    def _perform(
        self, request: Request, environment: Mapping[str, str], text: bytes
    ) -> dict[str, Any] | None:
        if request.command is Command.VERSION:
            return {"cniVersion": request.version, "supportedVersions": list(SUPPORTED)}
        try:
            with self._network(request) as network:
                return _carry_out(network, request)
        except PyciliumError as error:
            if not self._may_wait(request, error):
                raise
            self._queue(request).put(environment, text)  # type: ignore[misc]
            return None

    def _may_wait(self, request: Request, error: PyciliumError) -> bool:
        """Whether a later process can do it; what is wrong with the request stays wrong."""
        lasting = not isinstance(error, ConflictError | KernelError)
        return request.command.may_wait and self._queue is not None and not lasting


def _carry_out(network: Network, request: Request) -> dict[str, Any] | None:
    if request.command is Command.ADD:
        return network.add(request).to_dict(request.version)
    if request.command is Command.STATUS:
        network.status()
    else:
        methods = {
            Command.DEL: network.delete,
            Command.CHECK: network.check,
            Command.GC: network.collect,
        }
        methods[request.command](request)
    return None


def _success(content: dict[str, Any] | None) -> Answer:
    return Answer(0, "" if content is None else json.dumps(content) + "\n")


def _failure(version: str, error: CniError) -> Answer:
    content = {"cniVersion": version, "code": int(error.code), "msg": error.message}
    if error.details:
        content["details"] = error.details
    return Answer(1, json.dumps(content) + "\n")
