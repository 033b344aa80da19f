# SPDX-License-Identifier: Apache-2.0
"""Put the plugin where a runtime finds it, and take it away so that everything is as it was.

The configuration comes last: a runtime that reads it can use it. Directories keep their inode,
which runtimes watch. What stood in the way is kept beside it and comes back at the end; what
somebody has changed since is left alone and said.
"""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs

from pycilium.durable import replace, sync_directory
from pycilium.durable.files import errors
from pycilium.errors import SpecError

SHIM = Path(__file__).with_name("shim")
KEPT = ".before-pycilium"  # a suffix that no runtime reads


class Change(enum.Enum):
    """What happens to a file, or has."""

    WRITE = "write"
    REPLACE = "replace"
    REMOVE = "remove"
    RESTORE = "restore"
    NONE = "unchanged"
    LEAVE = "left: changed since it was installed"
    MISSING = "missing"


@attrs.frozen
class Step:
    """One file and what happens to it."""

    path: Path
    change: Change


@attrs.frozen
class File:
    """What is to stand at a path."""

    path: Path
    content: bytes = attrs.field(repr=False)
    mode: int

    @property
    def digest(self) -> str:
        """What it is recognised by later."""
        return hashlib.sha256(self.content).hexdigest()


def files(
    bin_dir: Path, conf_dir: Path, network: str, keys: dict[str, Any], *, chained: Iterable[str]
) -> tuple[File, File]:
    """The executable and the list of plugins, in the order in which they are written.

    keys: of pycilium's own entry; chained: plugins behind it, each with the capability that it is
    known for. Raises SpecError for a network's name that CNI does not allow.
    """
    from pycilium.cni.versions import SUPPORTED

    if not network or not all(one.isalnum() or one in "_.-" for one in network):
        raise SpecError("network", network, "letters, digits, _, . and -")
    own = {"type": "pycilium", "capabilities": {"ips": True, "mac": True, "labels": True}, **keys}
    behind = [{"type": one, **_CAPABILITIES.get(one, {})} for one in chained]
    content = {"cniVersion": SUPPORTED[-2], "name": network, "plugins": [own, *behind]}
    return (
        File(bin_dir / "pycilium", SHIM.read_bytes(), 0o755),
        File(
            conf_dir / f"05-{network}.conflist",
            json.dumps(content, indent=2).encode() + b"\n",
            0o644,
        ),
    )


_CAPABILITIES: dict[str, dict[str, Any]] = {
    "portmap": {"capabilities": {"portMappings": True}},
    "bandwidth": {"capabilities": {"bandwidth": True}},
}


class Installation:
    """The record of what was installed: `state`/installed.json."""

    def __init__(self, state: Path) -> None:
        self._record = state / "installed.json"
        self._known: dict[str, str] = self._read()

    def plan(self, wanted: Iterable[File]) -> list[Step]:
        """What install() would do."""
        return [Step(one.path, self._change(one)) for one in wanted]

    def install(self, wanted: Iterable[File]) -> list[Step]:
        """Write the files in this order; a second call writes nothing. Raises KernelError."""
        several = list(wanted)
        steps = self.plan(several)
        for one, step in zip(several, steps, strict=True):
            if step.change is not Change.NONE:
                self._put(one)
        return steps

    def plan_removal(self) -> list[Step]:
        """What uninstall() would do, the configuration first."""
        return [Step(Path(path), self._removal(Path(path))) for path in reversed(self._known)]

    def uninstall(self) -> list[Step]:
        """Take away what was installed and is as it was; what it replaced comes back."""
        steps = self.plan_removal()
        for step in steps:
            with errors("restore", step.path):
                self._take(step)
            del self._known[str(step.path)]
            self._write()
        return steps

    def status(self) -> list[Step]:
        """The files that were installed, and whether they are still so."""
        return [Step(Path(path), self._state(Path(path))) for path in self._known]

    def _change(self, one: File) -> Change:
        standing = _digest(one.path)
        if standing == one.digest:
            return Change.NONE
        return Change.WRITE if standing is None else Change.REPLACE

    def _put(self, one: File) -> None:
        """What stands there and is not ours is kept first; the record is ahead of the file."""
        kept = _kept(one.path)
        with errors("create", one.path.parent):
            one.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        ours = str(one.path) in self._known
        if not ours and one.path.exists():
            with errors("keep", one.path):
                replace(kept, one.path.read_bytes(), mode=one.path.stat().st_mode & 0o777)
        self._known[str(one.path)] = one.digest
        self._write()
        replace(one.path, one.content, mode=one.mode)

    def _removal(self, path: Path) -> Change:
        state = self._state(path)
        if state is Change.NONE:
            return Change.RESTORE if _kept(path).exists() else Change.REMOVE
        return state

    def _state(self, path: Path) -> Change:
        standing = _digest(path)
        if standing is None:
            return Change.MISSING
        return Change.NONE if standing == self._known[str(path)] else Change.LEAVE

    def _take(self, step: Step) -> None:
        if step.change is Change.RESTORE:
            _kept(step.path).rename(step.path)
        elif step.change is Change.REMOVE:
            step.path.unlink()
        if step.path.parent.exists():
            sync_directory(step.path.parent)

    def _read(self) -> dict[str, str]:
        try:
            found: dict[str, str] = json.loads(self._record.read_bytes())["files"]
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError) as error:
            raise SpecError("installed", str(self._record), f"a record ({error!r})") from None
        return found

    def _write(self) -> None:
        if not self._known:
            with suppress(FileNotFoundError):
                self._record.unlink()
            return
        with errors("create", self._record.parent):
            self._record.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        content = {"schema": 1, "files": self._known}
        replace(self._record, json.dumps(content, indent=2).encode() + b"\n")


def first_configuration(conf_dir: Path) -> Path | None:
    """The one that a runtime takes: the first by name."""
    endings = (".conf", ".conflist", ".json")
    found = sorted(one for one in conf_dir.glob("*") if one.suffix in endings)
    return found[0] if found else None


def _kept(path: Path) -> Path:
    return path.with_name(path.name + KEPT)


def _digest(path: Path) -> str | None:
    try:
        with errors("read", path):
            return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        if error.errno != 2:
            raise
        return None
