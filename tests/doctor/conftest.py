# SPDX-License-Identifier: Apache-2.0
"""Programs that the kernel refuses, compiled from a few lines each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pycilium.libbpf import ObjectSpec
from pycilium.libbpf._build import compile_bpf

HEAD = """// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
struct { __uint(type, BPF_MAP_TYPE_HASH); __type(key, __u32); __type(value, __u64);
  __uint(max_entries, 4); } hash SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 65536); } ring SEC(".maps");
"""
LICENSE = 'char _license[] SEC("license") = "{}";\n'


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., ObjectSpec]:
    where = tmp_path_factory.mktemp("programs")
    made: dict[tuple[str, str], Path] = {}

    def compile_one(body: str, licence: str = "GPL") -> ObjectSpec:
        key = (body, licence)
        if key not in made:
            source = where / f"case{len(made)}.bpf.c"
            source.write_text(HEAD + body + "\n" + LICENSE.format(licence))
            made[key] = source.with_suffix(".o")
            compile_bpf(source, made[key])
        return ObjectSpec.from_file(made[key])

    return compile_one
