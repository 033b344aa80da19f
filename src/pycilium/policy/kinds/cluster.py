# SPDX-License-Identifier: Apache-2.0
"""Manifests that are no policies and that policies speak of."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import attrs

from pycilium.model.labels import Labels
from pycilium.model.selector import Operator, Requirement, Selector
from pycilium.policy.cluster import CidrGroup, Cluster, Node, Service
from pycilium.policy.documents import Node as Document
from pycilium.policy.kinds import fields

CONTEXT_KINDS = ("Namespace", "Service", "Endpoints", "Node", "CiliumCIDRGroup")


def read_context(document: Document, cluster: Cluster) -> Cluster:
    """The cluster with what one document says of it; fields that are not needed are skipped."""
    top = document.mapping()
    metadata = top["metadata"].mapping() if "metadata" in top else {}
    if "name" not in metadata:
        raise document.error("a metadata.name", "no name")
    name = metadata["name"].text()
    labels = _texts(metadata.get("labels"))
    spec = top["spec"].mapping() if "spec" in top else {}
    kind = top["kind"].value
    if kind == "Namespace":
        return attrs.evolve(cluster, namespaces={**cluster.namespaces, name: labels})
    if kind == "CiliumCIDRGroup":
        networks = tuple(map(fields.network, spec["externalCIDRs"].items()))
        group = CidrGroup(name, Labels.of(labels), networks)
        return attrs.evolve(cluster, cidr_groups=(*cluster.cidr_groups, group))
    if kind == "Node":
        node = Node(name, Labels.of(labels), _node_addresses(top))
        return attrs.evolve(cluster, nodes=(*cluster.nodes, node))
    namespace = metadata["namespace"].text() if "namespace" in metadata else "default"
    if kind == "Service":
        service = Service(
            namespace, name, Labels.of(labels), _selector(_texts(spec.get("selector")))
        )
        return _with_service(cluster, service)
    return _with_service(cluster, Service(namespace, name, addresses=_endpoints(top)))


def _texts(node: Document | None) -> dict[str, str]:
    return {key: value.text() for key, value in node.mapping().items()} if node else {}


def _selector(labels: dict[str, str]) -> Selector | None:
    if not labels:
        return None
    return Selector(tuple(Requirement(k, Operator.IN, (v,)) for k, v in labels.items()))


def _node_addresses(top: dict[str, Document]) -> tuple[Any, ...]:
    status = top["status"].mapping() if "status" in top else {}
    rows = [one.mapping() for one in status["addresses"].items()] if "addresses" in status else []
    return tuple(
        _address(row["address"])
        for row in rows
        if row["type"].value in ("InternalIP", "ExternalIP")
    )


def _endpoints(top: dict[str, Document]) -> tuple[Any, ...]:
    rows = [one.mapping() for one in top["subsets"].items()] if "subsets" in top else []
    found = [ip for row in rows if "addresses" in row for ip in row["addresses"].items()]
    return tuple(_address(one.mapping()["ip"]) for one in found)


def _address(node: Document) -> Any:
    try:
        return ip_address(node.text())
    except ValueError as error:
        raise node.error(f"an address ({error})") from None


def _with_service(cluster: Cluster, service: Service) -> Cluster:
    """A Service and its Endpoints are two documents of one thing, in either order."""
    kept, merged = [], service
    for one in cluster.services:
        if (one.namespace, one.name) != (service.namespace, service.name):
            kept.append(one)
            continue
        merged = Service(
            service.namespace,
            service.name,
            service.labels if len(service.labels) else one.labels,
            service.selector or one.selector,
            service.addresses or one.addresses,
        )
    if merged.selector is not None:
        merged = attrs.evolve(merged, addresses=())
    return attrs.evolve(cluster, services=(*kept, merged))
