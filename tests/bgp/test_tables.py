# SPDX-License-Identifier: Apache-2.0
"""Tables without sockets: the decision, policies, what peers are told, restarts, why."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycilium.bgp.as_path import AsPath
from pycilium.bgp.attributes import Attributes, Origin, intern
from pycilium.bgp.capabilities import Restart, Role
from pycilium.bgp.communities import LLGR_STALE, NO_LLGR
from pycilium.bgp.family import Family
from pycilium.bgp.message import Framer, Refresh
from pycilium.bgp.negotiation import Negotiated
from pycilium.bgp.notification import Cease, Code, Notification
from pycilium.bgp.path import Path, Source, choose, multipath, ranked
from pycilium.bgp.peer import Peer, PeerOptions
from pycilium.bgp.policy import ACCEPT_ALL, Action, Change, Match, Predicate, Rule, RulePolicy
from pycilium.bgp.prefix import parse_address, parse_prefix
from pycilium.bgp.route import Route, RouteGroup
from pycilium.bgp.router import Router
from pycilium.bgp.session import Ended, Refreshed
from pycilium.bgp.update import Update, UpdateDecoder
from pycilium.bgp.why import explain
from pycilium.errors import SpecError

V4, V6 = Family.IPV4, Family.IPV6
US = 64512


def nlri(text: str) -> bytes:
    return parse_prefix(text)[1]


def path(asn: int = 64513, **fields: object) -> Attributes:
    known = {"as_path": AsPath.of(asn), "next_hop": parse_address("10.0.0.9"), **fields}
    return intern(Attributes(**known))


class Net:
    """A router and the peers around it, each with the decoder of a real peer behind."""

    def __init__(self) -> None:
        self.router = Router()
        self.sessions: dict[str, Negotiated] = {}
        self.now = 0.0

    def up(self, address: str, asn: int = 64513, *, options: PeerOptions | None = None,
           **agreed: object) -> str:  # fmt: skip
        peer = Peer(address, asn=asn, options=options or PeerOptions())
        if address not in self.router.neighbours:
            self.router.add(peer)
        session = Negotiated(
            US, asn, bytes(4), parse_address(address)[-4:], families=(V4, V6),
            local_address=parse_address("10.0.0.1"), peer_address=parse_address(address),
        )  # fmt: skip
        self.sessions[address] = attrs.evolve(session, **agreed)
        self.router.up(address, self.sessions[address], self.now)
        return address

    def down(self, address: str, event: Ended | None = None) -> None:
        self.router.down(address, event or Ended("gone"), self.now)

    def say(self, address: str, one: Attributes, *texts: str) -> object:
        update = Update(announced=((V4, [nlri(text) for text in texts], one),))
        return self.router.update(address, update)

    def take_back(self, address: str, *texts: str) -> None:
        self.router.update(address, Update(withdrawn=((V4, [nlri(text) for text in texts]),)))

    def told(self, address: str) -> tuple[dict[bytes, Attributes], set[bytes], set[Family]]:
        """What the peer reads: announced, withdrawn, End-of-RIB."""
        session = self.sessions[address]
        theirs = attrs.evolve(
            session,
            local_asn=session.peer_asn,
            peer_asn=session.local_asn,
            local_address=b"",
            add_path_receive=session.add_path_send,
        )
        decoder, framer = UpdateDecoder(theirs), Framer()
        framer.limit = 65535
        announced, gone, ends = {}, set(), set()
        for messages in self.router.drain(address):
            for _, body in framer.feed(b"".join(messages)):
                if len(body) == 4 and body[:2] != b"\0\0":
                    continue  # ROUTE-REFRESH marks
                update = decoder.decode(body)
                assert not update.problems
                for _, prefixes in update.withdrawn:
                    gone |= set(prefixes)
                for _, prefixes, one in update.announced:
                    announced.update(dict.fromkeys(prefixes, one))
                ends |= {update.end_of_rib} - {None}
        return announced, gone, ends

    def best(self, text: str) -> str | None:
        found = self.router.tables[V4].best(nlri(text))
        return found.source.name if found else None


@pytest.fixture
def net() -> Net:
    return Net()


A, B, C = "10.0.0.2", "10.0.0.3", "10.0.0.4"
ALL = PeerOptions(export_policy=ACCEPT_ALL)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"local_pref": 200, "as_path": AsPath.of(1, 2, 3)}, {}),
        ({}, {"as_path": AsPath.of(64513, 64999)}),
        ({}, {"origin": Origin.INCOMPLETE}),
        ({"med": 5}, {"med": 6}),
        ({}, {"med": 1}),
        ({"as_path": AsPath.parse("64513 {1 2 3 4}")}, {"as_path": AsPath.of(64513, 1, 2)}),
        ({"as_path": AsPath.of(1, 2)}, {"communities": (LLGR_STALE,)}),
    ],
)
def test_what_is_better(net, better, worse):
    for first, second in ((A, B), (B, A)):
        net = Net()
        net.up(A)
        net.up(B)
        net.say(first, path(**better), "192.0.2.0/24")
        net.say(second, path(**worse), "192.0.2.0/24")
        assert net.best("192.0.2.0/24") == first


def test_own_routes_come_first(net):
    net.up(A)
    net.say(A, path(local_pref=1000), "192.0.2.0/24")
    net.router.announce(["192.0.2.0/24"])
    assert net.best("192.0.2.0/24") == "this speaker"


def test_med_counts_between_routes_of_one_neighbour_only():
    one, two, three = (Source(n, True, router_id=bytes((0, 0, 0, i))) for i, n in enumerate("abc"))
    low = Path(one, path(1, med=100))
    high = Path(two, path(2, med=1))
    assert choose([low, high]) is low  # other neighbours: the identifier decides
    same = Path(three, path(1, med=50))
    assert choose([low, high, same]) is high  # `low` is out by MED, and `high` beats `same`


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 2), st.integers(100, 101)),
                min_size=1, max_size=6), st.randoms())  # fmt: skip
def test_the_decision_does_not_depend_on_order(rows, random):
    paths = [
        Path(Source(str(i), True, router_id=bytes((0, 0, 0, i))), path(asn, med=med, local_pref=lp))
        for i, (asn, med, lp) in enumerate(rows)
    ]
    best = choose(paths)
    random.shuffle(paths)
    assert choose(paths) is best
    assert ranked(paths, 99)[0] is best
    assert len(ranked(paths, 99)) == len(paths)
    assert multipath(paths, 4)[0] is best


class Model:
    """A dict of everything that was said, and the decision over it: the table, slowly."""

    def __init__(self) -> None:
        self.said: dict[tuple[str, bytes], Attributes] = {}

    def best(self, router: Router, prefix: bytes) -> Attributes | None:
        paths = [
            Path(router.neighbours[who]._source, one)
            for (who, known), one in self.said.items()
            if known == prefix
        ]
        return choose(paths).attributes if paths else None


steps = st.lists(
    st.tuples(
        st.sampled_from([A, B, C]),
        st.lists(st.integers(0, 5), min_size=1, max_size=4, unique=True),
        st.none() | st.tuples(st.integers(1, 2), st.integers(0, 2)),
    ),
    max_size=25,
)


@given(steps)
def test_whatever_is_said_tables_and_peers_agree_with_a_slow_model(said):
    net, model = Net(), Model()
    for number, address in enumerate((A, B, C)):
        net.up(address, 64513 + number, options=ALL)
    listener = net.up("10.0.0.99", 65000, options=ALL)
    heard: dict[bytes, Attributes] = {}
    prefixes = [nlri(f"192.0.{n}.0/24") for n in range(6)]
    for who, numbers, what in said:
        some = [prefixes[n] for n in numbers]
        if what is None:
            net.router.update(who, Update(withdrawn=((V4, some),)))
            for one in some:
                model.said.pop((who, one), None)
        else:
            attributes = path(net.sessions[who].peer_asn, med=what[1], origin=Origin(what[0]))
            net.router.update(who, Update(announced=((V4, some, attributes),)))
            model.said.update({(who, one): attributes for one in some})
        announced, gone, _ = net.told(listener)
        heard.update(announced)
        for one in gone:
            heard.pop(one)
    for prefix in prefixes:
        expected = model.best(net.router, prefix)
        found = net.router.tables[V4].best(prefix)
        assert (found.attributes if found else None) == expected
        assert (prefix in heard) == (expected is not None)
        if expected is not None:
            assert list(heard[prefix].as_path) == [US, *expected.as_path]


def test_the_edge_of_an_as(net):
    net.up(A, 64513)
    net.up(B, 64999, options=ALL)
    net.up(C, US, options=ALL)
    net.say(A, path(med=5, communities=(1,), extended_communities=(b"\x43" + bytes(7), b"\0\2" +
            bytes(6))), "192.0.2.0/24")  # fmt: skip
    outside = net.told(B)[0][nlri("192.0.2.0/24")]
    assert list(outside.as_path) == [US, 64513]
    assert (outside.med, outside.local_pref, outside.communities) == (None, None, (1,))
    assert outside.next_hop == parse_address("10.0.0.1")
    assert outside.extended_communities == (b"\0\2" + bytes(6),)
    inside = net.told(C)[0][nlri("192.0.2.0/24")]
    assert (list(inside.as_path), inside.med, inside.local_pref) == ([64513], 5, 100)
    assert inside.next_hop == parse_address("10.0.0.9")


@pytest.mark.parametrize(
    ("community", "reason"), [("no-export", "no-export"), ("no-advertise", "no-advertise")]
)
def test_well_known_communities(net, community, reason):
    net.up(A)
    net.router.announce([Route("10.96.0.10/32", communities=[community])])
    assert net.told(A)[0] == {}
    assert reason in why(net, "10.96.0.10/32", A)


def why(net: Net, prefix: str, address: str) -> str:
    from pycilium.bgp.fsm import Local, PeerMachine
    from pycilium.bgp.session import State

    class Up(PeerMachine):
        @property
        def state(self) -> State:
            return State.ESTABLISHED if address in net.sessions else State.ACTIVE

    machine = Up(net.router.neighbours[address].peer, Local(US))
    return str(explain(net.router, {address: machine}, *parse_prefix(prefix))[address])


def test_without_an_export_policy_nothing_learned_is_passed_on(net):
    net.up(A)
    net.up(B, 64999)
    net.say(A, path(), "192.0.2.0/24")
    net.router.announce(["10.96.0.10/32"])
    assert set(net.told(B)[0]) == {nlri("10.96.0.10/32")}
    assert "without an export policy" in why(net, "192.0.2.0/24", B)
    assert "announced: next hop 10.0.0.1" in why(net, "10.96.0.10/32", B)


def test_internal_routes_stay_with_their_speaker(net):
    net.up(A, US, options=ALL)
    net.up(B, US, options=ALL)
    net.say(A, path(), "192.0.2.0/24")
    assert net.told(B)[0] == {}
    assert "internal peers are not told" in why(net, "192.0.2.0/24", B)
    assert "from this very peer" in why(net, "192.0.2.0/24", A)


def test_next_hops_that_do_not_fit_are_said(net):
    net.up(A)
    net.router.announce(["fd00::/64", Route("10.96.0.1/32", next_hop="fd00::1"),
                         Route("10.96.0.2/32", next_hop=A)])  # fmt: skip
    assert net.told(A)[0] == {}
    assert "no next_hop6 is set" in why(net, "fd00::/64", A)
    assert "did not agree" in why(net, "10.96.0.1/32", A)
    assert "the peer itself" in why(net, "10.96.0.2/32", A)


def test_our_own_as_in_a_path_is_a_loop(net):
    net.up(A)
    net.say(A, path(as_path=AsPath.of(64513, US)), "192.0.2.0/24")
    assert net.best("192.0.2.0/24") is None
    net.up(B, options=PeerOptions(allow_own_as=1))
    net.say(B, path(as_path=AsPath.of(64513, US)), "192.0.2.0/24")
    assert net.best("192.0.2.0/24") == B


RULES = RulePolicy(
    [
        Rule(Match(prefixes=["192.0.2.0/24 le 32"]), action=Action.REJECT, name="bogons"),
        Rule(Match(communities=["64513:1"]), Change(local_pref=300), Action.CONTINUE),
        Rule(Match(as_path_contains=666), action=Action.REJECT),
        Rule(Match(next_hops=["10.0.0.0/24"]), Change(add=["64512:9"], remove=["64513:1"])),
    ]
)


def test_an_import_policy_of_rules(net):
    net.up(A, options=PeerOptions(import_policy=RULES))
    net.say(A, path(communities=(64513 << 16 | 1,)), "192.0.2.128/25", "198.51.100.0/24")
    net.say(A, path(as_path=AsPath.of(64513, 666)), "203.0.113.0/24")
    net.say(A, path(next_hop=parse_address("10.9.9.9")), "203.0.114.0/24")
    assert set(net.router.tables[V4]) == {nlri("198.51.100.0/24")}
    kept = net.router.tables[V4].best(nlri("198.51.100.0/24")).attributes
    assert (kept.local_pref, kept.communities) == (300, (64512 << 16 | 9,))
    explained = explain(net.router, {}, *parse_prefix("192.0.2.128/25"))
    assert "refused on import: bogons" in str(explained)


def test_a_route_that_the_policy_refuses_takes_its_former_self_away(net):
    net.up(A, options=PeerOptions(import_policy=RULES))
    net.say(A, path(), "198.51.100.0/24")
    assert net.best("198.51.100.0/24") == A
    net.say(A, path(as_path=AsPath.of(64513, 666)), "198.51.100.0/24")
    assert net.best("198.51.100.0/24") is None


def test_a_route_that_is_refused_takes_nobody_elses_away(net):
    net.up(A)
    net.up(B, options=PeerOptions(import_policy=RulePolicy(())))
    net.say(A, path(), "192.0.2.0/24")
    net.say(B, path(), "192.0.2.0/24")
    net.take_back(B, "192.0.2.0/24")
    assert net.best("192.0.2.0/24") == A


def test_an_export_policy_of_python(net):
    def only_hosts(prefix: str, one: Attributes) -> bool | Attributes:
        return attrs.evolve(one, med=42) if prefix.endswith("/32") else False

    net.up(A, options=PeerOptions(export_policy=Predicate(only_hosts, "only hosts")))
    net.router.announce(["10.96.0.10/32", "10.97.0.0/24"])
    ((prefix, one),) = net.told(A)[0].items()
    assert (prefix, one.med) == (nlri("10.96.0.10/32"), 42)
    assert "only hosts" in why(net, "10.97.0.0/24", A)


@pytest.mark.parametrize(
    ("role", "otc", "imported"),
    [
        (Role.CUSTOMER, None, 64513),
        (Role.PEER, None, 64513),
        (Role.PROVIDER, None, None),
        (Role.PEER, 64513, 64513),
        (Role.PEER, 1, "leak"),
        (Role.PROVIDER, 1, "leak"),
        (Role.ROUTE_SERVER, 1, "leak"),
    ],
)
def test_roles_mark_and_refuse_on_import(net, role, otc, imported):
    net.up(A, role=role)
    net.say(A, path(otc=otc), "192.0.2.0/24")
    best = net.router.tables[V4].best(nlri("192.0.2.0/24"))
    assert (best.attributes.otc if best else "leak") == imported


@pytest.mark.parametrize(
    ("role", "sent"), [(Role.CUSTOMER, False), (Role.PEER, False), (Role.PROVIDER, True)]
)
def test_roles_keep_routes_from_going_up_again(net, role, sent):
    net.up(A, role=Role.CUSTOMER)
    net.up(B, 64999, options=ALL, role=role)
    net.say(A, path(), "192.0.2.0/24")
    assert bool(net.told(B)[0]) == sent


def test_add_path_sends_the_best_few_and_takes_back_what_falls_out(net):
    net.up(A)
    net.up(B, 64514)
    net.up(C, 64515)
    ear = net.up("10.0.0.99", 65000, add_path_send=frozenset([V4]),
                 options=PeerOptions(export_policy=ACCEPT_ALL, add_path_send=2))  # fmt: skip
    for address, preference in ((A, 100), (B, 90), (C, 80)):
        asn = net.sessions[address].peer_asn
        net.say(address, path(asn, local_pref=preference), "192.0.2.0/24")
    announced, gone, _ = net.told(ear)
    assert {one.as_path.segments[0][1][1] for one in announced.values()} == {64513, 64514}
    assert len(announced) == 2
    assert not gone
    lost = next(key for key, one in announced.items() if 64513 in one.as_path)
    net.take_back(A, "192.0.2.0/24")
    announced, gone, _ = net.told(ear)
    assert gone == {lost}
    assert [64515 in one.as_path for one in announced.values()] == [True]


def test_add_path_receives_several_from_one_peer(net):
    net.up(A, add_path_receive=frozenset([V4]))
    for number in (1, 2):
        key = number.to_bytes(4, "big") + nlri("192.0.2.0/24")
        net.router.update(A, Update(announced=((V4, [key], path(med=number)),)))
    assert len(net.router.tables[V4].paths(nlri("192.0.2.0/24"))) == 2
    gone = b"\0\0\0\1" + nlri("192.0.2.0/24")
    net.router.update(A, Update(withdrawn=((V4, [gone]),)))
    (left,) = net.router.tables[V4].paths(nlri("192.0.2.0/24"))
    assert left.attributes.med == 2


RESTART = Restart(30, {V4: True})


def test_graceful_restart_keeps_and_forgets(net):
    net.up(A, restart=RESTART)
    net.say(A, path(), "192.0.2.0/24", "198.51.100.0/24")
    net.down(A)
    assert net.best("192.0.2.0/24") == A
    net.now = 10
    net.up(A, restart=RESTART)
    net.say(A, path(), "192.0.2.0/24")
    assert net.best("198.51.100.0/24") == A
    net.router.update(A, Update(end_of_rib=V4))
    assert (net.best("192.0.2.0/24"), net.best("198.51.100.0/24")) == (A, None)


def test_a_peer_that_does_not_come_back_in_time_is_forgotten(net):
    net.up(A, restart=RESTART)
    net.say(A, path(), "192.0.2.0/24")
    net.down(A)
    net.router.tick(29)
    assert net.best("192.0.2.0/24") == A
    assert net.router.deadline == 30
    net.router.tick(30)
    assert net.best("192.0.2.0/24") is None


CEASE = Notification.cease(Cease.SHUTDOWN)


@pytest.mark.parametrize(
    ("restart", "event", "kept"),
    [
        (RESTART, Ended("", received=CEASE), True),
        (RESTART, Ended("", sent=Notification(Code.HOLD_TIMER)), True),
        (RESTART, Ended("", received=Notification.hard_reset(CEASE)), False),
        (Restart(30, {V4: True}, notifications=False), Ended("", received=CEASE), False),
        (Restart(30, {V4: True}, notifications=False), Ended("closed"), True),
        (Restart(30, {}), Ended("closed"), False),
        (None, Ended("closed"), False),
    ],
)
def test_which_ends_keep_routes(net, restart, event, kept):
    net.up(A, restart=restart)
    net.say(A, path(), "192.0.2.0/24")
    net.down(A, event)
    assert (net.best("192.0.2.0/24") == A) == kept


def test_an_end_that_liveness_reports_keeps_nothing(net):
    net.up(A, restart=RESTART)
    net.say(A, path(), "192.0.2.0/24")
    net.router.down(A, Ended("BFD is down"), 0, restartable=False)
    assert net.best("192.0.2.0/24") is None


@pytest.mark.parametrize("flags", [{}, {V4: False}])
def test_a_peer_that_comes_back_without_its_forwarding_state(net, flags):
    net.up(A, restart=RESTART)
    net.say(A, path(), "192.0.2.0/24")
    net.down(A)
    net.up(A, restart=Restart(30, flags))
    assert net.best("192.0.2.0/24") is None


def test_long_lived_routes_become_the_last_choice(net):
    net.up(A, restart=RESTART, long_lived={V4: 3600})
    net.up(B, 64514)
    ear = net.up(C, 65000, options=ALL)
    net.say(A, path(), "192.0.2.0/24", "198.51.100.0/24")
    net.say(A, path(communities=(NO_LLGR,)), "203.0.113.0/24")
    net.say(B, path(64514, as_path=AsPath.of(64514, 1, 2)), "192.0.2.0/24")
    net.told(ear)
    net.down(A)
    net.router.tick(30)
    assert net.best("192.0.2.0/24") == B
    assert net.best("198.51.100.0/24") == A
    assert net.best("203.0.113.0/24") is None
    _, gone, _ = net.told(ear)  # it does not know what long-lived means
    assert gone == {nlri("198.51.100.0/24"), nlri("203.0.113.0/24")}
    net.router.tick(30 + 3600)
    assert net.best("198.51.100.0/24") is None


def test_end_of_rib_waits_for_the_program(net):
    net.up(A)
    assert net.told(A)[2] == set()
    net.router.announce(["10.96.0.10/32"])
    announced, _, ends = net.told(A)
    assert (len(announced), ends) == (1, {V4, V6})
    net.up(B, 64514)
    assert net.told(B)[2] == {V4, V6}


def test_a_refresh_says_everything_again(net):
    net.up(A, enhanced_refresh=True)
    net.router.announce([f"10.96.0.{n}/32" for n in range(10)])
    assert len(net.told(A)[0]) == 10
    assert net.told(A)[0] == {}
    net.router.refresh(A, Refreshed(V4, Refresh.REQUEST), 0)
    net.router.announce([f"10.96.0.{n}/32" for n in range(9)])  # one goes meanwhile
    announced, gone, _ = net.told(A)
    assert (len(announced), gone) == (9, {nlri("10.96.0.9/32")})


def test_a_refresh_of_the_peer_forgets_what_it_does_not_say_again(net):
    net.up(A)
    net.say(A, path(), "192.0.2.0/24", "198.51.100.0/24")
    net.router.refresh(A, Refreshed(V4, Refresh.BEGIN), 0)
    net.say(A, path(), "192.0.2.0/24")
    assert net.best("198.51.100.0/24") == A
    net.router.refresh(A, Refreshed(V4, Refresh.END), 0)
    assert (net.best("192.0.2.0/24"), net.best("198.51.100.0/24")) == (A, None)


def test_too_many_prefixes_end_the_session_before_they_are_held(net):
    net.up(A, options=PeerOptions(max_prefixes=3))
    assert net.say(A, path(), "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24") is None
    assert net.say(A, path(med=1), "192.0.2.0/24") is None
    end = net.say(A, path(), "10.0.0.0/8")
    assert str(end) == "Cease: maximum number of prefixes reached (6/1): limit 3"
    assert len(net.router.neighbours[A].adj_in[V4].routes) == 3


def test_only_the_last_state_of_a_prefix_reaches_a_slow_peer(net):
    net.up(A)
    net.router.announce(["10.96.0.10/32"])
    net.told(A)
    for med in range(100):
        net.router.announce([Route("10.96.0.10/32", med=med), "10.96.0.11/32"])
    net.router.announce([Route("10.96.0.10/32", med=7)])
    assert net.router.neighbours[A].adj_out[V4].pending == 2
    announced, gone, _ = net.told(A)
    assert ([one.med for one in announced.values()], gone) == ([7], set())


def test_announce_is_declarative_for_each_owner(net):
    net.up(A)
    delta = net.router.announce(["10.96.0.10/32", "fd00::/64"])
    assert (delta.added, delta.changed, delta.removed) == (2, 0, 0)
    assert not net.router.announce(["10.96.0.10/32", "fd00::/64"])
    net.router.announce(["10.98.0.0/16"], "other")
    delta = net.router.announce([Route("10.96.0.10/32", med=1)])
    assert (delta.added, delta.changed, delta.removed) == (0, 1, 1)
    assert len(net.router.tables[V4]) == 2
    group = RouteGroup([f"172.16.{n}.0/24" for n in range(100)])
    assert net.router.announce([group]).added == 100
    assert (len(group), len(net.told(A)[0])) == (100, 101)


@pytest.mark.parametrize(
    ("routes", "said"),
    [
        (["10.0.0.1/8"], "10.0.0.0/8 contains it"),
        ("10.0.0.0/8", "a list"),
        ([Route("10.0.0.0/8"), Route("10.0.0.0/8", med=1)], "each prefix once"),
        ([42], "Route, RouteGroup or a prefix"),
    ],
)
def test_announcements_that_are_refused_change_nothing(net, routes, said):
    net.router.announce(["10.96.0.10/32"])
    with pytest.raises(SpecError, match=said):
        net.router.announce(routes)
    assert len(net.router.tables[V4]) == 1


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"next_hop": "127.0.0.1"}, "no loopback"),
        ({"next_hop": "::1"}, "no loopback"),
        ({"next_hop": "224.0.0.1"}, "no loopback"),
        ({"next_hop": "here"}, "an IPv4 or IPv6 address"),
        ({"communities": ["65536:1"]}, "a community"),
        ({"communities": [1 << 32]}, "octets"),
        ({"med": -1}, "from 0 to"),
        ({"local_pref": 1 << 32}, "from 0 to"),
        ({"as_path": "1 x"}, "numbers, and sets"),
        ({"as_path": "0"}, "from 1 to"),
    ],
)
def test_routes_that_are_refused(fields: dict[str, object], said: str):
    with pytest.raises(SpecError, match=said):
        Route("10.96.0.10/32", **fields)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Peer("10.0.0.300", asn=1), "IPv4 or IPv6"),
        (lambda: Peer("224.0.0.1", asn=1), "one host"),
        (lambda: Peer("10.0.0.2", asn=0), "from 1 to"),
        (lambda: PeerOptions(hold_time=2), "from 3"),
        (lambda: PeerOptions(families=["ipv5"]), "any of ipv4, ipv6"),
        (lambda: PeerOptions(families=[]), "at least one"),
        (lambda: PeerOptions(password=""), "1 to 80"),
        (lambda: PeerOptions(password="x" * 81), "1 to 80"),
        (lambda: PeerOptions(ttl_security=1, multihop=2), "0 beside"),
        (lambda: PeerOptions(graceful_restart=4096), "from 0 to 4095"),
        (lambda: PeerOptions(next_hop="fd00::1"), "IPv4"),
        (lambda: Match(prefixes=["10.0.0.0/8 ge 4"]), "from 8 to 32"),
        (lambda: Match(prefixes=["10.0.0.0/8 up 4"]), "ge LENGTH"),
        (lambda: Match(next_hops=["x"]), "an address or prefix"),
        (lambda: Change(med=-1), "from 0 to"),
        (lambda: Change(prepend=[0]), "from 1 to"),
    ],
)
def test_settings_that_are_refused(make, said: str):
    with pytest.raises(SpecError, match=said) as caught:
        make()
    assert "xxx" not in str(caught.value)


def test_unknown_words_are_type_errors():
    with pytest.raises(TypeError):
        PeerOptions(holdtime=3)
    with pytest.raises(TypeError):
        Route("10.0.0.0/8", colour="red")
