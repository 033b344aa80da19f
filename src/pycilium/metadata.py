# SPDX-License-Identifier: Apache-2.0
"""The metadata that every object of Kubernetes has."""

from __future__ import annotations

import re

from pycilium.documents import Node

METADATA = (
    "name", "namespace", "labels", "annotations", "generateName", "selfLink", "uid",
    "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp",
    "deletionGracePeriodSeconds", "ownerReferences", "finalizers", "managedFields",
)  # fmt: skip
_NAMESPACE = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")


def namespace_of(metadata: dict[str, Node]) -> str:
    """Of a document that has one."""
    if "namespace" not in metadata:
        return "default"
    name = metadata["namespace"].text()
    if not _NAMESPACE.fullmatch(name):
        raise metadata["namespace"].error("a namespace's name as in RFC 1123: a-z, 0-9 and -")
    return name
