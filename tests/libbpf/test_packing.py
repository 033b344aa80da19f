# SPDX-License-Identifier: Apache-2.0
"""A mapping packed in one step has the bytes that its members have one by one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycilium.errors import SpecError
from pycilium.libbpf import ObjectSpec
from pycilium.libbpf.codec import BytesCodec, Field, IntCodec, StructCodec, UnionCodec, packer

ADDRESS = UnionCodec("addr", 16, (Field("bytes", 0, BytesCodec(16)), Field("v4", 0, IntCodec(4))))
FIELDS = (
    Field("addr", 0, ADDRESS),
    Field("port", 16, IntCodec(2)),
    Field("mac", 18, BytesCodec(6)),
    Field("balance", 24, IntCodec(4, signed=True)),
)
CODEC = StructCodec("row", 32, FIELDS)

VALUES = st.fixed_dictionaries(
    {},
    optional={
        "addr": st.binary(max_size=17) | st.fixed_dictionaries({"v4": st.integers(0, 1 << 32)}),
        "port": st.integers(-1, 1 << 16) | st.binary(min_size=2, max_size=2) | st.booleans(),
        "mac": st.binary(max_size=7),
        "balance": st.integers(-(1 << 31) - 1, 1 << 31),
        "unknown": st.just(1),
    },
)


def bytes_or_refusal(encode: Any, value: Any) -> bytes | str:
    try:
        return bytes(encode(value))
    except SpecError as error:
        return str(error)


@given(VALUES)
def test_one_step_is_the_same_as_one_by_one(value: dict[str, Any]) -> None:
    members = bytes_or_refusal(CODEC._encode_members, value)
    assert bytes_or_refusal(CODEC.encode, value) == members


def test_the_usual_value_takes_one_step() -> None:
    value = {"addr": bytes(range(16)), "port": 80, "mac": b"123456", "balance": -1}
    packed = CODEC._pack(value)
    assert packed == bytes(range(16)) + b"\x50\x00" + b"123456" + b"\xff" * 4 + bytes(4)


@pytest.mark.parametrize("wrong", [{"port": 1 << 16}, {"mac": b"1234567"}, {"unknown": 1}])
def test_what_does_not_fit_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        CODEC.encode(wrong)


def test_many_of_a_kind_are_packed_by_position() -> None:
    codec = ObjectSpec.bundled("endpoint").types["pcl_policy_value"]
    assert packer(codec, "verdict", "rule")(1, 7) == codec.encode({"verdict": 1, "rule": 7})
    with pytest.raises(SpecError, match="verdict, rule, in this order"):
        packer(codec, "rule", "verdict")
    with pytest.raises(SpecError, match="a struct"):
        packer(None, "rule")
