# SPDX-License-Identifier: Apache-2.0
"""Requests that wait on disk until somebody has the node: DEL and GC never fail for that.

They are done before any request that comes later, so a container that is added again under the
same name is not taken down by the DEL of its past.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pycilium.cni.errors import CniError
from pycilium.cni.request import Request
from pycilium.durable import replace, sync_directory
from pycilium.durable.files import errors

if TYPE_CHECKING:
    from collections.abc import Iterator

_SUFFIX = ".request"
_log = logging.getLogger(__name__)


class Queue:
    """A directory with a file for each request, in the order of their names."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)

    def put(self, environment: Mapping[str, str], text: bytes) -> None:
        """Keep a request; KernelError where the disk does not take it."""
        variables = {key: value for key, value in environment.items() if key.startswith("CNI_")}
        content = {"environment": variables, "config": text.decode("utf-8", "replace")}
        name = f"{time.time_ns():020d}-{os.getpid()}{_SUFFIX}"
        with errors("create", self.directory):
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace(self.directory / name, json.dumps(content).encode())

    def drain(self, perform: Callable[[Request], None]) -> None:
        """Do all of them, the oldest first; one that fails stays, those behind it too."""
        for path in self._waiting():
            request = _read(path)
            if request is not None:
                perform(request)
            with errors("remove", path):
                path.unlink(missing_ok=True)
                sync_directory(self.directory)

    def __len__(self) -> int:
        return len(list(self._waiting()))

    def _waiting(self) -> Iterator[Path]:
        names: list[str] = []
        with suppress(FileNotFoundError), os.scandir(self.directory) as entries:
            names = sorted(one.name for one in entries if one.name.endswith(_SUFFIX))
        return (self.directory / name for name in names)


def _read(path: Path) -> Request | None:
    """None for what cannot be read: it was written whole, so somebody else damaged it."""
    try:
        content = json.loads(path.read_bytes())
        return Request.parse(content["environment"], content["config"].encode())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, CniError) as error:
        _log.warning("%s is no request and is removed: %r", path, error)
        return None
