# SPDX-License-Identifier: Apache-2.0
"""Manifests of every kind to policies, and to what is known of the cluster around them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator

import attrs

from pycilium.documents import Node
from pycilium.errors import SpecError
from pycilium.metadata import METADATA, namespace_of
from pycilium.model.policy import Policy
from pycilium.policy.cluster import Cluster
from pycilium.policy.kinds import calico, cilium, kubernetes
from pycilium.policy.kinds.cluster import CONTEXT_KINDS, ClusterReader
from pycilium.policy.kinds.fields import Context
from pycilium.sources import Source, documents_of

Reader = Callable[[Node, Context], Iterable[Policy]]


AUDIT_ANNOTATION = "pycilium.io/audit"  # "true": the policy is in audit mode


@attrs.frozen
class _Kind:
    read: Reader
    versions: tuple[str, ...]
    namespaced: bool
    specs: bool = False
    staged: bool = False


_CALICO = ("projectcalico.org/v3", "crd.projectcalico.org/v1")
_KINDS: dict[tuple[str, str], _Kind] = {}
for _name, _kind in (
    ("CiliumNetworkPolicy", _Kind(cilium.policy, ("cilium.io/v2",), True, True)),
    ("CiliumClusterwideNetworkPolicy", _Kind(cilium.policy, ("cilium.io/v2",), False, True)),
    ("NetworkPolicy", _Kind(kubernetes.network_policy, ("networking.k8s.io/v1",), True)),
    (
        "ClusterNetworkPolicy",
        _Kind(kubernetes.cluster_network_policy, ("policy.networking.k8s.io/v1alpha2",), False),
    ),
    ("NetworkPolicy", _Kind(calico.policy, _CALICO, True)),
    ("GlobalNetworkPolicy", _Kind(calico.policy, _CALICO, False)),
    ("StagedNetworkPolicy", _Kind(calico.policy, _CALICO, True, staged=True)),
    ("StagedGlobalNetworkPolicy", _Kind(calico.policy, _CALICO, False, staged=True)),
    (
        "StagedKubernetesNetworkPolicy",
        _Kind(kubernetes.network_policy, _CALICO, True, staged=True),
    ),
):
    for _version in _kind.versions:
        _KINDS[_version, _name] = _kind


@attrs.frozen
class Manifests:
    """What was read: policies, what they speak of, and the documents that are wrong.

    others: how many documents were left out because policies do not speak of their kind.
    """

    policies: tuple[Policy, ...]
    cluster: Cluster
    errors: tuple[SpecError, ...] = ()
    others: int = 0


def load_manifests(source: Source | Iterable[Source]) -> list[Policy]:
    """Policies of a file, of a directory's YAML and JSON files, of a text, or of dicts.

    A text is told from a path by a line break or a brace. Raises SpecError with file:line.
    """
    return list(read_manifests(source).policies)


def read_manifests(source: Source | Iterable[Source], *, go_on: bool = False) -> Manifests:
    """Everything that manifests say. go_on: collect errors in place of raising the first."""
    found: list[Policy] = []
    cluster, others = ClusterReader(), 0
    errors: list[SpecError] = []
    collected = errors if go_on else None
    for document in documents_of(source, collected):
        try:
            if _is_other(document):
                others += 1
                continue
            found += _read(document, cluster)
        except SpecError as error:
            if not go_on:
                raise
            errors.append(error)
    return Manifests(tuple(found), cluster.cluster, tuple(errors), others)


def _is_other(document: Node) -> bool:
    """A whole document of an API that has no kind read here: a Deployment beside its policies.

    What is of such an API, or is called nearly like a kind that is read, is more likely a mistake.
    """
    top = document.mapping()
    version = top["apiVersion"].value if "apiVersion" in top else None
    kind = top["kind"].value if "kind" in top else None
    if not isinstance(version, str) or not isinstance(kind, str) or not kind:
        return False
    names = {name for _, name in _KINDS} | set(CONTEXT_KINDS)
    group = version.rpartition("/")[0]
    if group and any(group == one.rpartition("/")[0] for one, _ in _KINDS):
        return False
    return kind not in names and not difflib.get_close_matches(kind, names, n=1, cutoff=0.8)


def _read(document: Node, cluster: ClusterReader) -> list[Policy]:
    top = document.mapping()
    if "kind" in top and top["kind"].value in CONTEXT_KINDS:
        cluster.read(document)
        return []
    return list(_policies(document, top))


def _policies(document: Node, top: dict[str, Node]) -> Iterator[Policy]:
    known = _kind_of(document, top)
    top = document.mapping("apiVersion", "kind", "metadata", "spec", "specs", "status")
    context = _context(document, top, known)
    specs = [top["spec"]] if "spec" in top else []
    if "specs" in top:
        if not known.specs:
            raise top["specs"].error("a spec", "specs")
        specs += top["specs"].items()
    if not specs:
        raise document.error("a spec", "no spec")
    audit = known.staged or _is_audited(top)
    for spec in specs:
        for policy in known.read(_without_stage(spec) if known.staged else spec, context):
            yield attrs.evolve(policy, audit=True) if audit else policy


def _kind_of(document: Node, top: dict[str, Node]) -> _Kind:
    names = list(dict.fromkeys(name for _, name in _KINDS))
    if "kind" not in top:
        raise document.error(f"a kind: one of {', '.join(names)}", "no kind")
    kind = top["kind"].one_of([*names, *CONTEXT_KINDS])
    versions = [version for version, name in _KINDS if name == kind]
    if "apiVersion" not in top:
        return _KINDS[versions[0], kind]
    return _KINDS[top["apiVersion"].one_of(versions), kind]


def _context(document: Node, top: dict[str, Node], known: _Kind) -> Context:
    metadata = top["metadata"].mapping(*METADATA) if "metadata" in top else {}
    name = metadata["name"].text() if "name" in metadata else "unnamed"
    if not name:
        raise metadata["name"].error("a name")
    if known.namespaced:
        return Context(name, namespace_of(metadata), document.file)
    if "namespace" in metadata:
        raise metadata["namespace"].error("no namespace: this kind is of the whole cluster")
    return Context(name, None, document.file)


def _without_stage(spec: Node) -> Node:
    """A staged policy that would be deleted has nothing to audit."""
    fields = dict(spec.mapping())
    stage = fields.pop("stagedAction", None)
    if stage is not None:
        stage.one_of(["Set"])
    return attrs.evolve(spec, value=fields)


def _is_audited(top: dict[str, Node]) -> bool:
    """By its annotation, which is text as all annotations are."""
    metadata = top["metadata"].mapping() if "metadata" in top else {}
    annotations = metadata["annotations"].mapping() if "annotations" in metadata else {}
    if AUDIT_ANNOTATION not in annotations:
        return False
    return annotations[AUDIT_ANNOTATION].one_of(["true", "false"]) == "true"
