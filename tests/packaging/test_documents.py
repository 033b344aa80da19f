# SPDX-License-Identifier: Apache-2.0
"""Every Python block of README and docs runs, in a namespace that plays the host."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pycilium.net import NetNS

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ENV = {**os.environ, "PYTHONPATH": str(ROOT / "src")}


def blocks(language: str) -> list[tuple[str, str]]:
    found = []
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        for name, code in FENCE.findall(path.read_text()):
            if name == language:
                found.append((f"{path.relative_to(ROOT)}", code))
    return found


def run(node: NetNS, *arguments: str) -> str:
    """A child, because a document's reader starts with nothing imported."""
    done = node.run(
        lambda: subprocess.run(
            [sys.executable, "-W", "error", *arguments],
            capture_output=True, text=True, check=False, cwd=ROOT, env=ENV, timeout=60,
        )
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.root
@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block[0])
def test_python_blocks_run(node: NetNS, block: tuple[str, str]) -> None:
    run(node, "-c", block[1])


@pytest.mark.root
def test_the_readme_shows_what_is_printed(node: NetNS) -> None:
    (_, code), *_ = blocks("python")
    (_, shown), *_ = blocks("text")
    printed = run(node, "-c", code).splitlines()
    for line in shown.splitlines():
        assert line.strip() == "..." or line in printed


def test_console_blocks_name_targets_that_exist() -> None:
    targets = (ROOT / "Makefile").read_text()
    for _, code in blocks("console"):
        for name in re.findall(r"^\$ make (\S+)", code, re.MULTILINE):
            assert f"\n{name}:" in targets


def test_console_blocks_name_commands_and_options_that_exist() -> None:
    from pycilium.cli.policy import policy

    found = 0
    for language in ("console", "yaml"):
        for _, code in blocks(language):
            for name, rest in re.findall(r"pycilium policy (\w+)([^\n]*)", code):
                options = {one for p in policy.commands[name].params for one in p.opts}
                assert set(re.findall(r"\s(--?[a-z]+)\b", rest)) <= options
                found += 1
    assert found >= 7


@pytest.mark.root
def test_the_first_example(node: NetNS) -> None:
    printed = run(node, "examples/first_light.py")
    assert "web to the service: hello from db" in printed
    assert "first_light.py:" in printed
    lines = (ROOT / "examples" / "first_light.py").read_text().splitlines()
    assert len(lines) <= 60


@pytest.mark.root
def test_the_demo_holds(node: NetNS) -> None:
    printed = run(node, "-m", "pycilium.demo")
    assert "All held" in printed
    assert "✗" not in printed
    assert "\x1b" not in printed
