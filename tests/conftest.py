# SPDX-License-Identifier: Apache-2.0
"""Namespaces, a BPF file system, and the proof that a test leaves nothing behind."""

from __future__ import annotations

import ctypes
import fcntl
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import settings

from support.leaks import Snapshot, wait_until_clean

# CI sees the same examples each time; elsewhere every run draws its own.
settings.register_profile("ci", derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without root, the tests of the kernel are skipped; CI must not lose them silently."""
    if os.geteuid() == 0:
        return
    if os.environ.get("CI"):
        raise pytest.UsageError("CI runs every test: it needs root with CAP_BPF and CAP_NET_ADMIN")
    skip = pytest.mark.skip(reason="needs root with CAP_BPF and CAP_NET_ADMIN")
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(skip)


LOCK = Path("/tmp/pycilium-tests.lock")
LOCKED = "PYCILIUM_TESTS_LOCKED"  # a test that runs pytest itself holds the lock for its child


@contextmanager
def alone() -> Iterator[None]:
    """One test of the kernel at a time on a machine: the snapshots are of all of it."""
    if os.environ.get(LOCKED):
        yield
        return
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.environ[LOCKED] = "1"
        try:
            yield
        finally:
            del os.environ[LOCKED]


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test marked root gives back what it took."""
    if not request.node.get_closest_marker("root"):
        yield
        return
    with alone():
        before = Snapshot.take()
        yield
        leaked = wait_until_clean(before)
        assert not leaked, f"the test leaked {leaked}"


@pytest.fixture
def netns(no_leaks: None) -> Iterator[object]:
    """A namespace of the test's own."""
    from pycilium.net import NetNS

    with NetNS.create() as ns:
        yield ns


@pytest.fixture
def node(no_leaks: None) -> Iterator[object]:
    """A namespace that plays the host."""
    from pycilium.net import NetNS

    with NetNS.create() as ns:
        yield ns


@pytest.fixture
def bpffs(tmp_path: Path, no_leaks: None) -> Iterator[Path]:
    """A BPF file system that is mounted for one test."""
    where = tmp_path / "bpffs"
    where.mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpf", str(where)], check=True)
    yield where
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.umount2(os.fsencode(where), 2) == 0, os.strerror(ctypes.get_errno())
