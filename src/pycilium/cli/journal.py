# SPDX-License-Identifier: Apache-2.0
"""What was in force before each change, so that it can be undone."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from pycilium.datapath import serial
from pycilium.errors import SpecError
from pycilium.model.service import ServiceLB

STEPS = 16


class Journal:
    """A file for each pinned datapath; the last state comes last."""

    def __init__(self, directory: str, pin: str) -> None:
        self._path = Path(directory) / f"{pin}.services.json"

    def push(self, services: Iterable[ServiceLB]) -> None:
        """Note what is in force, before it changes."""
        self._write([*self._read(), serial.dump(tuple(services))][-STEPS:])

    def last(self) -> tuple[ServiceLB, ...]:
        """What was in force before the last change. Raises SpecError where there is none."""
        states = self._read()
        if not states:
            raise SpecError("undo", str(self._path), "a journal with a change to undo")
        found: tuple[ServiceLB, ...] = serial.load(states[-1])
        return found

    def clear(self) -> None:
        """Forget every change: what comes now starts from another state."""
        self._path.unlink(missing_ok=True)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to undo."""
        return not self._read()

    def pop(self) -> None:
        """Forget the last change."""
        self._write(self._read()[:-1])

    def _read(self) -> list[object]:
        try:
            found: list[object] = json.loads(self._path.read_text())
        except FileNotFoundError:
            return []
        except ValueError as error:
            raise SpecError("journal", str(self._path), f"a journal ({error})") from None
        return found

    def _write(self, states: list[object]) -> None:
        """Whole or not at all."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps(states))
        os.replace(fresh, self._path)  # noqa: PTH105 - the same as Path.replace, and its name
