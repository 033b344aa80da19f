# SPDX-License-Identifier: Apache-2.0
"""Programs of the tests' own, compiled once a session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pycilium.libbpf import Object, ObjectSpec
from pycilium.libbpf._build import compile_bpf

PROGRAMS = Path(__file__).parent / "programs"


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    target = tmp_path_factory.mktemp("objects")

    def compile_one(name: str) -> Path:
        path = target / f"{name}.bpf.o"
        if not path.exists():
            compile_bpf(PROGRAMS / f"{name}.bpf.c", path)
        return path

    return compile_one


@pytest.fixture
def spec(compiled: Callable[[str], Path]) -> ObjectSpec:
    return ObjectSpec.from_file(compiled("maps"))


@pytest.fixture
def loaded(spec: ObjectSpec, no_leaks: None) -> Iterator[Object]:
    with spec.load() as obj:
        yield obj
