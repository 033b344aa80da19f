# SPDX-License-Identifier: Apache-2.0
"""What is encoded is decoded again; what is no message ends in a NOTIFICATION, never else."""

from __future__ import annotations

import time

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgp import strategies
from pycilium.bgp.as_path import AsPath, check_asn
from pycilium.bgp.attributes import Attributes, intern
from pycilium.bgp.communities import (
    community_text,
    extended_text,
    large_text,
    parse_community,
)
from pycilium.bgp.encode import encode_end_of_rib, encode_reach, encode_unreach
from pycilium.bgp.errors import ProtocolError
from pycilium.bgp.family import Family
from pycilium.bgp.message import (
    HEADER,
    KEEPALIVE,
    Framer,
    MessageType,
    Open,
    Refresh,
    decode_notification,
    decode_open,
    decode_refresh,
    encode_notification,
    encode_refresh,
    frame,
)
from pycilium.bgp.negotiation import Negotiated
from pycilium.bgp.notification import Cease, Code, Notification
from pycilium.bgp.prefix import parse_prefix, prefix_text, split_nlri
from pycilium.bgp.update import UpdateDecoder
from pycilium.errors import SpecError

SESSION = Negotiated(64512, 64513, families=tuple(Family), extended_next_hop=True)
NARROW = attrs.evolve(SESSION, wide=False)
PATHS = attrs.evolve(SESSION, add_path_receive=frozenset(Family))


def bodies(messages: list[bytes], limit: int = 65535) -> list[tuple[MessageType, bytes]]:
    framer = Framer()
    framer.limit = limit
    return list(framer.feed(b"".join(messages)))


@given(strategies.opens)
def test_open(one: Open):
    ((kind, body),) = bodies([one.encode()])
    found = decode_open(body)
    asn = one.capabilities.asn or one.asn
    assert (kind, found) == (MessageType.OPEN, attrs.evolve(one, asn=asn))


@given(strategies.attributes, st.lists(strategies.prefixes(), min_size=1, unique=True))
def test_ipv4_routes(one: Attributes, prefixes: list[bytes]):
    messages = list(encode_reach(Family.IPV4, one, prefixes))
    assert all(len(message) <= 4096 for message in messages)
    found = []
    for _, body in bodies(messages):
        update = UpdateDecoder(SESSION).decode(body)
        ((family, some, attributes),) = update.announced
        assert (family, attributes, update.problems) == (Family.IPV4, one, ())
        found += some
    assert found == prefixes


@given(
    strategies.attributes,
    strategies.routers6,
    st.lists(strategies.prefixes(Family.IPV6), min_size=1, unique=True),
)
def test_ipv6_routes(one: Attributes, hop: bytes, prefixes: list[bytes]):
    one = attrs.evolve(one, next_hop=hop)
    found = []
    for _, body in bodies(list(encode_reach(Family.IPV6, one, prefixes))):
        ((family, some, attributes),) = UpdateDecoder(SESSION).decode(body).announced
        assert (family, attributes) == (Family.IPV6, one)
        found += some
    assert found == prefixes


@given(strategies.attributes, strategies.routers6)
def test_ipv4_routes_with_an_ipv6_next_hop(one: Attributes, hop: bytes):
    one = attrs.evolve(one, next_hop=hop)
    ((_, body),) = bodies(list(encode_reach(Family.IPV4, one, [b"\x18\x0a\x60\x00"])))
    ((family, some, attributes),) = UpdateDecoder(SESSION).decode(body).announced
    assert (family, some, attributes) == (Family.IPV4, [b"\x18\x0a\x60\x00"], one)


@given(strategies.attributes)
def test_as_numbers_survive_a_peer_of_two_octets(one: Attributes):
    ((_, body),) = bodies(list(encode_reach(Family.IPV4, one, [b"\x18\x0a\x60\x00"], wide=False)))
    ((_, _, attributes),) = UpdateDecoder(NARROW).decode(body).announced
    assert list(attributes.as_path) == list(one.as_path)
    assert attributes.aggregator == one.aggregator


@given(st.sampled_from(list(Family)), st.data())
def test_withdrawals_and_path_identifiers(family: Family, data: st.DataObject):
    some = data.draw(st.lists(strategies.prefixes(family), min_size=1, unique=True))
    keys = [number.to_bytes(4, "big") + one for number, one in enumerate(some)]
    for session, sent in ((SESSION, some), (PATHS, keys)):
        found = []
        for _, body in bodies(list(encode_unreach(family, sent))):
            ((known, gone),) = UpdateDecoder(session).decode(body).withdrawn
            assert known is family
            found += gone
        assert found == sent


@pytest.mark.parametrize("family", Family)
def test_end_of_rib(family: Family):
    ((_, body),) = bodies([encode_end_of_rib(family)])
    assert UpdateDecoder(SESSION).decode(body).end_of_rib is family


