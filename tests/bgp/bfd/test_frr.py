# SPDX-License-Identifier: Apache-2.0
"""Sessions with FRR's bfdd, as Debian has it."""

from __future__ import annotations

import pytest

from pycilium.bgp.bfd import Diagnostic, Monitor, State

from .daemons import FAR, V4, V6, Frr, Scene, frr, until

pytestmark = pytest.mark.root

TIMERS = ("detect-multiplier 3", "receive-interval 100", "transmit-interval 100")


def settled(router: Frr, session: object, ours: str) -> None:
    assert session.wait(timeout=15)  # type: ignore[attr-defined]
    until(lambda: router.state(ours) == "up")


def test_both_families(monitor: Monitor, link: Scene) -> None:
    lines = (
        f"peer {V4[0]} local-address {V4[1]} interface eth0", *TIMERS, "exit",
        f"peer {V6[0]} local-address {V6[1]} interface eth0", *TIMERS, "exit",
    )  # fmt: skip
    with frr(link.router, *lines) as router:
        for ours, theirs in (V4, V6):
            session = monitor.add(theirs, local=ours, interval=0.15, multiplier=4)
            settled(router, session, ours)
            until(lambda s=session: s.status().interval == 0.15)  # type: ignore[misc]
            assert session.status().detection_time == pytest.approx(0.45)
            assert session.statistics.failures == 0


def test_multihop(link: Scene) -> None:
    lines = (f"peer {V4[0]} multihop local-address {FAR}", *TIMERS)
    with frr(link.router, *lines) as router, link.ours.run(Monitor.open) as monitor:
        session = monitor.add(FAR, local=V4[0], interval=0.1, multihop=True)
        settled(router, session, V4[0])


def test_shutdown_is_no_failure_and_a_kill_is(link: Scene) -> None:
    peer = f"peer {V4[0]} local-address {V4[1]} interface eth0"
    with link.ours.run(Monitor.open) as monitor:
        with frr(link.router, peer, *TIMERS) as router:
            session = monitor.add(V4[1], interval=0.1)
            settled(router, session, V4[0])
            monitor.dispatch()
            router.command("configure terminal", "bfd", peer, "shutdown")
            assert session.wait(State.DOWN, timeout=10)
            assert not any(change.is_failure for change in monitor.dispatch())
            router.command("configure terminal", "bfd", peer, "no shutdown")
            settled(router, session, V4[0])
            monitor.dispatch()
        down = next(monitor.changes(timeout=10))
        assert down.is_failure
        assert down.diagnostic is Diagnostic.CONTROL_DETECTION_TIME_EXPIRED
