# SPDX-License-Identifier: Apache-2.0
"""docs/errors holds exactly what the rules say, and the commands print it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pycilium import SpecError
from pycilium.doctor import CHECKS, RULES, RecordedMachine, State, examine, find_rule, page
from pycilium.doctor.pages import index

DOCS = Path(__file__).parents[2] / "docs" / "errors"
PAGES = {f"{rule.code}.md": page(rule) for rule in RULES} | {"index.md": index()}


def run(*arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pycilium", *arguments],
        capture_output=True, text=True, check=False, input=text,
    )  # fmt: skip


def test_the_pages_are_current() -> None:
    """PYCILIUM_UPDATE_PAGES=1 writes them anew."""
    if os.environ.get("PYCILIUM_UPDATE_PAGES"):
        for name, text in PAGES.items():
            (DOCS / name).write_text(text)
    assert {one.name: one.read_text() for one in DOCS.iterdir()} == PAGES


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_no_page_has_a_gap(rule: object) -> None:
    text = page(rule)  # type: ignore[arg-type]
    assert "{}" not in text.replace("= {}", "")
    assert "**What to do**" in text


def test_explain() -> None:
    assert run("explain", "PYC-A1").stdout == page(find_rule("PYC-A1"))
    assert run("explain", "a1").stdout == page(find_rule("PYC-A1"))
    assert run("explain").stdout.count("PYC-") == len(RULES)
    unknown = run("explain", "PYC-Z9")
    assert unknown.returncode == 2
    assert "PYC-A1" in unknown.stderr


def test_explain_what_a_tool_said() -> None:
    done = run("explain", "-", text="Error: Parent Qdisc doesn't exists.\n")
    assert "[PYC-A9 confirmed]" in done.stdout
    assert done.returncode == 0
    assert run("explain", "-", text="all is well\n").returncode == 1


def test_what_is_wrong_makes_the_exit_code() -> None:
    done = run("doctor", "--only", "kernel", "-o", "json")
    (row,) = json.loads(done.stdout)
    assert (row["check"], row["state"], done.returncode) == ("kernel", "ok", 0)
    assert run("doctor", "--only", "colour").returncode == 2
    with pytest.raises(SpecError):
        examine(["colour"])


def test_an_old_and_closed_machine() -> None:
    machine = RecordedMachine(
        release="5.4.0",
        files={
            "/proc/self/status": "CapEff:\t0000000000000000\n",
            "/proc/self/mounts": "sysfs /sys sysfs rw 0 0\n",
            "/proc/sys/net/core/bpf_jit_enable": "0\n",
            "/proc/config.gz": "# CONFIG_VETH is not set\nCONFIG_BPF_SYSCALL=y\n",
        },
    )
    found = {check.name: check for check in examine(machine=machine)}
    assert tuple(found) == CHECKS
    for name in ("kernel", "jit", "capabilities", "configuration"):
        assert found[name].wrong, found[name]
    assert not found["programs"].wrong
    assert {row.code for row in found["bpffs"].rows} == {"PYC-E9"}
    assert all(row.state is State.WARNING for row in found["bpffs"].rows)


@pytest.mark.root
def test_this_machine_is_examined(no_leaks: None) -> None:
    done = run("doctor")
    assert done.returncode in (0, 1)
    assert not done.stderr
    for name in CHECKS:
        assert f" {name} " in done.stdout
