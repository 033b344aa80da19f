# SPDX-License-Identifier: Apache-2.0
"""Which labels count, and what a filter would do to identities and verdicts."""

from __future__ import annotations

import pytest

from pycilium import SpecError
from pycilium.model import LabelFilter, Labels
from pycilium.policy import Peer, PolicySet

POD = Labels.of_pod(
    {"app": "web", "version": "2", "pod-template-hash": "abc"}, "shop",
    namespace_labels={"team": "a"}, named_ports={"http": ("TCP", 80)},
)  # fmt: skip


def keys(patterns: str) -> set[str]:
    return {one.key for one in LabelFilter(patterns).apply(POD)} & {
        "app", "version", "pod-template-hash", "http", "io.kubernetes.pod.namespace",
        "io.cilium.k8s.namespace.labels.team",
    }  # fmt: skip


ALWAYS = {"http", "io.kubernetes.pod.namespace"}
OF_CLUSTER = ALWAYS | {"io.cilium.k8s.namespace.labels.team"}


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        ("", OF_CLUSTER | {"app", "version", "pod-template-hash"}),
        ("app", OF_CLUSTER | {"app"}),
        ("k8s:a*,!version", OF_CLUSTER | {"app"}),
        ("!pod-template-hash", OF_CLUSTER | {"app", "version"}),
        ("app,!app", OF_CLUSTER),
        ("app,!io.cilium.*", ALWAYS | {"app"}),
        ("!*", ALWAYS),
        ("cidr:app", OF_CLUSTER),
    ],
)
def test_patterns(patterns: str, left: set[str]) -> None:
    assert keys(patterns) == left


def test_what_controllers_make_new_does_not_count() -> None:
    assert "pod-template-hash" not in {one.key for one in LabelFilter.kubernetes().apply(POD)}


@pytest.mark.parametrize("bad", ["!", "a b", "app=web", "x" * 300, ["app", 1]])
def test_bad_patterns(bad: str) -> None:
    with pytest.raises(SpecError, match="label_filter"):
        LabelFilter(bad)


def test_the_effect_names_merges_and_changed_verdicts() -> None:
    policies = PolicySet.from_manifests(
        "kind: NetworkPolicy\nmetadata: {name: v2-only, namespace: shop}\n"
        "spec: {podSelector: {matchLabels: {app: db}}, "
        "ingress: [{from: [{podSelector: {matchLabels: {version: '2'}}}]}]}\n"
    )
    peers = {
        "old": Peer("shop", {"app": "web", "version": "1"}),
        "new": Peer("shop", {"app": "web", "version": "2"}),
        "db": Peer("shop", {"app": "db"}),
        "outside": Peer(ip="192.0.2.1"),
    }
    effect = policies.label_effect(LabelFilter("app"), peers, [80])
    assert (effect.before, effect.after) == (3, 2)
    assert [one.peers for one in effect.merges] == [("old", "new")]
    assert [(one.after.source, one.after.destination) for one in effect.difference.closed] == [
        ("new", "db")
    ]
    assert not effect.difference.opened
    assert not policies.label_effect(LabelFilter("app,version"), peers, [80]).merges
