# SPDX-License-Identifier: Apache-2.0
"""Signatures: who is believed, what is an old packet, and that secrets stay secret."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycilium import SpecError
from pycilium.bgp.bfd import (
    Authentication,
    AuthenticationType,
    ControlPacket,
    Settings,
    State,
    decode,
)
from pycilium.bgp.bfd.authentication import Signer, Verifier

PACKET = ControlPacket(state=State.UP, my_discriminator=7, your_discriminator=9)
TYPES = pytest.mark.parametrize("kind", AuthenticationType)
DIGESTS = pytest.mark.parametrize("kind", list(AuthenticationType)[1:])


def sent(signer: Signer, packet: ControlPacket = PACKET) -> ControlPacket:
    found = decode(signer.sign(packet))
    assert isinstance(found, ControlPacket)
    return found


@TYPES
def test_the_same_secret_is_believed_and_another_is_not(kind: AuthenticationType) -> None:
    signer = Signer(Authentication(kind, "right"), 2**32 - 2)  # the number wraps on the way
    verifier = Verifier(Authentication(kind, "right"))
    for _ in range(5):
        assert verifier.accepts(sent(signer))
    assert not Verifier(Authentication(kind, "wrong")).accepts(sent(signer))
    assert not Verifier(Authentication(kind, "right", key_id=2)).accepts(sent(signer))


@TYPES
def test_another_type_is_not_believed(kind: AuthenticationType) -> None:
    packet = sent(Signer(Authentication(kind, "same"), 1))
    for other in AuthenticationType:
        assert Verifier(Authentication(other, "same")).accepts(packet) is (other is kind)


@DIGESTS
def test_a_changed_packet_is_not_believed(kind: AuthenticationType) -> None:
    data = bytearray(Signer(Authentication(kind, "right"), 1).sign(PACKET))
    data[2] = 5
    changed = decode(bytes(data))
    assert isinstance(changed, ControlPacket)
    assert not Verifier(Authentication(kind, "right")).accepts(changed)


@DIGESTS
def test_an_old_packet_is_not_believed(kind: AuthenticationType) -> None:
    signer, verifier = Signer(Authentication(kind, "s"), 1), Verifier(Authentication(kind, "s"))
    old = sent(signer)
    changed = ControlPacket(state=State.DOWN, my_discriminator=7)
    assert verifier.accepts(old)
    assert verifier.accepts(old) is not kind.is_meticulous
    assert verifier.accepts(sent(signer, changed))
    assert not verifier.accepts(old)
    verifier.forget()
    assert verifier.accepts(old)


def test_a_number_too_far_ahead_is_not_believed() -> None:
    proof = Authentication("meticulous-keyed-sha1", "s")
    signer, verifier = Signer(proof, 1), Verifier(proof)
    assert verifier.accepts(sent(signer))
    for _ in range(3 * PACKET.multiplier):
        ahead = sent(signer)
    beyond = sent(signer)
    assert not verifier.accepts(beyond)
    assert verifier.accepts(ahead)


def test_the_digest_is_the_one_of_the_rfc() -> None:
    """SHA-1 over the packet with the key, padded with zeros, where the digest will be."""
    data = Signer(Authentication("keyed-sha1", "secret", key_id=3), 41).sign(PACKET)
    assert data[24:32] == bytes((4, 28, 3, 0)) + (42).to_bytes(4, "big")
    assert data[32:] == hashlib.sha1(data[:32] + b"secret".ljust(20, b"\0")).digest()


@given(st.binary(min_size=2, max_size=40))
def test_any_section_is_judged(section: bytes) -> None:
    packet = ControlPacket(state=State.UP, my_discriminator=7, authentication=section)
    for kind in AuthenticationType:
        assert not Verifier(Authentication(kind, "a secret!")).accepts(packet)


def test_secrets_are_not_shown() -> None:
    proof = Authentication("keyed-md5", "hush")
    assert "hush" not in repr(proof)
    assert "hush" not in repr(Settings(peer="192.0.2.1", authentication=proof))
    with pytest.raises(SpecError) as refused:
        Authentication("keyed-md5", "hush" * 5)
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("keyed-md4", "s"), "keyed-md5 or"),
        (("keyed-md5", ""), "1 to 16 bytes"),
        (("simple-password", "s" * 17), "1 to 16 bytes"),
        (("keyed-sha1", "s" * 21), "1 to 20 bytes"),
        (("keyed-sha1", 5), "1 to 20 bytes"),
    ],
)
def test_what_is_no_authentication(arguments: tuple[str, str], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        Authentication(*arguments)


@pytest.mark.parametrize("key_id", [-1, 256, "1", True])
def test_what_is_no_key_id(key_id: object) -> None:
    with pytest.raises(SpecError, match="from 0 to 255"):
        Authentication("keyed-md5", "s", key_id=key_id)  # type: ignore[arg-type]
