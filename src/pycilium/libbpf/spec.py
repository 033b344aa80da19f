# SPDX-License-Identifier: Apache-2.0
"""What an object file holds, before any kernel: programs, maps, variables, types.

Needs no privileges; the same file gives the same spec everywhere.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from pycilium.errors import SpecError
from pycilium.libbpf._native import check_pointer, ffi, lib, take_messages, text
from pycilium.libbpf.btf import Btf, Kind
from pycilium.libbpf.codec import Codec
from pycilium.libbpf.kinds import MapType, ProgramType

if TYPE_CHECKING:
    from pycilium.libbpf.map import Map
    from pycilium.libbpf.object import Object


@attrs.frozen
class ProgramSpec:
    """A program before load: its section says where it attaches."""

    name: str
    section: str
    type: ProgramType
    instructions: int


@attrs.frozen
class MapSpec:
    """A map before creation; sizes in bytes, codecs from BTF (None where it has none)."""

    name: str
    type: MapType
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    key: Codec | None = attrs.field(repr=False)
    value: Codec | None = attrs.field(repr=False)
    inner: MapSpec | None = attrs.field(default=None, repr=False)
    internal: bool = False


@attrs.frozen
class VariableSpec:
    """A constant of .rodata that load() may set."""

    name: str
    offset: int
    type: Codec = attrs.field(repr=False)
    value: Any


class ObjectSpec:
    """One BPF object file; load() makes an Object of it, as often as wanted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name.split(".")[0]
        with open_object(path) as raw:
            self._btf = _read_btf(raw)
            self.programs: Mapping[str, ProgramSpec] = {p.name: p for p in _programs(raw)}
            self.maps: Mapping[str, MapSpec] = {m.name: m for m in _maps(raw, self._btf)}
            self.variables: Mapping[str, VariableSpec] = {
                v.name: v for v in _variables(raw, self._btf)
            }
        self.enums = _Lookup(self._btf.enum)
        self.types = _Lookup(lambda name: self._btf.codec(self._btf.find(name).id))

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> ObjectSpec:
        """Read an object that clang made; SpecError where it is none."""
        return cls(Path(path))

    @classmethod
    def bundled(cls, name: str) -> ObjectSpec:
        """One of pycilium's own objects, by the name of its source."""
        return _bundled(name)

    def __repr__(self) -> str:
        return (
            f"<ObjectSpec {self.name}: {len(self.programs)} programs, {len(self.maps)} maps, "
            f"{len(self.variables)} variables>"
        )

    def load(
        self,
        *,
        variables: Mapping[str, Any] | None = None,
        max_entries: Mapping[str, int] | None = None,
        reuse: Mapping[str, Map] | None = None,
        disable_maps: Collection[str] = (),
        disable_programs: Collection[str] = (),
    ) -> Object:
        """Create the maps and have the kernel verify the programs.

        variables: new values; of a struct, the named fields change and the others stay.
        reuse: maps that exist already; another type or size is a ConflictError.
        Raises SpecError for a name that the object lacks, VerifierError, MapFullError,
        PermissionDeniedError and KernelError.
        """
        from pycilium.libbpf.object import Object

        for field, names, known in (
            ("variables", variables or {}, self.variables),
            ("max_entries", max_entries or {}, self.maps),
            ("reuse", reuse or {}, self.maps),
            ("disable_maps", disable_maps, self.maps),
            ("disable_programs", disable_programs, self.programs),
        ):
            for one in names:
                if one not in known:
                    raise SpecError(field, one, f"one of {', '.join(known)}")
        return Object.load(
            self,
            rodata=self.rodata(variables or {}),
            max_entries=max_entries or {},
            reuse=reuse or {},
            disable_maps=disable_maps,
            disable_programs=disable_programs,
        )

    def maps_beside(self, names: Collection[str]) -> list[str]:
        """The maps that load() may leave out where the programs use only these."""
        return [n for n, one in self.maps.items() if not one.internal and n not in names]

    def rodata(self, variables: Mapping[str, Any]) -> dict[int, bytes]:
        """Offset to bytes of the variables that change."""
        changed = {}
        for name, value in variables.items():
            spec = self.variables[name]
            changed[spec.offset] = spec.type.encode(_merge(spec, value))
        return changed


class _Lookup(Mapping[str, Any]):
    """Types by name, made on first use."""

    def __init__(self, make: Any) -> None:
        self._make = cache(make)

    def __getitem__(self, name: str) -> Any:
        return self._make(name)

    def __iter__(self) -> Iterator[str]:
        raise TypeError("types are looked up by name, not listed")

    def __len__(self) -> int:
        return 0


