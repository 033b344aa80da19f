# SPDX-License-Identifier: Apache-2.0
"""The codec: RFC 5880 section 4 by hand, round trips, and any bytes at all."""

from __future__ import annotations

import pickle

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycilium import SpecError
from pycilium.bgp.bfd import ControlPacket, Diagnostic, Discard, State, decode, encode

UINT32 = st.integers(0, 2**32 - 1)
SECTIONS = st.just(b"") | st.binary(min_size=2, max_size=28)

packets = st.builds(
    ControlPacket,
    state=st.sampled_from(State),
    my_discriminator=st.integers(1, 2**32 - 1),
    your_discriminator=st.integers(1, 2**32 - 1),
    diagnostic=st.integers(0, 31).map(Diagnostic),
    multiplier=st.integers(1, 255),
    desired_min_tx=UINT32,
    required_min_rx=UINT32,
    required_min_echo_rx=UINT32,
    poll=st.booleans(),
    final=st.booleans(),
    control_plane_independent=st.booleans(),
    demand=st.booleans(),
    authentication=SECTIONS,
)

# Version 1, diagnostic 1, Up with poll, multiplier 3, 24 bytes; the intervals 100 ms, 1 s, 0.
GOOD = bytes.fromhex("21e00318 00000001 00000002 000186a0 000f4240 00000000")


def test_a_packet_as_the_rfc_draws_it() -> None:
    packet = decode(GOOD)
    assert packet == ControlPacket(
        state=State.UP,
        my_discriminator=1,
        your_discriminator=2,
        diagnostic=Diagnostic.CONTROL_DETECTION_TIME_EXPIRED,
        multiplier=3,
        desired_min_tx=100_000,
        required_min_rx=1_000_000,
        poll=True,
    )
    assert encode(packet) == GOOD


@pytest.mark.parametrize(
    ("at", "value", "reason"),
    [
        (0, 0x41, Discard.VERSION),
        (3, 23, Discard.LENGTH_BELOW_MINIMUM),
        (3, 25, Discard.LENGTH_ABOVE_PAYLOAD),
        (2, 0, Discard.ZERO_MULTIPLIER),
        (1, 0xE1, Discard.MULTIPOINT),
        (7, 0, Discard.ZERO_MY_DISCRIMINATOR),
        (11, 0, Discard.ZERO_YOUR_DISCRIMINATOR),
        (1, 0xE4, Discard.LENGTH_BELOW_MINIMUM),  # authenticated: 26 at least
    ],
)
def test_each_reason_to_discard(at: int, value: int, reason: Discard) -> None:
    changed = bytearray(GOOD)
    changed[at] = value
    assert decode(bytes(changed)) is reason


def test_a_stranger_may_be_down_only() -> None:
    for state, allowed in zip(State, (True, True, False, False), strict=True):
        found = decode(encode(ControlPacket(state=state, my_discriminator=1)))
        assert isinstance(found, ControlPacket) is allowed


@given(packets)
def test_what_was_encoded_decodes_to_the_same(packet: ControlPacket) -> None:
    assert decode(encode(packet)) == packet


@given(packets, st.binary(max_size=20))
def test_bytes_behind_the_length_do_not_matter(packet: ControlPacket, more: bytes) -> None:
    assert decode(encode(packet) + more) == packet


@given(st.binary(max_size=80) | st.binary(max_size=60).map(lambda end: GOOD[:4] + end))
def test_any_bytes_give_a_packet_or_a_reason(data: bytes) -> None:
    assert isinstance(decode(data), ControlPacket | Discard)


def test_a_reserved_diagnostic_keeps_its_number() -> None:
    code = Diagnostic(17)
    assert (code, code.name) == (17, "RESERVED_17")
    assert pickle.loads(pickle.dumps(code)) is code
    with pytest.raises(ValueError, match="32"):
        Diagnostic(32)


@pytest.mark.parametrize(
    "changes", [{"my_discriminator": 2**32}, {"multiplier": 256}, {"desired_min_tx": -1}]
)
def test_what_does_not_fit_is_refused(changes: dict[str, int]) -> None:
    packet = attrs.evolve(ControlPacket(state=State.DOWN, my_discriminator=1), **changes)
    with pytest.raises(SpecError, match=r"section 4\.1"):
        encode(packet)


def test_a_password_is_not_shown() -> None:
    packet = ControlPacket(state=State.DOWN, my_discriminator=1, authentication=b"hush")
    assert "hush" not in repr(packet)
