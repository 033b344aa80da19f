# SPDX-License-Identifier: Apache-2.0
"""Whatever is done to a datapath under traffic: nothing allowed is lost, nothing denied leaks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from network.numbered import ALLOWED, DENIED, Stream
from pycilium import Datapath, Policy, ServiceLB
from pycilium.net import NetNS

pytestmark = pytest.mark.root
OPEN = f"{ALLOWED}/udp"


def allow(note: int = 0) -> list[Policy]:
    """The allowed port stays allowed; everything else changes from one to the next."""
    return [
        Policy.allow(to="app=db", from_="app=web", ports=OPEN),
        Policy.allow(to="app=db", from_=f"10.{note % 250}.0.0/16", ports=f"{1000 + note}/tcp"),
        Policy.deny(to="app=db", from_="app=web", ports=f"{DENIED}/udp"),
    ]


@pytest.fixture
def datapath(node: NetNS) -> Iterator[Datapath]:
    with node.run(Datapath.open) as dp:
        dp.endpoints.create("10.1.0.10", labels={"app": "web"}, name="web")
        dp.endpoints.create("10.1.0.20", labels={"app": "db"}, name="db")
        dp.policies.apply(allow())
        yield dp


def check(stream: Stream, at_least: int) -> None:
    tally = stream.tally
    assert tally.sent >= at_least
    assert (tally.lost, tally.leaked) == (0, 0), tally


def test_policies_replaced_a_thousand_times(datapath: Datapath) -> None:
    with Stream(datapath.endpoints["web"], datapath.endpoints["db"]) as stream:
        for i in range(1000):
            datapath.policies.apply(allow(i % 2) if i % 10 else allow(i))
    check(stream, 1000)


def test_programs_updated_a_thousand_times(datapath: Datapath) -> None:
    """Two loads, changed about on the hooks; then real reloads."""
    web, db = datapath.endpoints["web"], datapath.endpoints["db"]
    with Stream(web, db) as stream:
        for _ in range(5):
            datapath.reload()
        for _ in range(1000):
            for endpoint in (web, db):
                endpoint.replace_programs(datapath.node, datapath.object)
    check(stream, 500)


def test_services_and_endpoints_come_and_go(datapath: Datapath) -> None:
    with Stream(datapath.endpoints["web"], datapath.endpoints["db"]) as stream:
        for i in range(20):
            extra = datapath.endpoints.create(f"10.1.1.{i}", labels={"app": f"x{i}"})
            datapath.services.apply([ServiceLB("10.96.0.1:80", backends=[f"10.1.1.{i}:80"])])
            extra.remove()
        datapath.services.apply([])
    check(stream, 500)


def test_revocation_and_return(datapath: Datapath) -> None:
    """The rig itself: it sees a loss where there is one, and a leak where there is one."""
    with Stream(datapath.endpoints["web"], datapath.endpoints["db"]) as stream:
        datapath.policies.apply([Policy.deny(to="app=db", from_="app=web", ports=OPEN)])
        while len(stream._got[DENIED]) == 0:
            pass
        datapath.policies.apply(allow())
    assert stream.tally.lost > 0
    assert stream.tally.leaked > 0


CHILD = """
import sys
from pycilium import Datapath
from network.test_continuity import allow
dp = Datapath.open(pin="continuity", bpffs=sys.argv[1])
dp.endpoints.create("10.1.0.10", labels={"app": "web"}, name="web")
dp.endpoints.create("10.1.0.20", labels={"app": "db"}, name="db")
dp.policies.apply(allow())
print("ready", flush=True)
i = 0
while True:
    dp.policies.apply(allow(i)); i += 1
"""


def test_killed_and_adopted(node: NetNS, bpffs: Path) -> None:
    """kill -9 in the middle of an apply; the kernel goes on, adopt() takes over."""
    here = Path(__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(here.parent / "src")])}
    command = [sys.executable, "-c", CHILD, str(bpffs)]
    child = node.popen(command, stdout=subprocess.PIPE, env=env)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n", "the child could not open its datapath"
        named = _ends(bpffs)
        with Stream(named["web"], named["db"]) as stream:
            child.send_signal(signal.SIGKILL)
            child.wait(10)
            adopted = node.run(lambda: Datapath.adopt("continuity", bpffs=bpffs))
            for i in range(50):
                adopted.policies.apply(allow(i))
            assert len(adopted.endpoints) == 2
            assert adopted.explain("web", f"10.1.0.20:{ALLOWED}/udp").allowed
            assert not adopted.explain("web", f"10.1.0.20:{DENIED}/udp").allowed
        check(stream, 200)
    finally:
        if child.poll() is None:
            child.kill()
            child.wait(10)
        if child.stdout is not None:
            child.stdout.close()
    adopted.destroy()
    for end in named.values():
        end.namespace.close()


class _End:
    """An endpoint of another process: its namespace by name, its address by convention."""

    def __init__(self, namespace: NetNS, ip: str) -> None:
        self.namespace = namespace
        self.ip = ip


def _ends(bpffs: Path) -> dict[str, Any]:
    found = sorted(p.name for p in Path("/run/netns").iterdir() if "continuity" in p.name)
    web, db = (NetNS.open(name) for name in found)
    return {"web": _End(web, "10.1.0.10"), "db": _End(db, "10.1.0.20")}
