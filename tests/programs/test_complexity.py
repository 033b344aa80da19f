# SPDX-License-Identifier: Apache-2.0
"""Instructions that the verifier walks, by program and configuration, against a golden file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pycilium.libbpf import ObjectSpec

pytestmark = pytest.mark.root
GOLDEN = Path(__file__).parent / "complexity.txt"
CONFIGURATIONS = {
    "default": {},
    "ipv4 only": {"ipv6": 0},
    "ipv6 only": {"ipv4": 0},
    "without services": {"services": 0},
    "without events": {"events": 0},
    "trace": {"trace": 1, "events": 0},
    "everything": {"trace": 1, "events": 2},
}
GROWTH = 1.2


def measured(spec: ObjectSpec) -> dict[str, int]:
    found = {}
    for name, config in CONFIGURATIONS.items():
        with spec.load(variables={"pcl_config": config}) as loaded:
            for program in loaded.programs.values():
                found[f"{program.name}, {name}"] = program.verified_insns
    return found


def test_no_program_grows_unseen(endpoint_spec: ObjectSpec) -> None:
    """PYCILIUM_UPDATE_GOLDEN=1 writes the file anew; other kernels and compilers differ a little."""
    now = measured(endpoint_spec)
    if os.environ.get("PYCILIUM_UPDATE_GOLDEN"):
        GOLDEN.write_text("".join(f"{count:8} {name}\n" for name, count in now.items()))
    golden = {line[9:]: int(line[:9]) for line in GOLDEN.read_text().splitlines()}
    assert golden.keys() == now.keys()
    grown = {name: (golden[name], n) for name, n in now.items() if n > golden[name] * GROWTH}
    assert not grown, f"grown beyond a fifth: {grown}"


def test_what_is_off_costs_no_instruction(endpoint_spec: ObjectSpec) -> None:
    now = measured(endpoint_spec)
    for program in ("from_endpoint", "to_endpoint"):
        assert now[f"{program}, ipv4 only"] < 0.7 * now[f"{program}, default"]
        assert now[f"{program}, default"] < now[f"{program}, trace"]
    assert now["from_endpoint, without services"] < now["from_endpoint, default"]
