# SPDX-License-Identifier: Apache-2.0
"""Manifests that are no policies and that policies speak of."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import attrs

from pycilium.documents import Node as Document
from pycilium.metadata import METADATA, namespace_of
from pycilium.model.labels import Labels
from pycilium.model.selector import Operator, Requirement, Selector
from pycilium.policy.cluster import CidrGroup, Cluster, Node, Service
from pycilium.policy.kinds import fields

CONTEXT_KINDS = ("Namespace", "Service", "Endpoints", "Node", "CiliumCIDRGroup")


class ClusterReader:
    """Collects what documents say of a cluster; fields that are not needed are skipped."""

    def __init__(self) -> None:
        self._namespaces: dict[str, dict[str, str]] = {}
        self._services: dict[tuple[str, str], Service] = {}
        self._groups: list[CidrGroup] = []
        self._nodes: list[Node] = []

    @property
    def cluster(self) -> Cluster:
        """Everything so far."""
        services = tuple(map(_finished, self._services.values()))
        return Cluster(self._namespaces, services, tuple(self._groups), tuple(self._nodes))

    def read(self, document: Document) -> None:
        """One document of CONTEXT_KINDS. Raises SpecError."""
        top = document.mapping()
        metadata = top["metadata"].mapping(*METADATA) if "metadata" in top else {}
        if "name" not in metadata:
            raise document.error("a metadata.name", "no name")
        name, labels = metadata["name"].text(), _labels(metadata.get("labels"))
        spec = top["spec"].mapping() if "spec" in top else {}
        kind = top["kind"].value
        if kind == "Namespace":
            self._namespaces[name] = labels
        elif kind == "CiliumCIDRGroup":
            networks = tuple(map(fields.network, _needed(document, spec, "externalCIDRs").items()))
            self._groups.append(CidrGroup(name, Labels.of(labels), networks))
        elif kind == "Node":
            self._nodes.append(Node(name, Labels.of(labels), _node_addresses(top)))
        else:
            namespace = namespace_of(metadata)
            service = Service(namespace, name, Labels.of(labels))
            if kind == "Service":
                service = attrs.evolve(service, selector=_selector(spec.get("selector")))
            else:
                service = attrs.evolve(service, addresses=_endpoints(top))
            self._add(service)

    def _add(self, service: Service) -> None:
        """A Service and its Endpoints are two documents of one thing, in either order."""
        key = (service.namespace, service.name)
        one = self._services.pop(key, service)
        self._services[key] = Service(
            service.namespace,
            service.name,
            service.labels if len(service.labels) else one.labels,
            service.selector or one.selector,
            service.addresses or one.addresses,
        )


def _finished(service: Service) -> Service:
    """What is selected is found by the selector; addresses are of services without one."""
    return service if service.selector is None else attrs.evolve(service, addresses=())


def _needed(around: Document, parts: dict[str, Document], key: str) -> Document:
    if key not in parts:
        raise around.error(f"a field {key}", f"no {key}")
    return parts[key]


def _labels(node: Document | None) -> dict[str, str]:
    found = node.mapping().items() if node is not None else ()
    return {fields.label_key(value, key): fields.label_value(value) for key, value in found}


def _selector(node: Document | None) -> Selector | None:
    labels = _labels(node)
    if not labels:
        return None
    return Selector(tuple(Requirement(k, Operator.IN, (v,)) for k, v in labels.items()))


def _node_addresses(top: dict[str, Document]) -> tuple[Any, ...]:
    status = top["status"].mapping() if "status" in top else {}
    found = []
    for row in status["addresses"].items() if "addresses" in status else ():
        parts = row.mapping()
        if _needed(row, parts, "type").value in ("InternalIP", "ExternalIP"):
            found.append(_address(_needed(row, parts, "address")))
    return tuple(found)


def _endpoints(top: dict[str, Document]) -> tuple[Any, ...]:
    rows = [one.mapping() for one in top["subsets"].items()] if "subsets" in top else []
    found = [ip for row in rows if "addresses" in row for ip in row["addresses"].items()]
    return tuple(_address(_needed(one, one.mapping(), "ip")) for one in found)


def _address(node: Document) -> Any:
    try:
        return ip_address(node.text())
    except ValueError:
        raise node.error("an address, as in 10.0.0.4") from None
