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


DIAGNOSED = {
    "xdp on lo": ("", "PYC-A5 with words"),
    "tc as xdp": ("PYC-A7", "PYC-A7"),
    "cgroup": ("PYC-A7", "PYC-A7"),
    "xdp as tcx": ("PYC-A7", "PYC-A7"),
    "pin": ("PYC-E9", "PYC-E9"),
    "xdp twice": ("PYC-A2", "PYC-A2 with words"),
    "mtu": ("PYC-A1", "PYC-A1 with words"),
}


@pytest.mark.parametrize("series", ["6.1", "6.12"])
def test_failures_are_diagnosed(series: str, tmp_path: Path) -> None:
    """Linux 6.1 has no tracepoint for the words, and does not say what a driver's XDP can."""
    kernel, modules = image.fetch_kernel(series, tmp_path / series)
    console = image.boot(kernel, image.build(modules, tmp_path / "image", ["empty", "xdp_failure"]))
    lines = re.findall(r"^DIAGNOSED ([^:]+): *(.*)$", console.replace("\r", ""), re.MULTILINE)
    place = ["6.1", "6.12"].index(series)
    assert dict(lines) == {name: found[place] for name, found in DIAGNOSED.items()}, console[-4000:]


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
    expected = sum(n * (50 if name == "endpoint" else 1) for name, n in programs.items())
    assert len(results) == expected - len(missing)