def _merge(spec: VariableSpec, value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    unknown = set(value) - set(spec.value._fields)
    if unknown:
        name = min(unknown)
        allowed = f"one of {', '.join(spec.value._fields)}"
        raise SpecError(f"{spec.name}.{name}", value[name], allowed)
    return spec.value._replace(**value)


@cache
def _bundled(name: str) -> ObjectSpec:
    path = Path(str(files("pycilium") / "_objects" / f"{name}.bpf.o"))
    if not path.exists():
        have = sorted(p.name.removesuffix(".bpf.o") for p in path.parent.glob("*.bpf.o"))
        raise SpecError("name", name, f"one of {', '.join(have)}" if have else "a built package")
    return ObjectSpec(path)


@contextmanager
def open_object(path: Path, log: Any = None, log_size: int = 0) -> Iterator[Any]:
    """libbpf's own object, closed at the end."""
    if not path.is_file():
        raise SpecError("path", str(path), "an existing BPF object file")
    lib.pcl_messages_clear()
    level = 1 if log is not None else 0
    raw = lib.pcl_object_open(os.fsencode(path), log or ffi.NULL, log_size, level)
    messages = take_messages()
    if raw == ffi.NULL:
        raise SpecError("path", str(path), f"a BPF object file; libbpf says: {messages.strip()}")
    try:
        yield raw
    finally:
        lib.bpf_object__close(raw)


def each(first: Any, raw: Any) -> Iterator[Any]:
    """libbpf's lists: bpf_object__next_program, bpf_object__next_map."""
    one = first(raw, ffi.NULL)
    while one != ffi.NULL:
        yield one
        one = first(raw, one)


def _read_btf(raw: Any) -> Btf:
    btf = check_pointer(lib.bpf_object__btf(raw), "read", "BTF")
    size = ffi.new("__u32 *")
    data = lib.btf__raw_data(btf, size)
    return Btf(bytes(ffi.buffer(data, size[0])))


def _programs(raw: Any) -> Iterator[ProgramSpec]:
    for program in each(lib.bpf_object__next_program, raw):
        yield ProgramSpec(
            text(lib.bpf_program__name(program)),
            text(lib.bpf_program__section_name(program)),
            ProgramType(lib.pcl_program_type(program)),
            lib.bpf_program__insn_cnt(program),
        )


def _maps(raw: Any, btf: Btf) -> Iterator[MapSpec]:
    for one in each(lib.bpf_object__next_map, raw):
        yield _map_spec(one, btf)


def _map_spec(one: Any, btf: Btf) -> MapSpec:
    inner = lib.bpf_map__inner_map(one)
    return MapSpec(
        text(lib.bpf_map__name(one)),
        MapType(lib.pcl_map_type(one)),
        lib.bpf_map__key_size(one),
        lib.bpf_map__value_size(one),
        lib.bpf_map__max_entries(one),
        lib.bpf_map__map_flags(one),
        _codec(btf, lib.bpf_map__btf_key_type_id(one)),
        _codec(btf, lib.bpf_map__btf_value_type_id(one)),
        None if inner == ffi.NULL else _map_spec(inner, btf),
        bool(lib.bpf_map__is_internal(one)),
    )


def _codec(btf: Btf, type_id: int) -> Codec | None:
    if not type_id or btf.resolve(type_id).kind == Kind.DATASEC:
        return None
    return btf.codec(type_id)


def _variables(raw: Any, btf: Btf) -> Iterator[VariableSpec]:
    section = btf.by_name.get((Kind.DATASEC, ".rodata"))
    if section is None:
        return
    initial = rodata_of(raw)
    for member in section.members:
        variable = btf.types[member.type_id]
        codec = btf.codec(variable.size)
        yield VariableSpec(
            variable.name, member.offset, codec, codec.decode(initial, member.offset)
        )


def rodata_map(raw: Any) -> Any:
    """libbpf's map behind .rodata, or None."""
    for one in each(lib.bpf_object__next_map, raw):
        if text(lib.bpf_map__name(one)).endswith(".rodata"):
            return one
    return None


def rodata_of(raw: Any) -> bytes:
    """The bytes of .rodata as compiled."""
    size = ffi.new("size_t *")
    value = lib.bpf_map__initial_value(rodata_map(raw), size)
    return bytes(ffi.buffer(value, size[0]))
