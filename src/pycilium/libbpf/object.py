# SPDX-License-Identifier: Apache-2.0
"""A loaded object: its maps and programs, each with a descriptor of its own."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any, Self

from pycilium.errors import ConflictError
from pycilium.failure import Failure
from pycilium.libbpf._native import check, ffi, lib, take_messages, text
from pycilium.libbpf.explain import failed_map, failed_program, load_error
from pycilium.libbpf.kinds import MapType
from pycilium.libbpf.map import Map
from pycilium.libbpf.program import Program
from pycilium.libbpf.spec import MapSpec, ObjectSpec, each, open_object, rodata_map, rodata_of

_LOG_SIZE = 16 << 20


class Object:
    """Programs and maps by name; closing it closes them all, pins and links keep theirs."""

    def __init__(self, name: str, maps: dict[str, Map], programs: dict[str, Program]) -> None:
        self.name = name
        self.maps: Mapping[str, Map] = maps
        self.programs: Mapping[str, Program] = programs

    @classmethod
    def load(
        cls,
        spec: ObjectSpec,
        *,
        rodata: Mapping[int, bytes],
        max_entries: Mapping[str, int],
        reuse: Mapping[str, Map],
        disable_maps: Collection[str],
        disable_programs: Collection[str],
    ) -> Object:
        """Use ObjectSpec.load: it checks the names."""
        with open_object(spec.path) as raw:
            _prepare(raw, spec, rodata, max_entries, reuse, disable_maps, disable_programs)
            result = lib.bpf_object__load(raw)
            messages = take_messages()
            if result == 0:
                return cls(spec.name, *_collect(raw, spec))
        raise _explain(
            spec, result, messages, (rodata, max_entries, reuse, disable_maps, disable_programs)
        )

    def close(self) -> None:
        """Close every map and program."""
        for one in (*self.maps.values(), *self.programs.values()):
            one.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Object {self.name}: {', '.join(self.programs)}; {len(self.maps)} maps>"


def _prepare(
    raw: Any,
    spec: ObjectSpec,
    rodata: Mapping[int, bytes],
    max_entries: Mapping[str, int],
    reuse: Mapping[str, Map],
    disable_maps: Collection[str],
    disable_programs: Collection[str],
) -> None:
    for one in each(lib.bpf_object__next_map, raw):
        name = text(lib.bpf_map__name(one))
        if name in max_entries:
            check(lib.bpf_map__set_max_entries(one, max_entries[name]), "resize map", name)
        if name in disable_maps:
            check(lib.bpf_map__set_autocreate(one, False), "disable map", name)
        if name in reuse:
            require_equal(spec.maps[name], reuse[name], max_entries.get(name))
            check(lib.bpf_map__reuse_fd(one, reuse[name].fd), "reuse map", name)
    for program in each(lib.bpf_object__next_program, raw):
        if text(lib.bpf_program__name(program)) in disable_programs:
            lib.bpf_program__set_autoload(program, False)
    if rodata:
        value = bytearray(rodata_of(raw))
        for offset, data in rodata.items():
            value[offset : offset + len(data)] = data
        initial = bytes(value)
        check(
            lib.bpf_map__set_initial_value(rodata_map(raw), initial, len(initial)),
            "set variables of", spec.name,
        )  # fmt: skip


def require_equal(spec: MapSpec, existing: Map, max_entries: int | None = None) -> None:
    """libbpf accepts a map of another value size silently: we do not."""
    wanted = (spec.type, spec.key_size, spec.value_size)
    found = (existing.type, existing.key_size, existing.value_size)
    if max_entries is not None:
        wanted, found = (*wanted, max_entries), (*found, existing.max_entries)  # type: ignore[assignment]
    if wanted != found:
        raise ConflictError(
            f"map {spec.name}: the object needs {_describe(wanted)}, the existing map "
            f"{existing.name} (id {existing.id}) is {_describe(found)}"
        )


def _describe(values: tuple[Any, ...]) -> str:
    kind, key, value, *entries = values
    text = f"{MapType(kind).name.lower()} with keys of {key} and values of {value} bytes"
    return text + (f" and {entries[0]} entries" if entries else "")


def _collect(raw: Any, spec: ObjectSpec) -> tuple[dict[str, Map], dict[str, Program]]:
    maps, programs = {}, {}
    for one in each(lib.bpf_object__next_map, raw):
        fd = lib.bpf_map__fd(one)
        name = text(lib.bpf_map__name(one))
        if fd >= 0:
            maps[name] = Map.from_fd(os.dup(fd), like=spec.maps[name])
    for program in each(lib.bpf_object__next_program, raw):
        fd = lib.bpf_program__fd(program)
        if fd >= 0:
            programs[text(lib.bpf_program__name(program))] = Program.from_fd(os.dup(fd))
    return maps, programs


def _explain(spec: ObjectSpec, number: int, messages: str, settings: tuple[Any, ...]) -> Exception:
    """Load once more, with the verifier's log: it costs time only where something failed."""
    log = ffi.new("char[]", _LOG_SIZE)
    with open_object(spec.path, log, _LOG_SIZE) as raw:
        _prepare(raw, spec, *settings)
        lib.bpf_object__load(raw)
        take_messages()
    text = ffi.string(log).decode(errors="replace")
    return load_error(-number, spec.name, text, messages, _facts(spec, messages, settings[1]))


def _facts(spec: ObjectSpec, messages: str, max_entries: Mapping[str, int]) -> Failure:
    """Of the map or the program that libbpf names."""
    one = spec.maps.get(failed_map(messages))
    if one is not None:
        return Failure(
            object=one.name,
            map_type=one.type.name,
            key_size=one.key_size,
            value_size=one.value_size,
            max_entries=max_entries.get(one.name, one.max_entries),
            flags=one.flags,
        )
    program = spec.programs.get(failed_program(messages))
    return Failure(program_type=program.type.name if program else "")
