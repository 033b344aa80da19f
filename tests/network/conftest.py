# SPDX-License-Identifier: Apache-2.0
"""What tests of the socket layer start from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from network.socket_lab import Lab, open_lab
from pycilium.net import NetNS
from support import cgroups


@pytest.fixture
def cgroup(no_leaks: None) -> Iterator[Path]:
    """A cgroup of the test's own, with this process in it."""
    with cgroups.inside("pcl-test") as made:
        yield made


@pytest.fixture
def lab(node: NetNS, cgroup: Path) -> Iterator[Lab]:
    """A node whose host has addresses, a client and two servers."""
    with open_lab(node, cgroup) as made:
        yield made
