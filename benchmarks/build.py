# SPDX-License-Identifier: Apache-2.0
"""Compile the C tools and reference programs, once per content, into a cache directory."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from benchmarks.errors import BenchmarkError

HERE = Path(__file__).parent
CLANG_NAMES = ("clang", "clang-19", "clang-18", "clang-17", "clang-16", "clang-14")


def tool(name: str) -> Path:
    """The executable of `tools/NAME.c`."""
    flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-pthread"]
    return _built(HERE / "tools" / f"{name}.c", name, [_command("cc", "gcc"), *flags])


def program(name: str) -> Path:
    """The eBPF object of `programs/NAME.bpf.c`."""
    flags = ["-O2", "-g", "-mcpu=v3", "-Wall", "-Werror", "-target", "bpf", "-c"]
    include = f"-I/usr/include/{os.uname().machine}-linux-gnu"
    compiler = [_command(*CLANG_NAMES), *flags, include]
    return _built(HERE / "programs" / f"{name}.bpf.c", f"{name}.bpf.o", compiler)


def _built(source: Path, name: str, compiler: list[str]) -> Path:
    built = _cache() / f"{_digest(source, compiler)}-{name}"
    if not built.exists():
        _compile(source, built, compiler)
    return built


def _compile(source: Path, built: Path, compiler: list[str]) -> None:
    # Written aside and renamed, so that a killed compiler leaves no half file in the cache.
    with tempfile.TemporaryDirectory(dir=built.parent) as scratch:
        output = Path(scratch) / built.name
        command = [*compiler, str(source), "-o", str(output)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise BenchmarkError(f"{source.name} does not compile: {result.stderr.strip()}")
        output.rename(built)


def _digest(source: Path, compiler: list[str]) -> str:
    content = hashlib.sha256(" ".join(compiler).encode())
    for file in (source, *sorted(source.parent.glob("*.h"))):
        content.update(file.read_bytes())
    return content.hexdigest()[:16]


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    cache = Path(base) / "pycilium-benchmarks"
    cache.mkdir(parents=True, exist_ok=True)
    return cache


def _command(*names: str) -> str:
    for name in names:
        if found := shutil.which(name):
            return found
    raise BenchmarkError(f"none of {', '.join(names)} is installed: apt-get install {names[-1]}")
