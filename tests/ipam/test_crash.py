# SPDX-License-Identifier: Apache-2.0
"""Every system call that writes fails in turn, and the process dies at each of them in turn."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from ipam.crash_script import STEPS
from pycilium.ipam import HostScope, Pool
from support import strace

SCRIPT = Path(__file__).with_name("crash_script.py")
POOL = Pool(ipv4="10.1.0.0/29", quarantine=0)


def owners(steps: Iterable[str]) -> set[str]:
    held: set[str] = set()
    for what in steps:
        held = held | {what[1:]} if what[0] == "+" else held - {what[1:]}
    return held


def reopened(store: Path) -> set[str]:
    """Who holds what, after the accounts were found to be exact and a change to be possible."""
    with HostScope.open(POOL, path=store) as scope:
        (usage,) = scope.usage()
        addresses = [one for held in scope for one in held.addresses]
        assert usage.allocated == len(set(addresses)) == len(scope)
        found = {one.owner for one in scope}
        scope.allocate("last")
        scope.release("last")
    return found


def points(tmp_path: Path) -> list[tuple[str, int]]:
    log = tmp_path / "calls"
    done = strace.run(SCRIPT, str(tmp_path / "whole"), log=log)
    assert done.stdout.split() == list(STEPS), done.stderr
    counted = strace.count(log)
    assert counted["rename"] >= 2  # the first file, and one that was written anew
    return [(call, at) for call, times in counted.items() for at in range(1, times + 1)]


@pytest.mark.parametrize("fault", ["signal=KILL", "error=ENOSPC", "error=EIO"])
def test_every_write_can_be_the_last(tmp_path: Path, fault: str) -> None:
    tried = points(tmp_path)
    assert len(tried) > 15
    for call, at in tried:
        store = tmp_path / f"{call}-{at}"
        log = store.with_suffix(".calls")
        done = strace.run(SCRIPT, str(store), inject=f"{call}:{fault}:when={at}", log=log)
        steps = done.stdout.split()
        found = reopened(store)
        if "KILL" in fault:
            assert steps == list(STEPS[: len(steps)])
            assert found in (owners(steps), owners(STEPS[: len(steps) + 1])), (call, at)
        else:
            assert done.returncode == 0, done.stderr
            assert found == owners(steps), (call, at, done.stderr)
