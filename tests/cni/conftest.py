# SPDX-License-Identifier: Apache-2.0
"""A node with a state directory and policies, and containers on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cni.lab import POLICY, Container, Lab, container


@pytest.fixture
def lab(node: Any, bpffs: Path, tmp_path: Path) -> Lab:
    policies = tmp_path / "policies"
    policies.mkdir()
    (policies / "db.yaml").write_text(POLICY)
    return Lab(node, bpffs, tmp_path / "state", policies)


@pytest.fixture
def pods(no_leaks: None) -> Iterator[list[Container]]:
    """Three of them."""
    with ExitStack() as stack:
        yield [stack.enter_context(container(name)) for name in ("web", "db", "other")]
