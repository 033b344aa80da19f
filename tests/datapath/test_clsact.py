# SPDX-License-Identifier: Apache-2.0
"""Kernels before 6.6 have no TCX: the same datapath on clsact filters, on this kernel's clsact."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pycilium import Datapath, Policy
from pycilium.libbpf import features
from pycilium.net import NetNS

from .traffic import listening, reaches

pytestmark = pytest.mark.root


@pytest.fixture(autouse=True)
def without_tcx(monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe's answer of an older kernel; everything behind it is real."""
    monkeypatch.setattr(features, "have_tcx", lambda: False)


def filters(node: NetNS, side: str) -> list[Any]:
    command = ["tc", "-j", "filter", "show", "dev", "pcl1", side]
    shown = node.run(lambda: subprocess.run(command, capture_output=True, check=False))
    found = json.loads(shown.stdout or b"[]")
    return [one for one in found if one.get("options", {}).get("handle")]


def test_policy_holds_on_filters(node: NetNS) -> None:
    with node.run(Datapath.open) as dp:
        assert dp.status().hooks == "clsact"
        web = dp.endpoints.create("10.1.0.10", labels={"app": "web"})
        db = dp.endpoints.create("10.1.0.20", labels={"app": "db"})
        dp.policies.apply(Policy.allow(to="app=db", from_="app=web", ports="80/tcp"))
        with listening(db, 80), listening(db, 81):
            assert reaches(web, "10.1.0.20", 80)
            assert not reaches(web, "10.1.0.20", 81)
            dp.reload()
            assert reaches(web, "10.1.0.20", 80)
            assert not reaches(web, "10.1.0.20", 81)
        assert [len(filters(node, side)) for side in ("ingress", "egress")] == [1, 1]


def test_adopt_takes_over_the_same_filters(node: NetNS, bpffs: Path) -> None:
    first = node.run(lambda: Datapath.open(pin="old", bpffs=str(bpffs)))
    first.endpoints.create("10.1.0.10", labels={"app": "web"})
    first.close()
    assert len(filters(node, "ingress")) == 1
    for _ in range(2):
        again = node.run(lambda: Datapath.adopt("old", bpffs=str(bpffs)))
        assert [len(filters(node, side)) for side in ("ingress", "egress")] == [1, 1]
        again.close()
        assert [len(filters(node, side)) for side in ("ingress", "egress")] == [1, 1]
    node.run(lambda: Datapath.adopt("old", bpffs=str(bpffs))).destroy()
