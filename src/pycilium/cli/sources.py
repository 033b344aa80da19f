# SPDX-License-Identifier: Apache-2.0
"""Where the command line finds policies: files, folders, standard input, git revisions."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from pycilium.errors import SpecError
from pycilium.policy import PolicySet
from pycilium.policy.cases import Suite
from pycilium.reader import MAX_BYTES
from pycilium.sources import SUFFIXES, Text


def load(sources: Iterable[str], suite: Suite | None, *, cilium_cidr: bool = False) -> PolicySet:
    """Policies of several sources as one set."""
    return PolicySet.from_manifests(
        texts(sources),
        namespaces=suite.namespaces if suite else None,
        cidr_matches_pods=not cilium_cidr,
    )


def texts(sources: Iterable[str]) -> list[str | Text]:
    """What is to be read, in order."""
    return [text for source in sources for text in _texts(source)]


def _texts(source: str) -> list[str | Text]:
    """A path, "-", or REVISION:PATH where no such path exists."""
    if source == "-":
        return [Text(sys.stdin.read(MAX_BYTES + 1), "<stdin>")]
    revision, colon, path = source.partition(":")
    if colon and not Path(source).exists():
        return _of_revision(revision, path or ".")
    return [source]


def _of_revision(revision: str, path: str) -> list[str | Text]:
    if revision.startswith("-") or path.startswith("-"):
        raise SpecError(
            "revision", f"{revision}:{path}", "a revision and a path of this repository"
        )
    names = _git("ls-tree", "-r", "--name-only", "-z", revision, "--", path).split("\0")
    found = [name for name in names if name.endswith(SUFFIXES)]
    if not found:
        raise SpecError("revision", f"{revision}:{path}", "a revision that has YAML or JSON there")
    return [Text(_git("show", f"{revision}:./{name}"), f"{revision}:{name}") for name in found]


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, check=False, timeout=60
        )
    except FileNotFoundError:
        raise SpecError("revision", arguments[-1], "git to be installed") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["git failed"]
        raise SpecError("revision", " ".join(arguments), f"what git knows ({lines[0]})")
    return done.stdout
