# SPDX-License-Identifier: Apache-2.0
"""A pinned datapath whose process was killed: adopted whole, nothing rewritten, nothing open."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from pycilium import ConflictError, Datapath, Policy, ServiceLB, SpecError
from pycilium.net import NetNS, links

from .conftest import State, state
from .traffic import listening, reaches

pytestmark = pytest.mark.root

_CHILD = """
import os, signal, sys
from pycilium import Datapath, Policy, ServiceLB
dp = Datapath.open(pin="t", bpffs=sys.argv[1])
dp.endpoints.create("10.1.0.10", labels={"app": "web"}, name="web")
dp.endpoints.create("10.1.0.20", labels={"app": "db"}, name="db")
allow = Policy.allow(from_="app=web", to="app=db", ports="5432/tcp")
a = Policy.allow(from_="app=db", to="192.0.2.0/24")
b = Policy.deny(from_="app=db", to="198.51.100.0/24")
dp.policies.apply([allow, b])
dp.policies.apply([allow, b, a, Policy.allow(from_="app=web", to="app=db")])
old = ServiceLB("10.96.0.9:80/tcp", backends=["10.1.0.99:80"])
new = ServiceLB("10.96.0.10:5432/tcp", backends=["10.1.0.20:5432"], name="pg")
dp.services.apply([old])
dp.services.apply([old, new])
dp.services.apply([new])
os.kill(os.getpid(), signal.SIGKILL)
"""


def leave_behind(node: NetNS, bpffs: Path) -> None:
    """A process that sets everything up and is killed."""
    child = node.popen(
        [sys.executable, "-c", _CHILD, str(bpffs)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert child.wait(30) == -signal.SIGKILL


def adopt(node: NetNS, bpffs: Path) -> Datapath:
    return node.run(lambda: Datapath.adopt("t", bpffs=str(bpffs)))


def test_adopted_datapath_is_the_one_that_was(node: NetNS, bpffs: Path) -> None:
    leave_behind(node, bpffs)
    with adopt(node, bpffs) as first:
        before = state(first)
        web, db = first.endpoints
        assert [str(one.identity) for one in (web, db)] == ["256 (app=web)", "257 (app=db)"]
        assert next(iter(first.policies)).name == "allow app=web to app=db"
        assert [one.name for one in first.services] == ["pg"]
        with listening(db, 5432):
            assert reaches(web, "10.1.0.20", 5432)
            assert reaches(web, "10.96.0.10", 5432)
        assert not first.policies.apply(list(first.policies))
        assert not first.services.apply(list(first.services))
        assert state(first) == before
    with adopt(node, bpffs) as again:
        assert state(again) == before
        again.destroy()
    assert list((bpffs / "pycilium").iterdir()) == []
    assert [one.name for one in links.list_all(ns=node)] == ["lo"]


def kernel_state(bpffs: Path) -> State:
    """What is pinned, read without adopting it."""
    from types import SimpleNamespace

    from pycilium.libbpf import Map, ObjectSpec

    spec = ObjectSpec.bundled("endpoint")
    maps = {
        path.name: Map.from_pin(path, like=spec.maps[path.name])
        for path in (bpffs / "pycilium" / "t" / "maps").iterdir()
    }
    found = state(SimpleNamespace(object=SimpleNamespace(maps=maps)))  # type: ignore[arg-type]
    for one in maps.values():
        one.close()
    return found


def test_adopting_writes_nothing_that_stands_already(node: NetNS, bpffs: Path) -> None:
    leave_behind(node, bpffs)
    before = kernel_state(bpffs)
    with adopt(node, bpffs) as dp:
        assert state(dp) == before
        dp.destroy()


def test_name_is_taken_and_absent_names_are_refused(node: NetNS, bpffs: Path) -> None:
    with node.run(lambda: Datapath.open(pin="t", bpffs=str(bpffs))) as dp:
        with pytest.raises(ConflictError, match=r"Datapath\.adopt\('t'\)"):
            node.run(lambda: Datapath.open(pin="t", bpffs=str(bpffs)))
        with pytest.raises(SpecError, match="other"):
            node.run(lambda: Datapath.adopt("other", bpffs=str(bpffs)))
        dp.destroy()
    with pytest.raises(SpecError, match="pin"):
        Datapath.open(pin="a/b", bpffs=str(bpffs))
    for path in ("/tmp", "/nonexistent"):
        with pytest.raises(OSError, match="mount -t bpf"):
            Datapath.open(pin="t", bpffs=path)


def test_remains_of_a_killed_open_do_not_stand_in_the_way(node: NetNS, bpffs: Path) -> None:
    (bpffs / "pycilium" / "t" / "maps").mkdir(parents=True)
    with node.run(lambda: Datapath.open(pin="t", bpffs=str(bpffs))) as dp:
        dp.destroy()


def test_endpoint_whose_device_went_is_cleared_away(node: NetNS, bpffs: Path) -> None:
    leave_behind(node, bpffs)
    links.delete(links.get("pcl1", ns=node).index, ns=node)
    with adopt(node, bpffs) as dp:
        assert [one.name for one in dp.endpoints] == ["db"]
        assert len(dp.object.maps["pcl_addresses"]) == 1
        again = dp.endpoints.create("10.1.0.10", labels={"app": "web"}, name="web")
        with listening(dp.endpoints["db"], 5432):
            assert reaches(again, "10.1.0.20", 5432)
        dp.destroy()


def test_what_nobody_named_is_gone_after_adopting(node: NetNS, bpffs: Path) -> None:
    """A prefix that a killed apply() left in the ipcache would go on being an identity."""
    first = node.run(lambda: Datapath.open(pin="t", bpffs=str(bpffs)))
    first.endpoints.create("10.1.0.10", labels={"app": "web"}, name="web")
    first.policies.apply(Policy.allow(from_="app=web", to="192.0.2.0/24"))
    stray = {"prefixlen": 32 + 24, "family": 4, "addr": bytes([198, 51, 100])}
    first.object.maps["pcl_ipcache"][stray] = {"identity": 1}
    kept = len(first.object.maps["pcl_ipcache"]) - 1
    first.close()
    again = adopt(node, bpffs)
    assert len(again.object.maps["pcl_ipcache"]) == kept
    assert "world" in str(again.explain("web", "198.51.100.1:80/tcp"))
    again.destroy()


def test_pinned_datapath_is_changed_after_reload(node: NetNS, bpffs: Path) -> None:
    with node.run(lambda: Datapath.open(pin="t", bpffs=str(bpffs))) as dp:
        dp.reload()
        dp.services.apply(ServiceLB("10.96.0.10:80/tcp", backends=["10.1.0.20:80"]))
    with adopt(node, bpffs) as again:
        assert [str(one.frontend) for one in again.services] == ["10.96.0.10:80/tcp"]
        again.destroy()
