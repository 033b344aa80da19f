# SPDX-License-Identifier: Apache-2.0
"""Policies without a kernel: read manifests, evaluate them, compile them to map entries."""

from __future__ import annotations

from pycilium.policy.cidr import named_prefixes, prefix_labels
from pycilium.policy.evaluate import Subject, evaluate
from pycilium.policy.parse import load_manifests
from pycilium.policy.resolve import PolicyEntry, resolve

__all__ = [
    "PolicyEntry",
    "Subject",
    "evaluate",
    "load_manifests",
    "named_prefixes",
    "prefix_labels",
    "resolve",
]
