# SPDX-License-Identifier: Apache-2.0
"""Policies without a kernel: read manifests, evaluate them, compile them to map entries."""

from __future__ import annotations

from pycilium.policy.cidr import PrefixIndex, named_prefixes, prefix_labels
from pycilium.policy.cluster import CidrGroup, Cluster, Node, Service
from pycilium.policy.compiler import Compiler
from pycilium.policy.difference import Difference
from pycilium.policy.dns import DnsCache
from pycilium.policy.evaluate import Evaluator, Subject, evaluate
from pycilium.policy.export import Converted, convert
from pycilium.policy.lint import Finding
from pycilium.policy.matrix import Matrix
from pycilium.policy.parse import Manifests, load_manifests, read_manifests
from pycilium.policy.peer import Peer
from pycilium.policy.policy_set import PolicySet, Question
from pycilium.policy.resolve import PolicyEntry, resolve
from pycilium.policy.suggest import Suggestion
from pycilium.policy.universe import Universe

__all__ = [
    "CidrGroup",
    "Cluster",
    "Compiler",
    "Converted",
    "Difference",
    "DnsCache",
    "Evaluator",
    "Finding",
    "Manifests",
    "Matrix",
    "Node",
    "Peer",
    "PolicyEntry",
    "PolicySet",
    "PrefixIndex",
    "Question",
    "Service",
    "Subject",
    "Suggestion",
    "Universe",
    "convert",
    "evaluate",
    "load_manifests",
    "named_prefixes",
    "prefix_labels",
    "read_manifests",
    "resolve",
]
