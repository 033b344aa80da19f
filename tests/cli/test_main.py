# SPDX-License-Identifier: Apache-2.0
"""The root command: everything is there, and nothing is imported that is not called."""

from __future__ import annotations

import subprocess
import sys

import pytest


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pycilium", *arguments], capture_output=True, text=True, check=False
    )


def test_help_names_every_command() -> None:
    shown = run("--help").stdout
    for name in ("bgp", "doctor", "explain", "lb", "policy"):
        assert f"\n  {name} " in shown


@pytest.mark.parametrize("name", ["bgp", "lb", "policy"])
def test_every_command_is_there(name: str) -> None:
    done = run(name, "--help")
    assert done.returncode == 0
    assert "Commands:" in done.stdout


def test_an_unknown_command_is_refused() -> None:
    done = run("polcy")
    assert done.returncode == 2
    assert "No such command 'polcy'" in done.stderr


def test_help_imports_no_command() -> None:
    code = (
        "import sys; from pycilium.cli.main import cli; cli(['--help'], standalone_mode=False);"
        "print([m for m in ('asyncio', 'pycilium.bgp', 'pycilium.policy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
