# SPDX-License-Identifier: Apache-2.0
"""The wheel runs where there is no compiler, no header and no libbpf: proved by masking them."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
from pycilium.libbpf import ObjectSpec
with ObjectSpec.bundled("endpoint").load() as loaded:
    run = loaded.programs["from_endpoint"].test_run(bytes(64), ctx={"ifindex": 1})
    print("verdict", run.retval)
"""
# In a mount namespace of its own: empty files over the libraries, empty directories over headers.
MASK = """
set -e
mount --make-rprivate /
empty=$(mktemp -d)
touch "$empty/file"
for library in /usr/lib/*-linux-gnu/libbpf.so* /usr/lib/*-linux-gnu/libelf*.so*; do
    mount --bind "$empty/file" "$library"
done
for tool in gcc cc clang clang-19; do
    path=$(command -v $tool) && mount --bind "$empty/file" "$(readlink -f "$path")"
done
mkdir "$empty/none"
mount --bind "$empty/none" /usr/include
cd /
exec "$@"
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel as built, and as repaired."""
    where = tmp_path_factory.mktemp("wheels")
    bin_path = Path(sys.executable).parent
    env = {**os.environ, "PATH": f"{bin_path}:{os.environ['PATH']}"}
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(where / "raw")]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True, env=env)
    (raw,) = (where / "raw").glob("*.whl")
    repair = [str(bin_path / "auditwheel"), "repair", "-w", str(where / "repaired"), str(raw)]
    subprocess.run(repair, check=True, capture_output=True, env=env)
    (repaired,) = (where / "repaired").glob("*.whl")
    return raw, repaired


def run_masked(wheel: Path, where: Path) -> subprocess.CompletedProcess[str]:
    """Install into a fresh environment, then run with everything else hidden."""
    venv.create(where, with_pip=True)
    python = where / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", str(wheel)], check=True, cwd=where)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "LD_"))}
    command = ["unshare", "-m", "sh", "-c", MASK, "sh", str(python), "-c", PROGRAM]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env)


@pytest.mark.root
def test_the_wheel_needs_nothing(wheels: tuple[Path, Path], tmp_path: Path) -> None:
    raw, repaired = wheels
    assert repaired.name.split("-", 2)[2].startswith("cp311-abi3-manylinux_2_")
    done = run_masked(repaired, tmp_path / "fresh")
    assert done.stdout.strip() == "verdict 2", done.stderr
    control = run_masked(raw, tmp_path / "control")
    assert control.returncode != 0
    assert "libbpf" in control.stderr
