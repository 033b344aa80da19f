# SPDX-License-Identifier: Apache-2.0
"""What importing costs, and which names are public."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"pyroute2", "kubernetes", "scapy", "grpc", "numpy", "asyncio", "rich", "yaml", "cffi"}
SNAPSHOT = Path(__file__).parents[1] / "api" / "pycilium.txt"
PACKAGES = (
    "", ".bgp", ".bgp.bfd", ".cni", ".datapath", ".datapath.xdp", ".doctor", ".durable", ".errors",
    ".ipam", ".lb", ".lb.maglev", ".libbpf", ".model", ".net", ".policy",
)  # fmt: skip
SRC = str(Path(__file__).parents[2] / "src")


def ask(code: str) -> str:
    env = {**os.environ, "PYTHONPATH": SRC}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env
    )
    return done.stdout.strip()


_CHEAP = [
    "import pycilium",
    "from pycilium import Datapath, Policy",
    "from pycilium.bgp import Family, Peer, Route, Router",
    "from pycilium.ipam import HostScope, Pool",
    "from pycilium.cni import Network, Plugin, Request",
]


@pytest.mark.parametrize("statement", _CHEAP)
def test_nothing_heavy_is_imported(statement: str) -> None:
    loaded = set(ask(f"{statement}; import sys; print(*sys.modules)").split())
    assert not {name.split(".")[0] for name in loaded} & HEAVY


def test_memory() -> None:
    code = "import pycilium; print(open('/proc/self/status').read().split('VmRSS:')[1].split()[0])"
    assert int(ask(code)) < 30 * 1024


def surface() -> str:
    """Every public name with its signature."""
    lines = []
    for package in PACKAGES:
        module = importlib.import_module(f"pycilium{package}")
        names = getattr(module, "__all__", None) or [n for n in vars(module) if n[0].isupper()]
        for name in sorted(names):
            lines += _describe(f"pycilium{package}.{name}", getattr(module, name))
    return "\n".join(dict.fromkeys(lines)) + "\n"


def _describe(path: str, value: object) -> list[str]:
    if inspect.ismodule(value) or isinstance(value, str):
        return [path]
    if not inspect.isclass(value):
        return [f"{path}{_signature(value)}"]
    members = sorted(n for n in vars(value) if not n.startswith("_"))
    lines = [path]
    for name in members:
        member = inspect.getattr_static(value, name)
        if isinstance(member, (classmethod, staticmethod)):
            member = member.__func__
        lines.append(f"{path}.{name}{_signature(member) if inspect.isfunction(member) else ''}")
    return lines


def _signature(value: object) -> str:
    """As written; where a default lies in memory differs from run to run."""
    try:
        return re.sub(r" at 0x[0-9a-f]+", "", str(inspect.signature(value)))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return ""


def test_the_public_surface_changes_on_purpose() -> None:
    """PYCILIUM_UPDATE_API=1 writes the snapshot anew."""
    now = surface()
    if os.environ.get("PYCILIUM_UPDATE_API"):
        SNAPSHOT.parent.mkdir(exist_ok=True)
        SNAPSHOT.write_text(now)
    assert SNAPSHOT.read_text() == now
