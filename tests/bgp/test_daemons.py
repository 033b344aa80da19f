# SPDX-License-Identifier: Apache-2.0
"""Sessions with FRR, GoBGP and ExaBGP."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from bgp.daemons import FRR_PEER, GOBGP, ExaBgp, GoBgp, frr
from bgp.lab import OURS, OURS6, THEIRS, THEIRS6, Wire
from bgp.test_bird import eventually, learned
from pycilium.bgp import Family, Peer, PeerOptions, Role, Route, Speaker, State
from pycilium.bgp.running import RunningPeer

pytestmark = pytest.mark.root
LARGE = Route("10.96.0.10/32", communities=["64512:5", "64512:1:2", "rt:64512:9"], med=7)


def run(net: Wire, options: PeerOptions, body: Callable[[Speaker, RunningPeer], Awaitable[None]],
        address: str = THEIRS) -> None:  # fmt: skip
    async def main() -> None:
        async with Speaker(
            asn=64512, router_id=OURS, listen=True, make_socket=net.here.socket
        ) as speaker:
            peer = Peer(address, asn=64513, options=options)
            await body(speaker, await speaker.peer(peer, timeout=20))

    asyncio.run(main())


def test_frr_with_md5_ttl_security_roles_add_path_and_refresh(net):
    async def body(speaker: Speaker, peer: RunningPeer) -> None:
        agreed = peer.machine.session.negotiated
        assert Family.IPV4 in agreed.add_path_send
        assert agreed.role is Role.CUSTOMER
        assert agreed.refresh
        assert agreed.hold_time == 9
        speaker.announce([LARGE])
        await eventually(lambda: "10.96.0.10/32" in router.routes())
        path = router.path("10.96.0.10/32")
        assert path["community"]["string"] == "64512:5"
        assert path["largeCommunity"]["string"] == "64512:1:2"
        assert path["extendedCommunity"]["string"] == "RT:64512:9"
        assert path["metric"] == 7
        await eventually(lambda: learned(speaker, "192.0.2.0/24"))
        assert learned(speaker, "192.0.2.0/24")[0]["otc"] == 64513
        router.ask(f"clear bgp ipv4 unicast {OURS} in")
        counted = router.neighbour()["messageStats"]["routeRefreshSent"]
        assert counted >= 0
        speaker.announce([])
        await eventually(lambda: "10.96.0.10/32" not in router.routes())
        assert peer.state is State.ESTABLISHED

    with frr(net.there) as router:
        router.configure(FRR_PEER)
        options = PeerOptions(
            password="s3cret",
            ttl_security=1,
            role=Role.CUSTOMER,
            add_path_receive=True,
            add_path_send=2,
            connect_retry=0.5,
        )
        run(net, options, body)


def test_frr_over_ipv6_with_extended_next_hops(net):
    async def body(speaker: Speaker, peer: RunningPeer) -> None:
        assert peer.machine.session.negotiated.extended_next_hop
        speaker.announce(["10.96.0.10/32", "fd96::10/128"])
        await eventually(lambda: "10.96.0.10/32" in router.routes())
        await eventually(lambda: "fd96::10/128" in router.routes("ipv6"))
        hops = {one["ip"] for one in router.path("10.96.0.10/32")["nexthops"]}
        assert OURS6 in hops
        await eventually(lambda: learned(speaker, "192.0.2.0/24"))
        assert ":" in learned(speaker, "192.0.2.0/24")[0]["next_hop"]

    with frr(net.there) as router:
        router.configure(FRR_PEER)
        run(net, PeerOptions(connect_retry=0.5), body, THEIRS6)


def test_gobgp_with_md5_add_path_and_graceful_restart(net, tmp_path):
    async def body(speaker: Speaker, peer: RunningPeer) -> None:
        agreed = peer.machine.session.negotiated
        assert Family.IPV4 in agreed.add_path_send
        assert agreed.restart is not None
        speaker.announce([LARGE], owner="a")
        speaker.announce([Route("10.96.0.10/32", med=8)], owner="b")
        await eventually(lambda: len(router.routes().get("10.96.0.10/32", ())) == 2)
        shown = router.ask("global", "rib")
        for text in ("64512:5", "64512:1:2", "Med: 7", "Med: 8"):
            assert text in shown
        router.ask("global", "rib", "add", "192.0.2.0/24", "community", "64513:1")
        await eventually(lambda: learned(speaker, "192.0.2.0/24"))
        assert learned(speaker, "192.0.2.0/24")[0]["communities"] == ["64513:1"]
        router.ask("neighbor", OURS, "softresetin")
        await asyncio.sleep(0.3)
        assert peer.state is State.ESTABLISHED
        assert len(router.routes()["10.96.0.10/32"]) == 2

    with GoBgp(net.there, tmp_path, GOBGP) as router:
        options = PeerOptions(
            password="s3cret", add_path_send=4, add_path_receive=True, connect_retry=0.5
        )
        run(net, options, body)


def test_exabgp_with_md5_add_path_and_extended_messages(net, tmp_path):
    async def body(speaker: Speaker, peer: RunningPeer) -> None:
        agreed = peer.machine.session.negotiated
        assert agreed.max_message == 65535
        assert Family.IPV4 in agreed.add_path_receive
        await eventually(lambda: learned(speaker, "192.0.2.0/24"))
        (one,) = learned(speaker, "192.0.2.0/24")
        assert one["communities"] == ["64513:5", "1:2:3"]
        assert (one["med"], one["as_path"]) == (9, "64513 4200000000")
        speaker.announce([LARGE])
        await eventually(lambda: "10.96.0.10/32" in router.said())
        speaker.announce([])
        await eventually(lambda: '"withdraw"' in router.said())

    with ExaBgp(net.there, tmp_path) as router:
        options = PeerOptions(
            password="s3cret", add_path_send=2, add_path_receive=True, connect_retry=0.5
        )
        run(net, options, body)