def test_messages_are_as_full_as_they_go():
    prefixes = [parse_prefix(f"10.{n // 256}.{n % 256}.0/24")[1] for n in range(5000)]
    one = Attributes(as_path=AsPath.of(64513), next_hop=b"\x0a\0\0\1")
    messages = list(encode_reach(Family.IPV4, one, prefixes))
    assert all(len(message) > 4090 for message in messages[:-1])
    assert len(list(encode_reach(Family.IPV4, one, prefixes, limit=65535))) == 1


def test_attributes_that_fit_nowhere_are_refused():
    one = Attributes(next_hop=b"\x0a\0\0\1", communities=tuple(range(2000)))
    with pytest.raises(SpecError, match="4096 octets"):
        list(encode_reach(Family.IPV4, one, [b"\x08\x0a"]))


@given(st.integers(0, 255), st.integers(0, 255), st.binary(max_size=300))
def test_notifications(code: int, subcode: int, data: bytes):
    one = Notification(code, subcode, data)
    ((_, body),) = bodies([encode_notification(one)])
    assert decode_notification(body) == one
    assert str(one).isprintable()


def test_notifications_in_words():
    shut = Notification.cease(Cease.SHUTDOWN, "going home\x1b[31m")
    assert str(shut) == "Cease: administrative shutdown (6/2): going home\ufffd[31m"
    assert "bad peer AS (2/2): AS 64999" in str(Notification(Code.OPEN, 2, b"\0\0\xfd\xe7"))
    assert "because of Cease: administrative shutdown" in str(Notification.hard_reset(shut))


@given(strategies.families, st.sampled_from(Refresh))
def test_route_refresh(family: Family, what: Refresh):
    ((_, body),) = bodies([encode_refresh(family, what)])
    assert decode_refresh(body) == (family.afi, family.safi, what)


@given(st.lists(st.binary(max_size=50).map(lambda b: frame(MessageType.UPDATE, bytes(4) + b))),
       st.data())  # fmt: skip
def test_messages_in_any_pieces(messages: list[bytes], data: st.DataObject):
    stream = b"".join(messages) + KEEPALIVE
    framer, found, at = Framer(), [], 0
    while at < len(stream):
        size = data.draw(st.integers(1, 40))
        found += list(framer.feed(stream[at : at + size]))
        at += size
    assert found == list(Framer().feed(stream))
    assert len(found) == len(messages) + 1


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"\xfe" + b"\xff" * 15 + b"\0\x13\4", "not synchronised"),
        (b"\xff" * 16 + b"\0\x12\4", "bad length"),
        (b"\xff" * 16 + b"\0\x14\4", "bad length"),
        (b"\xff" * 16 + b"\x10\x01\2", "bad length"),
        (b"\xff" * 16 + b"\0\x13\0", "bad type"),
        (b"\xff" * 16 + b"\0\x13\6", "bad type"),
        (b"\xff" * 16 + b"\0\x16\2", "bad length"),
        (b"\xff" * 16 + b"\0\x1c\1", "bad length"),
        (b"G", "not synchronised"),
        (b"\xff" * 15 + b"\xfe", "not synchronised"),
    ],
)
def test_headers_that_are_refused(header: bytes, reason: str):
    with pytest.raises(ProtocolError, match=reason):
        list(Framer().feed(header))


@given(strategies.prefixes(), st.booleans())
def test_prefixes_as_text(prefix: bytes, six: bool):
    family = Family.IPV6 if six else Family.IPV4
    assert parse_prefix(prefix_text(family, prefix)) == (family, prefix)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("10.0.0.1/8", "10.0.0.0/8 contains it"),
        ("fd00::1/64", "fd00::/64 contains it"),
        ("10.0.0.0/33", "from 0 to 32"),
        ("fd00::/129", "from 0 to 128"),
        ("10.0.0.0/-1", "from 0 to 32"),
        ("10.0.0.0/ 8", "from 0 to 32"),
        ("10.0.0/8", "a prefix"),
        ("1.2.3.٤/32", "a prefix"),
        ("", "a prefix"),
        ("x" * 1000, "a prefix"),
    ],
)
def test_prefixes_that_are_refused(text: str, said: str):
    with pytest.raises(SpecError, match=said):
        parse_prefix(text)


@given(strategies.families, st.booleans(), st.binary(max_size=400))
def test_any_nlri_is_split_or_refused(family: Family, paths: bool, data: bytes):
    try:
        found = split_nlri(data, family, add_path=paths)
    except ProtocolError as error:
        _is_of(error, Code.UPDATE)
    else:
        assert sum(map(len, found)) == len(data)


