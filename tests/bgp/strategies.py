# SPDX-License-Identifier: Apache-2.0
"""Everything that a speaker can say, drawn by hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from pycilium.bgp.as_path import AsPath, SegmentType
from pycilium.bgp.attributes import Attributes, Origin, Unknown
from pycilium.bgp.capabilities import AddPath, Capabilities, Restart, Role
from pycilium.bgp.family import Family
from pycilium.bgp.message import Open
from pycilium.bgp.prefix import normalise

numbers = st.integers(0, 0xFFFFFFFF)
families = st.sampled_from(list(Family))


@st.composite
def prefixes(draw, family: Family = Family.IPV4) -> bytes:
    bits = draw(st.integers(0, family.bits))
    size = (bits + 7) // 8
    return normalise(bytes((bits,)) + draw(st.binary(min_size=size, max_size=size)))


segments = st.tuples(
    st.sampled_from([SegmentType.SEQUENCE, SegmentType.SET]),
    st.lists(st.integers(1, 0xFFFFFFFE), min_size=1, max_size=8).map(tuple),
)
paths = st.lists(segments, max_size=3).map(lambda many: AsPath(tuple(many)))
routers = st.tuples(
    st.integers(1, 126), st.integers(0, 255), st.integers(0, 255), st.integers(1, 254)
).map(bytes)
routers6 = st.binary(min_size=14, max_size=14).map(lambda tail: b"\x20\x01" + tail)
unknowns = st.builds(
    Unknown,
    type=st.integers(36, 254),
    flags=st.just(0xE0),
    value=st.binary(max_size=300),
)


def sets(one: st.SearchStrategy) -> st.SearchStrategy:
    return st.sets(one, max_size=6).map(lambda many: tuple(sorted(many)))


attributes = st.builds(
    Attributes,
    origin=st.sampled_from(Origin),
    as_path=paths.map(lambda path: path.prepend(64513)),
    next_hop=routers,
    med=st.none() | numbers,
    communities=sets(numbers),
    large_communities=sets(st.tuples(numbers, numbers, numbers)),
    extended_communities=sets(st.binary(min_size=8, max_size=8)),
    atomic_aggregate=st.booleans(),
    aggregator=st.none() | st.tuples(st.integers(1, 0xFFFFFFFE), routers),
    otc=st.none() | numbers,
    unknown=st.lists(unknowns, max_size=2, unique_by=lambda one: one.type).map(
        lambda many: tuple(sorted(many))
    ),
)
restarts = st.builds(
    Restart,
    time=st.integers(0, 4095),
    families=st.dictionaries(families, st.booleans()),
    restarted=st.booleans(),
    notifications=st.booleans(),
)
capabilities = st.builds(
    Capabilities,
    families=st.lists(families, unique=True).map(tuple),
    asn=st.none() | st.integers(1, 0xFFFFFFFE),
    route_refresh=st.booleans(),
    enhanced_refresh=st.booleans(),
    extended_message=st.booleans(),
    extended_next_hop=st.booleans(),
    role=st.none() | st.sampled_from(Role),
    restart=st.none() | restarts,
    long_lived=st.dictionaries(families, st.integers(0, 0xFFFFFF)),
    add_path=st.dictionaries(
        families, st.sampled_from([AddPath.SEND, AddPath.RECEIVE, AddPath.SEND | AddPath.RECEIVE])
    ),
)
opens = st.builds(
    Open,
    asn=st.integers(1, 22000),
    hold_time=st.just(0) | st.integers(3, 65535),
    router_id=routers,
    capabilities=capabilities,
)
