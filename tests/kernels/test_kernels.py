# SPDX-License-Identifier: Apache-2.0
"""Debian's other kernels, booted under QEMU: every program loads, verifies and attaches there."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from kernels import image
from pycilium.libbpf import ObjectSpec

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
OBJECTS = sorted(
    p.name.removesuffix(".bpf.o") for p in (image.ROOT / "src/pycilium/_objects").iterdir()
)


@pytest.mark.parametrize(("series", "hook"), [("6.1", "clsact"), ("6.12", "tcx")])
def test_every_program_in_every_configuration(series: str, hook: str, tmp_path: Path) -> None:
    for tool in ("qemu-system-x86_64", "busybox", "cpio", "depmod", "xz"):
        assert shutil.which(tool), f"{tool} is missing: make test-kernels installs it"
    kernel, modules = image.fetch_kernel(series, tmp_path / series)
    archive = image.build(modules, tmp_path / "image", OBJECTS)
    console = image.boot(kernel, archive)
    lines = console.replace("\r", "").splitlines()
    assert "DONE" in lines, console[-4000:]
    (booted,) = re.findall(r"KERNEL (\S+) (\S+)", console)
    assert booted[0].startswith(f"{series}.")
    assert booted[1] == hook
    results = [line for line in lines if "RESULT ok " in line]
    missing = {line.split()[-1] for line in lines if "LEFT OUT " in line}
    assert missing == ({"destroy_tcp", "destroy_udp"} if series == "6.1" else set())
    programs = {name: len(ObjectSpec.bundled(name).programs) for name in OBJECTS}
    expected = sum(n * (48 if name == "endpoint" else 1) for name, n in programs.items())
    assert len(results) == expected - len(missing)
