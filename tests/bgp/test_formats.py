# SPDX-License-Identifier: Apache-2.0
"""MRT files and BMP messages, without sockets."""

from __future__ import annotations

import io
import struct

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgp import strategies
from bgp.test_tables import V4, V6, A, B, Net, nlri, path
from pycilium.bgp import bmp, read_mrt, write_mrt
from pycilium.bgp.message import Framer, MessageType
from pycilium.bgp.notification import Cease, Notification
from pycilium.bgp.session import Ended
from pycilium.bgp.update import Update, UpdateDecoder
from pycilium.errors import SpecError


def dump(net: Net) -> bytes:
    out = io.BytesIO()
    write_mrt(net.router, bytes((10, 0, 0, 1)), out, when=1000)
    return out.getvalue()


def test_a_dump_holds_every_path():
    net = Net()
    net.up(A)
    net.up(B, 64514)
    net.say(A, path(med=1), "192.0.2.0/24", "0.0.0.0/0")
    net.say(B, path(64514), "192.0.2.0/24")
    six = path(next_hop=b"\x20\x01" + bytes(13) + b"\1")
    net.router.update(A, Update(announced=((V6, [nlri("2001:db8::/32")], six),)))
    found = list(read_mrt(io.BytesIO(dump(net))))
    assert {(one.peer, one.prefix, one.peer_asn) for one in found} == {
        (A, "192.0.2.0/24", 64513),
        (A, "0.0.0.0/0", 64513),
        (B, "192.0.2.0/24", 64514),
        (A, "2001:db8::/32", 64513),
    }
    by_key = {(one.peer, one.nlri): one.attributes for one in found}
    assert by_key[A, nlri("192.0.2.0/24")] == path(med=1)
    assert by_key[A, nlri("2001:db8::/32")] == six


@given(strategies.attributes)
def test_attributes_survive(one):
    net = Net()
    net.up(A)
    net.say(A, one, "192.0.2.0/24")
    for found in read_mrt(io.BytesIO(dump(net))):
        assert found.attributes == attrs.evolve(one)


@given(st.binary(max_size=200), st.integers(0, 20))
def test_any_file_is_routes_or_an_error(data, kind):
    record = struct.pack("!IHHI", 0, 13, kind, len(data)) + data
    for content in (data, record, record + record):
        try:
            list(read_mrt(io.BytesIO(content)))
        except SpecError as error:
            assert "MRT" in str(error)  # noqa: PT017 - most contents are no error


def test_a_dump_with_path_identifiers():
    net = Net()
    net.up(A)
    net.say(A, path(), "192.0.2.0/24")
    whole = dump(net)
    head = 12 + int.from_bytes(whole[8:12], "big")  # the index of peers
    plain = whole[head + 12 :]
    entry = 4 + 4 + 2  # sequence, prefix, count
    body = plain[: entry + 6] + b"\0\0\0\7" + plain[entry + 6 :]
    record = struct.pack("!IHHI", 0, 13, 8, len(body)) + body
    (found,) = read_mrt(io.BytesIO(whole[:head] + record))
    assert (found.prefix, found.attributes) == ("192.0.2.0/24", path())


def test_a_file_that_is_cut_off():
    net = Net()
    net.up(A)
    net.say(A, path(), "192.0.2.0/24")
    with pytest.raises(SpecError, match="whole MRT records"):
        list(read_mrt(io.BytesIO(dump(net)[:-3])))


def parts(message: bytes) -> tuple[bmp.BmpType, bytes]:
    version, size, kind = struct.unpack_from("!BIB", message)
    assert (version, size) == (3, len(message))
    return bmp.BmpType(kind), message[6:]


def test_bmp_of_a_session():
    net = Net()
    net.up(A)
    net.say(A, path(), "192.0.2.0/24", "198.51.100.0/24")
    session = net.sessions[A]
    kind, body = parts(bmp.peer_up(session, 1.5, (179, 40000), (b"ours", b"theirs")))
    assert kind is bmp.BmpType.PEER_UP
    assert body[10 + 12 : 10 + 16] == bytes((10, 0, 0, 2))
    assert body[26:30] == (64513).to_bytes(4, "big")
    assert body[34:42] == struct.pack("!II", 1, 500_000)
    assert body[42:] == bytes(12) + bytes((10, 0, 0, 1)) + b"\0\xb3\x9c\x40ourstheirs"
    messages = list(bmp.table(session, 0, net.router.neighbours[A].adj_in[V4]))
    updates = [_update(parts(one)[1][42:]) for one in messages]
    assert sorted(updates[0].announced[0][1]) == sorted(
        map(nlri, ("192.0.2.0/24", "198.51.100.0/24"))
    )
    assert updates[-1].end_of_rib is V4
    kind, body = parts(bmp.peer_down(session, 0, Ended("", sent=Notification.cease(Cease.RESET))))
    assert (kind, body[42]) == (bmp.BmpType.PEER_DOWN, 1)
    assert parts(bmp.peer_down(session, 0, Ended("")))[1][42:] == b"\4"
    kind, body = parts(bmp.statistics(session, 0, rejected=3, routes=1 << 33))
    assert struct.unpack("!IHHIHHQ", body[42:]) == (2, 0, 4, 3, 7, 8, 1 << 33)


def _update(message: bytes) -> Update:
    ((kind, body),) = Framer().feed(message)
    assert kind is MessageType.UPDATE
    return UpdateDecoder(Net().sessions.get(A) or _SESSION).decode(body)


_NET = Net()
_NET.up(A)
_SESSION = _NET.sessions[A]
