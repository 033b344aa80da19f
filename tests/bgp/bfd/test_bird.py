# SPDX-License-Identifier: Apache-2.0
"""Sessions with BIRD, as Debian has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pycilium.bgp.bfd import Authentication, Diagnostic, Discard, Driver, Monitor, State
from pycilium.net import links

from .daemons import FAR, V4, V6, Bird, Scene, bird, bird_configuration, kill, until

pytestmark = pytest.mark.root

V4_NEIGHBOUR = f'{V4[0]} dev "eth0" local {V4[1]}'
V6_NEIGHBOUR = f'{V6[0]} dev "eth0" local {V6[1]}'


def settled(router: Bird, session: object, ours: str) -> None:
    """Up on both sides, the poll sequences over."""
    assert session.wait(timeout=10)  # type: ignore[attr-defined]
    until(lambda: router.state(ours) == "Up")
    until(lambda: router.timers(ours)[0] < 1)


def test_both_families_and_the_negotiated_timers(
    monitor: Monitor, link: Scene, tmp_path: Path
) -> None:
    with bird(link.router, tmp_path, bird_configuration(V4_NEIGHBOUR, V6_NEIGHBOUR)) as router:
        for (ours, theirs), interval in ((V4, 0.05), (V6, 0.25)):
            session = monitor.add(theirs, local=ours, interval=interval, multiplier=4)
            settled(router, session, ours)
            slower = max(interval, 0.1)  # BIRD sends and takes each 100 ms, three times
            until(lambda s=session, i=slower: s.status().interval == i)  # type: ignore[misc]
            assert session.status().detection_time == pytest.approx(3 * slower)
            assert router.timers(ours) == (pytest.approx(slower), pytest.approx(4 * slower))
            assert session.remote.multiplier == 3


def test_timers_change_without_a_flap(monitor: Monitor, link: Scene, tmp_path: Path) -> None:
    with bird(link.router, tmp_path, bird_configuration(V4_NEIGHBOUR)) as router:
        session = monitor.add(V4[1], interval=0.1)
        settled(router, session, V4[0])
        session.change(interval=0.2, multiplier=5)
        until(lambda: router.timers(V4[0]) == (0.2, 1.0))
        until(lambda: session.status().interval == 0.2)
        router.configure(bird_configuration(V4_NEIGHBOUR, timers="interval 400 ms;"))
        until(lambda: session.status().detection_time == pytest.approx(1.2))
        assert session.statistics.failures == 0


def test_multihop(monitor: Monitor, link: Scene, tmp_path: Path) -> None:
    neighbour = f"{V4[0]} local {FAR} multihop yes"
    with bird(link.router, tmp_path, bird_configuration(neighbour)) as router:
        session = monitor.add(FAR, local=V4[0], interval=0.1, multihop=True)
        settled(router, session, V4[0])


@pytest.mark.parametrize(
    "kind",
    ["simple-password", "keyed-md5", "meticulous-keyed-md5", "keyed-sha1", "meticulous-keyed-sha1"],
)
def test_authentication(link: Scene, tmp_path: Path, kind: str) -> None:
    name = kind.replace("-", " ").replace("simple password", "simple")
    more = f'authentication {name}; password "correct horse" {{ id 7; }};'
    configuration = bird_configuration(V4_NEIGHBOUR, more=more)
    with bird(link.router, tmp_path, configuration) as router, link.ours.run(Monitor.open) as ours:
        proof = Authentication(kind, "correct horse", key_id=7)
        session = ours.add(V4[1], interval=0.1, authentication=proof)
        settled(router, session, V4[0])
        before = session.statistics.received
        until(lambda: session.statistics.received > before + 10)
        assert session.statistics.failures == 0
        session.remove()
        wrong = ours.add(V4[1], authentication=Authentication(kind, "wrong", key_id=7))
        until(lambda: wrong.statistics.discarded.get(Discard.AUTHENTICATION_FAILED, 0) > 1)
        wrong.remove()
        none = ours.add(V4[1])
        until(lambda: none.statistics.discarded.get(Discard.AUTHENTICATION_UNEXPECTED, 0) > 1)
        assert none.state is State.DOWN


def test_a_killed_peer_is_found_within_the_detection_time(
    monitor: Monitor, link: Scene, tmp_path: Path
) -> None:
    with bird(link.router, tmp_path, bird_configuration(V4_NEIGHBOUR)) as router:
        session = monitor.add(V4[1], interval=0.1)
        settled(router, session, V4[0])
        monitor.dispatch()
        negotiated = session.status().detection_time
        assert negotiated is not None
        kill(router.process)
        (down,) = monitor.changes(timeout=10 * negotiated)
        assert down.diagnostic is Diagnostic.CONTROL_DETECTION_TIME_EXPIRED
        assert down.is_failure
        assert session.state is State.DOWN
    with bird(link.router, tmp_path, bird_configuration(V4_NEIGHBOUR)) as router:
        assert session.wait(timeout=10)
        assert session.statistics.ups == 2


def test_our_admin_down_is_seen(monitor: Monitor, link: Scene, tmp_path: Path) -> None:
    with bird(link.router, tmp_path, bird_configuration(V4_NEIGHBOUR)) as router:
        session = monitor.add(V4[1], interval=0.1)
        settled(router, session, V4[0])
        monitor.dispatch()
        session.disable()
        until(lambda: router.state(V4[0]) == "Down")
        session.enable()
        settled(router, session, V4[0])
        assert not any(change.is_failure for change in monitor.dispatch())
        router.command("disable", "bfd1")  # BIRD then stops without a word: FRR's test has more
        assert session.wait(State.DOWN, timeout=10)
        assert monitor.dispatch()[-1].is_failure


def test_a_closed_monitor_is_no_failure_to_bird(link: Scene, tmp_path: Path) -> None:
    with bird(link.router, tmp_path, bird_configuration(V4_NEIGHBOUR)) as router:
        with link.ours.run(Monitor.open) as monitor:
            settled(router, monitor.add(V4[1], interval=0.1), V4[0])
            router.command("debug", "bfd1", "all")
        until(lambda: router.state(V4[0]) == "Down")


def test_an_interface_that_goes_down(monitor: Monitor, link: Scene, tmp_path: Path) -> None:
    with bird(link.router, tmp_path, bird_configuration(V4_NEIGHBOUR)) as router:
        session = monitor.add(V4[1], local=V4[0], interval=0.1)
        settled(router, session, V4[0])
        links.set_down(link.device, ns=link.ours)
        assert session.wait(State.DOWN, timeout=10)
        until(lambda: session.statistics.send_errors > 0)
        links.set_up(link.device, ns=link.ours)
        assert session.wait(timeout=15)


def test_a_passive_session_answers(link: Scene, tmp_path: Path) -> None:
    with link.ours.run(lambda: Monitor.open(driver=Driver.THREAD)) as monitor:
        session = monitor.add(V4[1], interval=0.1, passive=True)
        with bird(link.router, tmp_path, bird_configuration(V4_NEIGHBOUR)) as router:
            settled(router, session, V4[0])
