# SPDX-License-Identifier: Apache-2.0
"""Manifests that are mutated: refused with a SpecError, or read, exported and read the same."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policy.manifests import CONTEXT, EVERY
from pycilium import SpecError
from pycilium.policy import Peer, PolicySet, convert, load_manifests, read_manifests
from pycilium.sources import Text

ODD: list[Any] = [
    None, True, False, 0, -1, 1, 80, 65535, 65536, 2**31, 2**64, 10**30, 1.5, float("nan"), "", " ",
    "*", "a", "x/y/z", "a:b:c", "\u0430pp", "80", "0", "65536", "\uff18\uff10", "\xb2", "9" * 5000,
    "1:30", "web", "WEB", "a\0b", "\x1b[31m", "\u202e", "\U0001f680", "10.0.0.0/8", "10.0.0.1/8",
    "10.0.0.0/255.0.0.0", "::/0", "fe80::1%1", "10.0.0.0/33", "all()", "!(", "((?=a))", "(" * 500,
    "a" * 2000, [], {}, [None], [[]], [{}], {"": ""}, {"a": None}, {"matchLabels": {"a": "b"}},
    {"cidr": "::/0"}, "Allow", "Deny", "Pass", "all", "Egress", "TCP", "SCTP", "ICMPv6",
    "2024-01-01", "<<", "null", "~", "yes",
]  # fmt: skip
MARKS = [
    *"\t\n\r \0[]{}:,-?&*!|>'\"%@`#~<=\\\xe9\ufeff\ud800", "- ", ": ", "---\n", "&a ", "*a",
    "!!int ", "<<: ",
]  # fmt: skip
DOCUMENTS = {name: list(yaml.safe_load_all(text)) for name, text in EVERY.items()}
PEERS = {
    "x/a": Peer("x", {"pod": "a"}, "10.0.0.4", {"web": ("TCP", 8080)}),
    "x/c": Peer("x", {"pod": "c"}, "10.0.1.6"),
    "y/b": Peer("y", {"pod": "b"}, "10.0.0.5", {"web": ("TCP", 8080)}),
    "y/z": Peer("y", {"pod": "z"}, "10.0.0.7"),
    "node": Peer(ip="192.0.2.7"),
    "host": Peer(entity="host"),
    "outside": Peer(ip="192.0.2.77"),
    "six": Peer(ip="2001:db8::1"),
}
PORTS = ["22", "80", "8080", "53/udp", "5/udp", "95", "7/sctp", "8/icmp", "128/icmpv6"]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    inner = value.items() if isinstance(value, dict) else ()
    inner = enumerate(value) if isinstance(value, list) else inner
    for key, one in inner:
        found += places(one, (*path, key))
    return found


PLACES = {
    (name, index): places(document)
    for name, documents in DOCUMENTS.items()
    for index, document in enumerate(documents)
}
KEYS = sorted(
    {key for found in PLACES.values() for path in found for key in path if key == str(key)}
)


def mutate(data: st.DataObject, document: Any, found: list[tuple[Any, ...]]) -> None:
    """Replace, remove, rename or copy one value."""
    path = data.draw(st.sampled_from(found))
    around = document
    for part in path[:-1]:
        if not isinstance(around, (dict, list)) or part not in places_of(around):
            return
        around = around[part]
    last = path[-1]
    if not isinstance(around, (dict, list)) or last not in places_of(around):
        return
    how = data.draw(st.sampled_from(["replace", "replace", "remove", "rename", "add", "wrap"]))
    if how == "replace":
        around[last] = copy.deepcopy(data.draw(st.sampled_from(ODD)))
    elif how == "remove":
        del around[last]
    elif how == "wrap":
        around[last] = [around[last]]
    elif isinstance(around, dict):
        name = data.draw(st.sampled_from([*KEYS, f"{last}s", str(last)[1:]]))
        around[name] = around.pop(last) if how == "rename" else copy.deepcopy(around[last])
    else:
        around.append(copy.deepcopy(around[last]))


def places_of(value: Any) -> Any:
    return value if isinstance(value, dict) else range(len(value))


def table(policies: PolicySet) -> list[tuple[Any, ...]]:
    return [
        (cell.source, cell.destination, str(cell.port), cell.verdict.allowed, cell.verdict.redirect)
        for cell in policies.matrix(PEERS, PORTS)
    ]


def refusal(sources: list[Text]) -> str:
    """What is said of them, "" if they are read; any other exception goes on."""
    try:
        read_manifests(sources)
    except SpecError as error:
        return str(error)
    return ""


def check(text: str) -> None:
    """Invariant P1: what is read means the same after an export; the rest is refused."""
    sources = [Text(text, "f.yaml"), Text(CONTEXT, "context.yaml")]
    said = refusal(sources)
    if said:
        assert said.startswith(("f.yaml", "context.yaml"))
        assert said.isprintable()
        assert len(said) < 3000
        return
    read = PolicySet.from_manifests(sources)
    converted = convert(read.policies)
    if not converted.problems:
        again = PolicySet(load_manifests(Text(converted.yaml, "converted.yaml")), read.cluster)
        assert table(read) == table(again), converted.yaml


@pytest.mark.parametrize("name", list(EVERY))
def test_what_is_mutated_is_valid(name: str) -> None:
    assert not read_manifests(EVERY[name], go_on=True).errors


@pytest.mark.parametrize("name", list(EVERY))
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_values_are_mutated(name: str, data: st.DataObject) -> None:
    documents = copy.deepcopy(DOCUMENTS[name])
    index = data.draw(st.integers(0, len(documents) - 1))
    for _ in range(data.draw(st.integers(1, 3))):
        mutate(data, documents[index], PLACES[name, index])
    check("\n---\n".join(json.dumps(one, indent=1, ensure_ascii=False) for one in documents))


@pytest.mark.parametrize("name", list(EVERY))
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_text_is_mutated(name: str, data: st.DataObject) -> None:
    """Characters that mean something to YAML, where they do not belong."""
    text = EVERY[name]
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 3))
        odd = data.draw(st.sampled_from(MARKS))
        text = text[:at] + odd + text[at + cut :]
    check(text)


def test_every_odd_value_in_every_place() -> None:
    """Not by chance: each value in place of each."""
    for (name, index), found in PLACES.items():
        for path in found:
            for odd in ODD:
                document = copy.deepcopy(DOCUMENTS[name][index])
                around = document
                for part in path[:-1]:
                    around = around[part]
                around[path[-1]] = odd
                text = json.dumps(document, indent=1, ensure_ascii=False)
                assert refusal([Text(text, "f.yaml")]).isprintable()
