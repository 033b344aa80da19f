# SPDX-License-Identifier: Apache-2.0
"""The directory of a pinned datapath: <bpffs>/pycilium/<name>/{maps,programs,links}.

The manifest's map is pinned last: a directory without it is what a killed open() left.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pycilium.errors import ConflictError, NotSupportedError, SpecError
from pycilium.libbpf import Map, Object, ObjectSpec, Program, features

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MANIFEST = "pcl_manifest"


def directory(name: str, bpffs: str | os.PathLike[str]) -> Path:
    """Where a name is pinned; SpecError for a bad name, NotSupportedError without a bpffs."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise SpecError("pin", name, "1 to 64 letters, digits, - and _")
    if not features.have_bpffs(str(bpffs)):
        error = NotSupportedError(str(bpffs))
        error.meaning = "no BPF file system is mounted there"
        error.hint = f"mount -t bpf bpf {bpffs}"
        raise error
    return Path(bpffs) / "pycilium" / name


def is_pinned(name: str, bpffs: str | os.PathLike[str] = "/sys/fs/bpf") -> bool:
    """Whether Datapath.adopt(name) would find one. Raises like directory()."""
    return (directory(name, bpffs) / "maps" / _MANIFEST).exists()


def create(where: Path) -> None:
    """Make the directories; ConflictError where a datapath lives there already."""
    if (where / "maps" / _MANIFEST).exists():
        raise ConflictError(
            f"datapath {where.name} is pinned at {where}: "
            f"Datapath.adopt({where.name!r}) takes it over"
        )
    remove(where)
    for part in ("maps", "programs", "links"):
        (where / part).mkdir(mode=0o700, parents=True)
    where.parent.chmod(0o700)
    where.chmod(0o700)


def pin(loaded: Object, where: Path) -> None:
    """Pin every map and program, the manifest last."""
    names = [name for name in loaded.maps if not _internal(name) and name != _MANIFEST]
    for name, program in loaded.programs.items():
        program.pin(where / "programs" / name)
    for name in (*names, _MANIFEST):
        loaded.maps[name].pin(where / "maps" / name)


def replace_programs(loaded: Object, where: Path) -> None:
    """Pin other programs in place of the old, each in one step."""
    for name, program in loaded.programs.items():
        fresh = where / "programs" / f"{name}_new"
        fresh.unlink(missing_ok=True)
        program.pin(fresh)
        fresh.rename(where / "programs" / name)


def open_object(spec: ObjectSpec, where: Path, maps: Iterable[str] | None = None) -> Object:
    """What is pinned there, all maps or those named; SpecError where there is nothing."""
    if not (where / "maps" / _MANIFEST).exists():
        pinned = sorted(one.name for one in where.parent.glob("*")) if where.parent.exists() else []
        allowed = f"one of {', '.join(pinned)}" if pinned else "a pinned datapath; there is none"
        raise SpecError("name", where.name, allowed)
    names = [name for name, one in spec.maps.items() if not one.internal] if maps is None else maps
    opened: dict[str, Map] = {}
    programs: dict[str, Program] = {}
    try:
        for name in names:
            opened[name] = Map.from_pin(where / "maps" / name, like=spec.maps[name])
            _require_same_layout(spec, opened[name])
        for name in spec.programs:
            if not (where / "programs" / name).exists():
                continue  # one that its configuration has no use for
            programs[name] = Program.from_pin(where / "programs" / name)
    except BaseException:
        for one in (*opened.values(), *programs.values()):
            one.close()
        raise
    return Object(spec.name, opened, programs)


def remove(where: Path) -> None:
    """Take away every pin of a datapath; the manifest first, so that nobody adopts a torso."""
    (where / "maps" / _MANIFEST).unlink(missing_ok=True)
    if where.exists():
        shutil.rmtree(where)


def _require_same_layout(spec: ObjectSpec, pinned: Map) -> None:
    wanted = spec.maps[pinned.name]
    if (pinned.key_size, pinned.value_size) != (wanted.key_size, wanted.value_size):
        raise ConflictError(
            f"pinned map {pinned.name} has keys of {pinned.key_size} and values of "
            f"{pinned.value_size} bytes, this pycilium needs {wanted.key_size} and "
            f"{wanted.value_size}: another version pinned it"
        )


def _internal(name: str) -> bool:
    return "." in name
