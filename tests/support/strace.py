# SPDX-License-Identifier: Apache-2.0
"""Real failures of real system calls: the n-th one fails, or the process dies there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

CALLS = ("pwrite64", "fdatasync", "fsync", "rename", "ftruncate", "link")
ROOT = Path(__file__).parents[2]


def run(
    script: Path, *arguments: str, inject: str = "", log: Path
) -> subprocess.CompletedProcess[str]:
    """A Python program under strace; `log` gets its calls."""
    traced = ",".join(CALLS)
    command = ["strace", "-f", "-qq", "-o", str(log), "-e", f"trace={traced}"]
    command += ["-e", f"inject={inject}"] if inject else []
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [*command, sys.executable, str(script), *arguments],
        capture_output=True, text=True, check=False, timeout=60, env=env,
    )  # fmt: skip


def count(log: Path) -> Counter[str]:
    """How often each call was made."""
    lines = log.read_text().splitlines()
    words = (line.split(None, 1)[-1].split("(")[0] for line in lines)
    return Counter(word for word in words if word in CALLS)
