# SPDX-License-Identifier: Apache-2.0
"""Which identities a peer means, while identities come and go."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from differential import strategies as draw
from pycilium.model import Labels, Selector
from pycilium.model.selector import Operator, Requirement
from pycilium.policy.universe import Universe, peer_matches

identities = st.dictionaries(st.integers(256, 270), draw.labels, max_size=10)


@settings(max_examples=200, deadline=None)
@given(st.lists(identities, min_size=1, max_size=6), st.lists(draw.peers, max_size=6))
def test_members_follow_every_change(states: list[dict[int, Labels]], peers: list[object]) -> None:
    universe = Universe({})
    for known in states:
        universe.update(known)
        for peer in peers:
            expected = {number for number, one in known.items() if peer_matches(peer, one)}
            assert universe.members(peer) == expected


def test_what_has_gone_leaves_nothing() -> None:
    universe = Universe({})
    for number in range(100):
        universe.update({number: Labels.of_pod({"pod": f"p{number}"}, f"ns{number}")})
    universe.update({})
    assert not universe._by_value
    assert not universe._by_key


def test_a_selector_may_ask_for_a_named_port() -> None:
    """What the evaluator's selectors match, the compiler's must find."""
    named = Labels.of_pod({"app": "web"}, "x", named_ports={"http": ("TCP", 80)})
    peer = Selector((Requirement("port:http", Operator.IN, ("80/tcp",)),))
    assert Universe({256: named, 257: Labels.of({"app": "web"})}).members(peer) == {256}
