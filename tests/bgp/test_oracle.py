# SPDX-License-Identifier: Apache-2.0
"""Our encoder read by ExaBGP's message classes, and by ours: both must find the same."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bgp import strategies
from bgp.test_codec import SESSION, bodies
from pycilium.bgp.as_path import SegmentType
from pycilium.bgp.attributes import Attributes
from pycilium.bgp.encode import encode_reach, encode_unreach
from pycilium.bgp.family import Family
from pycilium.bgp.prefix import address_text, prefix_text
from pycilium.bgp.update import UpdateDecoder

_ORIGINS = ("igp", "egp", "incomplete")
_SEGMENTS = {SegmentType.SEQUENCE: "as-sequence", SegmentType.SET: "as-set"}


class Oracle:
    def __init__(self) -> None:
        script = Path(__file__).with_name("exabgp_oracle.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def read(self, body: bytes) -> dict[str, object]:
        self.process.stdin.write(body.hex() + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def oracle() -> Iterator[Oracle]:
    one = Oracle()
    yield one
    one.close()


def in_its_words(one: Attributes) -> dict[str, object]:
    path = {
        str(n): {"element": _SEGMENTS[kind], "value": list(numbers)}
        for n, (kind, numbers) in enumerate(one.as_path.segments)
    }
    found = {
        "origin": _ORIGINS[one.origin],
        "as-path": path,
        "med": one.med,
        "atomic-aggregate": one.atomic_aggregate or None,
        "aggregator": one.aggregator and f"{one.aggregator[0]}:{address_text(one.aggregator[1])}",
        "community": [[c >> 16, c & 0xFFFF] for c in one.communities],
        "large-community": [list(c) for c in one.large_communities],
        "extended-community": [int.from_bytes(c, "big") for c in one.extended_communities],
    }
    return {name: value for name, value in found.items() if value not in (None, [])}


def theirs(answer: dict[str, object]) -> dict[str, object]:
    found = dict(answer["attributes"])
    if "extended-community" in found:
        found["extended-community"] = [one["value"] for one in found["extended-community"]]
    if "aggregator" in found:
        found["aggregator"] = found["aggregator"].removeprefix("AS")
    return found


LAX = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
plain = strategies.attributes.map(lambda one: attrs.evolve(one, otc=None, unknown=()))


@LAX
@given(plain, strategies.routers6, st.sampled_from(Family), st.data())
def test_both_read_the_same_routes(oracle, one, hop, family, data):
    if family is Family.IPV6:
        one = attrs.evolve(one, next_hop=hop)
    some = data.draw(st.lists(strategies.prefixes(family), min_size=1, max_size=9, unique=True))
    ((_, body),) = bodies(list(encode_reach(family, one, some)))
    answer = oracle.read(body)
    assert answer.get("error") is None
    ((_, ours, attributes),) = UpdateDecoder(SESSION).decode(body).announced
    texts = sorted(prefix_text(family, prefix) for prefix in ours)
    assert answer["prefixes"] == texts
    assert theirs(answer) == in_its_words(attributes) == in_its_words(one)


@LAX
@given(st.sampled_from(Family), st.data())
def test_both_read_the_same_withdrawals(oracle, family, data):
    some = data.draw(st.lists(strategies.prefixes(family), min_size=1, max_size=9, unique=True))
    ((_, body),) = bodies(list(encode_unreach(family, some)))
    answer = oracle.read(body)
    assert answer["prefixes"] == sorted(prefix_text(family, prefix) for prefix in some)
