# SPDX-License-Identifier: Apache-2.0
"""Audit mode: how it is said, and what a verdict says of it."""

from __future__ import annotations

import pytest

from pycilium import SpecError
from pycilium.policy import Peer, PolicySet, convert, load_manifests


def test_audit_mode_comes_from_an_annotation_or_a_staged_kind() -> None:
    manifest = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: trial, namespace: shop, annotations: {pycilium.io/audit: "true"}}
spec: {podSelector: {}}
---
apiVersion: projectcalico.org/v3
kind: StagedNetworkPolicy
metadata: {name: staged, namespace: shop}
spec: {stagedAction: Set, selector: all(), types: [Ingress]}
---
apiVersion: projectcalico.org/v3
kind: StagedKubernetesNetworkPolicy
metadata: {name: staged-too, namespace: shop}
spec: {stagedAction: Set, podSelector: {}, policyTypes: [Ingress]}
"""
    found = load_manifests(manifest)
    assert [one.audit for one in found] == [True] * 3
    again = load_manifests(convert(found).yaml)
    assert [one.audit for one in again] == [True] * 3
    policies = PolicySet(found)
    one, other = (Peer("shop", {"app": name}) for name in ("web", "db"))
    verdict = policies.verdict(one, other, 80)
    assert verdict.allowed
    assert verdict.audited is not None
    assert verdict.audited.policies == ("trial", "staged", "staged-too")
    with pytest.raises(SpecError, match="one of true, false"):
        load_manifests(manifest.replace('"true"', '"yes"'))
    with pytest.raises(SpecError, match="stagedAction"):
        load_manifests(manifest.replace("stagedAction: Set", "stagedAction: Delete"))
