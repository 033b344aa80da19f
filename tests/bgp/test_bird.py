# SPDX-License-Identifier: Apache-2.0
"""Sessions with BIRD 2, one for each option."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable

import attrs
import pytest

from bgp.lab import OURS, OURS6, THEIRS, THEIRS6, Bird, Wire, bird_peer
from pycilium.bgp import (
    DynamicPeers,
    Peer,
    PeerError,
    PeerOptions,
    Role,
    Route,
    Speaker,
    State,
)
from pycilium.bgp.prefix import parse_prefix
from pycilium.bgp.running import RunningPeer

pytestmark = pytest.mark.root
STATIC = """
protocol static s4 { ipv4; %s }
"""
FAST = PeerOptions(connect_retry=0.5)


async def eventually(question: Callable[[], object], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(question):
            await asyncio.sleep(0.02)


def run(
    net: Wire,
    body: Callable[[Speaker, RunningPeer], Awaitable[None]],
    options: PeerOptions = FAST,
    *,
    asn: int = 64513,
    address: str = THEIRS,
) -> None:
    async def main() -> None:
        async with Speaker(
            asn=64512, router_id=OURS, listen=True, make_socket=net.here.socket
        ) as speaker:
            peer = Peer(address, asn=asn, options=options)
            await body(speaker, await speaker.peer(peer, timeout=10))

    asyncio.run(main())


def learned(speaker: Speaker, prefix: str) -> list[dict[str, object]]:
    family, nlri = parse_prefix(prefix)
    return [one.attributes.to_dict() for one in speaker.router.tables[family].paths(nlri)]


def test_announces_changes_and_withdraws(net, tmp_path):
    async def body(speaker: Speaker, peer: RunningPeer) -> None:
        delta = speaker.announce(
            [
                "10.96.0.10/32",
                Route("10.97.0.0/24", communities=["64512:5", "64512:1:2", "rt:64512:9"], med=7),
            ]
        )
        assert (delta.added, delta.changed, delta.removed) == (2, 0, 0)
        await eventually(lambda: bird.count() == 2)
        shown = bird.routes("10.97.0.0/24")
        for text in ("(64512,5)", "(64512, 1, 2)", "(rt, 64512, 9)", "BGP.med: 7"):
            assert text in shown
        assert not speaker.announce(["10.96.0.10/32", Route("10.97.0.0/24", communities=[
            "64512:5", "64512:1:2", "rt:64512:9"], med=7)])  # fmt: skip
        changed = speaker.announce([Route("10.96.0.10/32", med=3)])
        assert (changed.added, changed.changed, changed.removed) == (0, 1, 1)
        await eventually(lambda: bird.count() == 1 and "BGP.med: 3" in bird.routes())
        speaker.announce([])
        await eventually(lambda: bird.count() == 0)

    with Bird(net.there, tmp_path, bird_peer()) as bird:
        run(net, body)


def test_learns_and_forgets(net, tmp_path):
    sets = "bgp_community.add((1,2)); bgp_large_community.add((1,2,3));"
    statics = STATIC % f"route 192.0.2.0/24 blackhole {{ {sets} }};"
    statics += "protocol static s6 { ipv6; route 2001:db8::/32 blackhole; }"

    async def body(speaker: Speaker, peer: RunningPeer) -> None:
        await eventually(lambda: learned(speaker, "192.0.2.0/24"))
        (one,) = learned(speaker, "192.0.2.0/24")
        assert one["communities"] == ["1:2", "1:2:3"]
        assert one["as_path"] == "64513"
        assert one["next_hop"] == THEIRS
        await eventually(lambda: learned(speaker, "2001:db8::/32"))
        bird.reconfigure(bird_peer())
        await eventually(lambda: not learned(speaker, "192.0.2.0/24"))
        assert not learned(speaker, "2001:db8::/32")

    with Bird(net.there, tmp_path, bird_peer() + statics) as bird:
        run(net, body)


def test_an_ipv6_session_carries_ipv4_with_ipv6_next_hops(net, tmp_path):
    async def body(speaker: Speaker, peer: RunningPeer) -> None:
        assert peer.machine.session.negotiated.extended_next_hop
        speaker.announce(["10.96.0.10/32", "fd10::10/128"])
        await eventually(lambda: bird.count() == 1 and bird.count("master6") == 1)
        assert f"BGP.next_hop: {OURS6}" in bird.routes("10.96.0.10/32")
        await eventually(lambda: learned(speaker, "192.0.2.0/24"))
        assert learned(speaker, "192.0.2.0/24")[0]["next_hop"] == THEIRS6

    config = bird_peer(local=THEIRS6, neighbour=OURS6, channel="extended next hop on;")
    config += STATIC % "route 192.0.2.0/24 blackhole;"
    with Bird(net.there, tmp_path, config) as bird:
        run(net, body, address=THEIRS6)


def test_md5(net, tmp_path):
    async def body(speaker: Speaker, peer: RunningPeer) -> None:
        speaker.announce(["10.96.0.10/32"])
        await eventually(lambda: bird.count() == 1)
        assert "s3cret" not in f"{speaker!r} {peer.peer!r} {peer.peer.options!r} {peer!r}"

    with Bird(net.there, tmp_path, bird_peer('password "s3cret";')) as bird:
        run(net, body, PeerOptions(password="s3cret"))
        with pytest.raises(PeerError, match=r"Connect|Active"):
            asyncio.run(_fails(net, PeerOptions(password="wrong", connect_retry=0.3)))


def test_md5_on_a_session_that_the_peer_opens(net, tmp_path):
    async def body(speaker: Speaker, peer: RunningPeer) -> None:
        speaker.announce(["10.96.0.10/32"])
        await eventually(lambda: bird.count() == 1)

    with Bird(net.there, tmp_path, bird_peer('password "s3cret";')) as bird:
        run(net, body, PeerOptions(password="s3cret", passive=True))


async def _fails(net: Wire, options: PeerOptions, seconds: float = 1.5) -> None:
    async with Speaker(
        asn=64512, router_id=OURS, listen=True, make_socket=net.here.socket
    ) as speaker:
        await speaker.peer(Peer(THEIRS, asn=64513, options=options), timeout=seconds)


def test_ttl_security(net, tmp_path):
    async def body(speaker: Speaker, peer: RunningPeer) -> None:
        speaker.announce(["10.96.0.10/32"])
        await eventually(lambda: bird.count() == 1)

    with Bird(net.there, tmp_path, bird_peer("ttl security on;")) as bird:
        run(net, body, PeerOptions(ttl_security=1))


def test_ttl_security_takes_nothing_from_further_away(net, tmp_path):
    """A peer that sends with the TTL of 1 could be anywhere."""
    with Bird(net.there, tmp_path, bird_peer("passive;")), pytest.raises(PeerError):
        asyncio.run(_fails(net, PeerOptions(connect_retry=0.3, ttl_security=1)))


def test_multihop(net, tmp_path):
    """Loopback addresses of both ends, which TTL 1 would reach too, but BIRD wants it said."""
    net.here.run(lambda: None)

    async def body(speaker: Speaker, peer: RunningPeer) -> None:
        speaker.announce(["10.96.0.10/32"])
        await eventually(lambda: bird.count() == 1)

    with Bird(net.there, tmp_path, bird_peer("multihop 4;")) as bird:
        run(net, body, PeerOptions(multihop=4))


def test_add_path_both_ways(net, tmp_path):
    async def body(speaker: Speaker, peer: RunningPeer) -> None:
        speaker.announce([Route("10.96.0.10/32", med=1)], owner="one")
        speaker.announce([Route("10.96.0.10/32", med=2)], owner="two")
        await eventually(lambda: bird.count() == 2)
        assert set(re.findall(r"BGP.med: (\d)", bird.routes())) == {"1", "2"}
        await eventually(lambda: len(learned(speaker, "192.0.2.0/24")) == 2)
        speaker.announce([], owner="one")
        await eventually(lambda: bird.count() == 1)
        assert "BGP.med: 2" in bird.routes()

    config = bird_peer(
        channel="add paths on;", export="where source = RTS_STATIC || source = RTS_BGP"
    )
    config += "protocol static sa { ipv4; route 192.0.2.0/24 blackhole; }\n"
    config += "protocol static sb { ipv4 { preference 150; }; route 192.0.2.0/24 unreachable; }\n"
    with Bird(net.there, tmp_path, config) as bird:
        run(net, body, PeerOptions(add_path_send=4, add_path_receive=True))


def test_route_refresh_both_ways(net, tmp_path):
    async def body(speaker: Speaker, peer: RunningPeer) -> None:
        assert peer.machine.session.negotiated.enhanced_refresh
        speaker.announce(["10.96.0.10/32", "fd10::1/128"])
        await eventually(lambda: bird.count() == 1)
        bird.ask("reload", "in", "ours")
        await asyncio.sleep(0.2)
        assert bird.count() == 1
        assert re.search(r"Import updates: +2 ", bird.protocol())
        await eventually(lambda: learned(speaker, "192.0.2.0/24"))
        before = speaker.router.counts[THEIRS].announced
        peer.refresh()
        await eventually(lambda: speaker.router.counts[THEIRS].announced > before)
        adj_in = speaker.router.neighbours[THEIRS].adj_in
        await eventually(lambda: not any(one.stale for one in adj_in.values()))
        assert learned(speaker, "192.0.2.0/24")

    with Bird(
        net.there,
        tmp_path,
        bird_peer(export="where source = RTS_STATIC") + STATIC % "route 192.0.2.0/24 blackhole;",
    ) as bird:
        run(net, body, PeerOptions(next_hop6=OURS6))


def test_extended_messages(net, tmp_path):
    async def body(speaker: Speaker, peer: RunningPeer) -> None:
        assert peer.machine.session.negotiated.max_message == 65535
        many = [f"64512:{n}:{n}" for n in range(1000)]  # 12,000 octets of attributes
        speaker.announce([Route("10.96.0.10/32", communities=many)])
        await eventually(lambda: bird.count() == 1)
        assert "(64512, 999, 999)" in bird.routes()

    with Bird(net.there, tmp_path, bird_peer("enable extended messages on;")) as bird:
        run(net, body)


def test_what_fits_in_no_message_is_not_sent_and_said_so(net, tmp_path):
    async def body(speaker: Speaker, peer: RunningPeer) -> None:
        many = [f"64512:{n}:{n}" for n in range(1000)]
        speaker.announce([Route("10.96.0.10/32", communities=many), "10.96.0.11/32"])
        await eventually(lambda: bird.count() == 1)
        assert "do not fit" in str(speaker.why("10.96.0.10/32")[THEIRS])

    with Bird(net.there, tmp_path, bird_peer()) as bird:
        run(net, body)


@pytest.mark.parametrize(("ours", "theirs"), [(Role.CUSTOMER, "provider"), (Role.PEER, "peer")])
def test_roles(net, tmp_path, ours, theirs):
    async def body(speaker: Speaker, peer: RunningPeer) -> None:
        await eventually(lambda: learned(speaker, "192.0.2.0/24"))
        assert learned(speaker, "192.0.2.0/24")[0]["otc"] == 64513

    config = bird_peer(f"local role {theirs};") + STATIC % "route 192.0.2.0/24 blackhole;"
    with Bird(net.there, tmp_path, config):
        run(net, body, PeerOptions(role=ours))


def test_roles_that_do_not_fit(net, tmp_path):
    refused = pytest.raises(PeerError, match="role mismatch")
    with Bird(net.there, tmp_path, bird_peer("local role provider;")), refused:
        asyncio.run(_fails(net, PeerOptions(role=Role.PROVIDER, connect_retry=0.3)))


def test_internal_peers(net, tmp_path):
    async def body(speaker: Speaker, peer: RunningPeer) -> None:
        speaker.announce([Route("10.96.0.10/32", local_pref=200)])
        await eventually(lambda: "BGP.local_pref: 200" in bird.routes())
        assert "BGP.as_path: \n" in bird.routes()

    with Bird(net.there, tmp_path, bird_peer(asn=64512)) as bird:
        run(net, body, asn=64512)


def test_two_octet_as_numbers(net, tmp_path):
    async def body(speaker: Speaker, peer: RunningPeer) -> None:
        assert not peer.machine.session.negotiated.wide
        speaker.announce([Route("10.96.0.10/32", as_path="4200000001 64999")])
        await eventually(lambda: bird.count() == 1)
        assert "BGP.as_path: 64512 4200000001 64999" in bird.routes()

    with Bird(net.there, tmp_path, bird_peer("enable as4 off;")) as bird:
        run(net, body)


def test_a_wrong_as_is_said_in_words(net, tmp_path):
    refused = pytest.raises(PeerError, match="bad peer AS")
    with Bird(net.there, tmp_path, bird_peer(asn=64999)), refused:
        asyncio.run(_fails(net, PeerOptions(connect_retry=0.3)))


def test_hold_timers_both_ways(net, tmp_path):
    """A stopped daemon is noticed after the hold time; so are we when we say nothing."""
    import os
    import signal

    async def body(speaker: Speaker, peer: RunningPeer) -> None:
        assert peer.machine.session.negotiated.hold_time == 3
        os.kill(bird.pid, signal.SIGSTOP)
        try:
            await eventually(lambda: peer.state is not State.ESTABLISHED, 8)
            assert "hold timer expired" in peer.reason
        finally:
            os.kill(bird.pid, signal.SIGCONT)
        await peer.established(10)
        peer._timer.cancel()  # no keepalive any more
        peer._set_timer = lambda: None
        await eventually(lambda: "Hold timer expired" in bird.protocol(), 8)

    with Bird(net.there, tmp_path, bird_peer("error wait time 1,1; hold time 3;")) as bird:
        run(net, body, PeerOptions(hold_time=3, connect_retry=0.5, graceful_restart=0))


def test_max_prefixes(net, tmp_path):
    many = "".join(f"route 192.0.{n}.0/24 blackhole;" for n in range(10))

    async def body(speaker: Speaker, peer: RunningPeer) -> None:
        await eventually(lambda: peer.state is State.IDLE)
        assert "maximum number of prefixes reached" in peer.reason
        assert "limit 5" in peer.reason
        assert len(speaker.router.tables[parse_prefix("192.0.2.0/24")[0]]) == 0
        await asyncio.sleep(1)
        assert peer.state is State.IDLE

    async def main() -> None:
        async with Speaker(
            asn=64512, router_id=OURS, listen=True, make_socket=net.here.socket
        ) as speaker:
            options = PeerOptions(max_prefixes=5, connect_retry=0.2)
            await body(speaker, speaker.add(Peer(THEIRS, asn=64513, options=options)))

    with Bird(net.there, tmp_path, bird_peer() + STATIC % many):
        asyncio.run(main())


def test_dynamic_peers(net, tmp_path):
    async def main() -> None:
        group = DynamicPeers("10.0.0.0/24", asns=[64513, 64514], options=PeerOptions(password="pw"))
        async with Speaker(
            asn=64512, router_id=OURS, dynamic=[group], listen=True, make_socket=net.here.socket
        ) as speaker:
            speaker.announce(["10.96.0.10/32"])
            await eventually(lambda: bird.count() == 1)
            assert speaker.peers[THEIRS].machine.session.negotiated.peer_asn == 64514

    with Bird(net.there, tmp_path, bird_peer('password "pw";', asn=64514)) as bird:
        asyncio.run(main())


def test_shutdown_text_reaches_the_peer_and_comes_from_it(net, tmp_path):
    async def body(speaker: Speaker, peer: RunningPeer) -> None:
        bird.ask("disable", "ours", '"going home"')
        await eventually(lambda: peer.state is not State.ESTABLISHED)
        assert "administrative shutdown" in peer.reason
        assert "going home" in peer.reason
        bird.ask("enable", "ours")
        await peer.established(10)
        peer.stop(text="so do we")
        await eventually(lambda: "so do we" in bird.log())

    with Bird(net.there, tmp_path, bird_peer()) as bird:
        run(net, body)


def test_settings_that_the_kernel_refuses_are_said(net):
    async def main() -> None:
        options = attrs.evolve(FAST, local_address="10.9.9.9")
        async with Speaker(
            asn=64512, router_id=OURS, listen=True, make_socket=net.here.socket
        ) as speaker:
            peer = Peer(THEIRS, asn=64513, options=options)
            with pytest.raises(PeerError, match="Cannot assign requested address"):
                await speaker.peer(peer, timeout=0.5)

    asyncio.run(main())
