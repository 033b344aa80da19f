# SPDX-License-Identifier: Apache-2.0
"""What a file says, without a kernel."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycilium import SpecError
from pycilium.libbpf import MapType, ObjectSpec, ProgramType
from pycilium.libbpf.btf import Btf
from pycilium.libbpf.codec import BytesCodec, IntCodec


def test_programs_maps_and_variables(spec: ObjectSpec) -> None:
    assert spec.programs["classify"].section == "tc"
    assert spec.programs["drop"].type is ProgramType.XDP
    assert spec.maps["hash"].type is MapType.HASH
    assert (spec.maps["hash"].key_size, spec.maps["hash"].value_size) == (8, 32)
    assert spec.maps["outer"].inner is not None
    assert spec.maps["outer"].inner.max_entries == 4
    assert spec.variables["settings"].value == (5, 9)
    assert spec.variables["limit"].value == 3


def test_enums_and_types_come_from_btf(spec: ObjectSpec) -> None:
    colour = spec.enums["colour"]
    assert (colour.RED, colour.GREEN) == (1, 7)
    value = spec.types["value"].decode(bytes(32))
    assert value.counts == (0, 0)
    with pytest.raises(KeyError):
        spec.types["nothing"]


@given(
    st.integers(-(2**31), 2**31 - 1),
    st.tuples(*[st.integers(0, 2**64 - 1)] * 2),
    st.binary(max_size=4),
)
def test_codecs_round_trip(number: int, counts: tuple[int, int], word: bytes) -> None:
    codec = _value_codec()
    given_value = {"signed_number": number, "counts": counts, "word": word, "colour": 7}
    decoded = codec.decode(codec.encode(given_value))
    assert (decoded.signed_number, decoded.counts, decoded.colour) == (number, counts, 7)
    assert decoded.word.bytes == word.ljust(4, b"\0")
    assert codec.encode(decoded) == codec.encode(given_value)


_CACHE: list[object] = []


def _value_codec() -> object:
    if not _CACHE:
        import tempfile

        from pycilium.libbpf._build import compile_bpf

        with tempfile.TemporaryDirectory() as scratch:
            target = Path(scratch) / "maps.bpf.o"
            compile_bpf(Path(__file__).parent / "programs" / "maps.bpf.c", target)
            _CACHE.append(ObjectSpec.from_file(target).types["value"])
    return _CACHE[0]


@pytest.mark.parametrize(
    ("codec", "value"),
    [
        (IntCodec(1), 256),
        (IntCodec(2), -1),
        (IntCodec(4, signed=True), 2**31),
        (IntCodec(4), "x"),
        (IntCodec(4), b"abc"),
        (BytesCodec(2), b"abc"),
    ],
)
def test_values_that_do_not_fit(codec: object, value: object) -> None:
    with pytest.raises(SpecError):
        codec.encode(value)  # type: ignore[attr-defined]


def test_an_unknown_field_is_named(spec: ObjectSpec) -> None:
    with pytest.raises(SpecError, match=r"value\.colours"):
        spec.types["value"].encode({"colours": 1})


@pytest.mark.parametrize(
    "options",
    [
        {"variables": {"nope": 1}},
        {"variables": {"settings": {"nope": 1}}},
        {"max_entries": {"nope": 1}},
        {"disable_maps": ["nope"]},
        {"disable_programs": ["nope"]},
    ],
)
def test_unknown_names_are_refused_before_the_kernel(spec: ObjectSpec, options: dict) -> None:
    with pytest.raises(SpecError, match="nope"):
        spec.load(**options)


def test_what_is_no_object(tmp_path: Path) -> None:
    path = tmp_path / "x.bpf.o"
    with pytest.raises(SpecError, match="existing"):
        ObjectSpec.from_file(path)
    path.write_bytes(b"not an object")
    with pytest.raises(SpecError, match="BPF object"):
        ObjectSpec.from_file(path)
    with pytest.raises(SpecError, match="endpoint"):
        ObjectSpec.bundled("nothing")


@pytest.mark.parametrize(
    "raw", [b"", b"\0" * 24, struct.pack("<HBBIIIII", 1, 1, 0, 24, 0, 0, 0, 0)]
)
def test_what_is_no_btf(raw: bytes) -> None:
    with pytest.raises(SpecError):
        Btf(raw)


def test_the_object_compiles(compiled: Callable[[str], Path]) -> None:
    assert compiled("rejected").exists()
