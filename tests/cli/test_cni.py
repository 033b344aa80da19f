# SPDX-License-Identifier: Apache-2.0
"""`pycilium cni`: what a runtime would find, and that everything is as it was afterwards."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from pycilium.cni.install import KEPT, SHIM, Installation, files
from support import strace

ROOT = Path(__file__).parents[2]
POOL = ("--ipv4", "10.9.0.0/24")


@attrs.frozen
class Host:
    """Directories that stand for a host's."""

    root: Path

    @property
    def conf(self) -> Path:
        return self.root / "net.d"

    @property
    def conflist(self) -> Path:
        return self.conf / "05-pycilium.conflist"

    @property
    def executable(self) -> Path:
        return self.root / "bin" / "pycilium"

    def run(self, name: str, *arguments: str, code: int = 0) -> str:
        where = ["--conf-dir", str(self.conf), "--state", str(self.root / "state")]
        where += ["--bin-dir", str(self.root / "bin")] if name == "install" else []
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "pycilium", "cni", name, *where, *arguments],
            capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, timeout=60,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stderr if code == 2 else done.stdout


@pytest.fixture
def host(tmp_path: Path) -> Host:
    made = Host(tmp_path)
    made.conf.mkdir()
    (made.conf / "10-other.conflist").write_text("{}")
    return made


def content(root: Path) -> dict[str, bytes]:
    return {
        str(one.relative_to(root)): one.read_bytes() for one in root.rglob("*") if one.is_file()
    }


def test_install_status_uninstall(host: Host) -> None:
    before, inode = content(host.root), host.conf.stat().st_ino
    assert "nobody answers" in host.run("status", code=1)
    planned = host.run("install", *POOL, "--dry-run")
    assert content(host.root) == before
    assert host.run("install", *POOL, "--chain", "portmap") == planned
    assert planned.count("write") == 2
    assert host.executable.read_bytes() == SHIM.read_bytes()
    assert stat.S_IMODE(host.executable.stat().st_mode) == 0o755
    plugins = json.loads(host.conflist.read_bytes())["plugins"]
    assert [one["type"] for one in plugins] == ["pycilium", "portmap"]
    assert plugins[0]["python"] == sys.executable
    assert plugins[1]["capabilities"] == {"portMappings": True}
    assert "unchanged" in host.run("install", *POOL, "--chain", "portmap")
    assert "05-pycilium.conflist" in host.run("status")
    assert host.run("uninstall", "--dry-run").count("remove") == 2
    host.run("uninstall")
    assert content(host.root) == before
    assert host.conf.stat().st_ino == inode
    assert host.run("uninstall").splitlines() == ["file  change"]


def test_what_was_replaced_comes_back(host: Host) -> None:
    host.executable.parent.mkdir()
    host.executable.write_bytes(b"another plugin")
    host.executable.chmod(0o700)
    host.conflist.write_text('{"old": 1}')
    before = content(host.root)
    assert host.run("install", *POOL).count("  replace\n") == 2
    host.run("install", *POOL, "--policies", "/etc/policies")  # an upgrade keeps what is kept
    assert (host.conf / f"05-pycilium.conflist{KEPT}").read_text() == '{"old": 1}'
    assert host.run("uninstall").count("  restore\n") == 2
    assert content(host.root) == before
    assert stat.S_IMODE(host.executable.stat().st_mode) == 0o700


def test_what_somebody_changed_is_left(host: Host) -> None:
    host.run("install", *POOL)
    host.conflist.write_text("{}")
    assert "changed since" in host.run("status", code=1)
    host.executable.unlink()
    assert "missing" in host.run("uninstall")
    assert host.conflist.read_text() == "{}"


def test_a_runtime_that_takes_another_configuration_is_said(host: Host) -> None:
    host.run("install", *POOL)
    (host.conf / "00-first.conf").write_text("{}")
    assert "00-first.conf" in host.run("status", code=1)


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [((), "ipv4, ipv6 or both"), (("--ipv4", "10.0.0.1/8"), "a prefix such as"),
     ((*POOL, "--network", "a/b"), "letters, digits")],
)  # fmt: skip
def test_bad_input_changes_nothing(host: Host, arguments: tuple[str, ...], allowed: str) -> None:
    before = content(host.root)
    assert allowed in host.run("install", *arguments, code=2)
    assert content(host.root) == before


SCRIPT = """
import sys
from pathlib import Path
from pycilium.cni.install import Installation, files
root = Path(sys.argv[1])
wanted = files(root / "bin", root / "net.d", "pycilium", {"pools": []}, chained=())
Installation(root / "state").install(wanted)
"""


@pytest.mark.parametrize("fault", ["signal=KILL", "error=ENOSPC"])
def test_an_installation_that_is_cut_off_can_be_undone(tmp_path: Path, fault: str) -> None:
    """Wherever it dies: each file is the old or the new one, and uninstall restores the old."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    log = tmp_path / "calls"
    _prepare(tmp_path / "whole")
    strace.run(script, str(tmp_path / "whole"), log=log)
    counted = strace.count(log)
    assert counted["rename"] >= 5
    for call, times in counted.items():
        for at in range(1, times + 1):
            root = _prepare(tmp_path / f"{call}-{at}")
            inject = f"{call}:{fault}:when={at}"
            done = strace.run(script, str(root), inject=inject, log=log)
            assert done.returncode != 0
            conflist = (root / "net.d" / "05-pycilium.conflist").read_bytes()
            if conflist != b"old":
                assert (root / "bin" / "pycilium").read_bytes() == SHIM.read_bytes()
            Installation(root / "state").uninstall()
            assert (root / "net.d" / "05-pycilium.conflist").read_bytes() == b"old", inject
            assert (root / "bin" / "pycilium").read_bytes() == b"older", inject


def _prepare(root: Path) -> Path:
    for path, text in (("bin/pycilium", "older"), ("net.d/05-pycilium.conflist", "old")):
        (root / path).parent.mkdir(parents=True)
        (root / path).write_text(text)
    return root


def test_files_are_whole_json(tmp_path: Path) -> None:
    _, conflist = files(tmp_path, tmp_path, "net", {"pools": []}, chained=("bandwidth",))
    assert json.loads(conflist.content)["plugins"][1]["type"] == "bandwidth"