def test_host_bits_on_the_wire_do_not_make_another_prefix():
    assert split_nlri(b"\x09\x0a\xff\x18\1\2\3", Family.IPV4) == [b"\x09\x0a\x80", b"\x18\1\2\3"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("64512:100", 64512 << 16 | 100),
        ("no-export", 0xFFFFFF01),
        ("4200000000:1:2", (4200000000, 1, 2)),
        ("rt:64512:100", bytes.fromhex("0002fc0000000064")),
        ("soo:10.0.0.1:5", bytes.fromhex("01030a0000010005")),
        ("rt:4200000000:5", bytes.fromhex("0202fa56ea000005")),
        ("0x4300000000000001", bytes.fromhex("4300000000000001")),
    ],
)
def test_communities_as_text(text: str, value: object):
    assert parse_community(text) == value
    show = {int: community_text, bytes: extended_text, tuple: large_text}[type(value)]
    assert show(value) == text


@pytest.mark.parametrize("text", ["", "1", "65536:1", "1:65536", "a:b", "1:2:3:4", "-1:2", "rt:1"])
def test_communities_that_are_refused(text: str):
    with pytest.raises(SpecError, match="community"):
        parse_community(text)


@given(strategies.paths)
def test_as_paths_as_text(path: AsPath):
    if all(number != 23456 for number in path):
        assert list(AsPath.parse(str(path))) == list(path)
        assert AsPath.parse(str(path)).length == path.length


@pytest.mark.parametrize("value", [0, -1, 23456, 4294967295, 1 << 32, "64512", True, 1.5])
def test_as_numbers_that_are_refused(value: object):
    with pytest.raises(SpecError, match="asn"):
        check_asn(value)


def test_a_peer_of_two_octets_reads_as_trans():
    assert AsPath.of(4200000000, 5).encode(wide=False) == b"\2\2\x5b\xa0\0\5"


def test_equal_attributes_are_one_object_while_they_are_used():
    one, two = Attributes(med=1), Attributes(med=1)
    assert intern(one) is intern(two)


streams = st.binary(max_size=600)
updates = st.lists(
    st.tuples(
        st.sampled_from([0x40, 0x80, 0xC0, 0xE0, 0x50, 0x90, 0xD0]),
        st.integers(0, 40) | st.integers(0, 255),
        st.binary(max_size=40),
        st.none() | st.integers(0, 255),
    ),
    max_size=8,
).map(
    lambda many: b"".join(
        bytes((flags, kind))
        + (
            (len(value) if lie is None else lie).to_bytes(2 if flags & 0x10 else 1, "big")
        )
        + value
        for flags, kind, value, lie in many
    )
)  # fmt: skip


@settings(max_examples=500)
@given(st.binary(max_size=40), updates, st.binary(max_size=80),
       st.sampled_from([SESSION, NARROW, PATHS]))  # fmt: skip
def test_any_update_is_routes_or_a_notification(
    gone: bytes, block: bytes, nlri: bytes, session: Negotiated
):
    body = len(gone).to_bytes(2, "big") + gone + len(block).to_bytes(2, "big") + block + nlri
    try:
        update = UpdateDecoder(session).decode(body)
    except ProtocolError as error:
        _is_of(error, Code.UPDATE)
        return
    for problem in update.problems:
        assert str(problem)
    for family, prefixes, one in update.announced:
        assert list(encode_reach(family, one, prefixes, limit=65535))


@settings(max_examples=300)
@given(streams)
def test_any_stream_is_messages_or_a_notification(data: bytes):
    framer = Framer()
    try:
        for kind, body in framer.feed(data):
            _decode(kind, body)
    except ProtocolError as error:
        _is_of(error, *Code)


@settings(max_examples=300)
@given(st.sampled_from(MessageType), st.binary(max_size=300))
def test_any_body_is_a_message_or_a_notification(kind: MessageType, body: bytes):
    try:
        for found, inner in Framer().feed(frame(kind, body)):
            _decode(found, inner)
    except ProtocolError as error:
        _is_of(error, *Code)


def _is_of(error: ProtocolError, *codes: Code) -> None:
    assert error.notification.code in codes
    assert str(error)


def _decode(kind: MessageType, body: bytes) -> None:
    if kind is MessageType.OPEN:
        decode_open(body)
    elif kind is MessageType.UPDATE:
        UpdateDecoder(SESSION).decode(body)
    elif kind is MessageType.NOTIFICATION:
        decode_notification(body)
    elif kind is MessageType.ROUTE_REFRESH:
        decode_refresh(body)


def test_the_worst_message_takes_no_longer_than_its_size_allows():
    """65,535 octets of the shortest NLRI, with bits that the fast way does not take."""
    nlri = b"\x01\xff" * 32_000
    begin = time.process_time()
    assert len(split_nlri(nlri, Family.IPV4)) == 32_000
    assert time.process_time() - begin < 1.0  # milliseconds; a second would be quadratic
    assert HEADER == 19
