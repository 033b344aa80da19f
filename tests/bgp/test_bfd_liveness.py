# SPDX-License-Identifier: Apache-2.0
"""BFD's word ends a BGP session, in both directions with BIRD."""

from __future__ import annotations

import asyncio
import time

import pytest

from bgp.lab import OURS, THEIRS, Bird, bird_peer, until
from bgp.test_bird import STATIC, eventually, learned
from pycilium.bgp import BfdLiveness, Peer, PeerOptions, Speaker, State
from pycilium.bgp.bfd import Monitor
from pycilium.net import links

pytestmark = pytest.mark.root
BFD = 'protocol bfd { interface "*" { interval 50 ms; multiplier 3; }; }\n'


def test_a_path_that_fails_is_noticed_by_both_long_before_the_hold_time(net, tmp_path):
    config = BFD + bird_peer("bfd on;") + STATIC % "route 192.0.2.0/24 blackhole;"

    async def main(monitor: object) -> None:
        liveness = BfdLiveness(monitor, interval=0.05)
        async with Speaker(
            asn=64512, router_id=OURS, liveness=liveness, listen=True, make_socket=net.here.socket
        ) as speaker:
            options = PeerOptions(connect_retry=0.3)
            peer = await speaker.peer(Peer(THEIRS, asn=64513, options=options))
            speaker.announce(["10.96.0.10/32"])
            await eventually(lambda: learned(speaker, "192.0.2.0/24") and bird.count() == 1)
            await eventually(lambda: "Up" in bird.ask("show", "bfd", "sessions"))
            await asyncio.sleep(0.3)
            assert peer.machine.flaps == 0
            links.set_down(net.far, ns=net.there)
            begin = time.monotonic()
            await eventually(lambda: not learned(speaker, "192.0.2.0/24"), 3)
            assert time.monotonic() - begin < 3  # the hold time is 90
            assert "BFD down" in peer.reason
            links.set_up(net.far, ns=net.there)
            await peer.established(20)
            assert peer.state is State.ESTABLISHED
            assert liveness.failures == {}

    with Bird(net.there, tmp_path, config) as bird, net.here.run(Monitor.open) as monitor:
        asyncio.run(main(monitor))
        until(lambda: bird.count() == 0)
