# SPDX-License-Identifier: Apache-2.0
"""One loaded object per test: no case sees another's connections."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from programs.lab import HAIRPIN, HAIRPIN6, Lab, packed
from pycilium.libbpf import ObjectSpec
from pycilium.net import NetNS, links

SMALL = {
    "pcl_ct4": 1024,
    "pcl_ct6": 1024,
    "pcl_services": 64,
    "pcl_slots": 64,
    "pcl_backends": 64,
    "pcl_events": 65536,
}


@pytest.fixture(scope="session")
def endpoint_spec() -> ObjectSpec:
    return ObjectSpec.bundled("endpoint")


@pytest.fixture
def lab(node: NetNS, endpoint_spec: ObjectSpec) -> Iterator[Lab]:
    """Two endpoints that may do anything; `lab.set_policy` narrows that."""
    web, db = links.create_veth("web", "db", ns=node)
    config = {
        "hairpin_ipv4": int.from_bytes(packed(HAIRPIN)[:4], "little"),
        "hairpin_ipv6": packed(HAIRPIN6),
    }
    with endpoint_spec.load(variables={"pcl_config": config}, max_entries=SMALL) as loaded:
        lab = Lab(node, loaded, web.index, db.index, endpoint_spec)
        lab.fill()
        yield lab
