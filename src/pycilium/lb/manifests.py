# SPDX-License-Identifier: Apache-2.0
"""Services of Kubernetes to ServiceLB values: Service with EndpointSlice or Endpoints."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address

import attrs

from pycilium.documents import Node
from pycilium.errors import SpecError
from pycilium.lb.frontends import Around, frontends
from pycilium.lb.kubernetes import Endpoint, Service, read_endpoints, read_service, read_slice
from pycilium.model.frontend import Backend, BackendState, Frontend
from pycilium.model.service import ServiceLB
from pycilium.sources import Source, documents_of

NODE_PORTS = range(30000, 32768)
_VERSIONS = {"Service": ("v1",), "Endpoints": ("v1",), "EndpointSlice": ("discovery.k8s.io/v1",)}


@attrs.frozen
class ServiceManifests:
    """What was read, and the documents that are wrong.

    others: how many documents were left out because they are of other kinds.
    """

    services: tuple[ServiceLB, ...]
    errors: tuple[SpecError, ...] = ()
    others: int = 0


def load_services(source: Source | Iterable[Source]) -> list[ServiceLB]:
    """Services of files, folders, texts or dicts. Raises SpecError with file:line."""
    return list(read_services(source).services)


def read_services(
    source: Source | Iterable[Source],
    *,
    node_addresses: Sequence[IPv4Address | IPv6Address] = (),
    node_ports: range = NODE_PORTS,
    go_on: bool = False,
) -> ServiceManifests:
    """One ServiceLB for each address, port and kind of every Service, by its name.

    node_addresses: where node ports are served; none: 0.0.0.0 and [::], every address of the node.
    node_ports: which are allowed. go_on: collect errors in place of raising the first; what one is
    about is left out, and the others stay. A headless service has no frontends.
    Raises SpecError with file, line, path, value and what is allowed.
    """
    errors: list[SpecError] = []
    reader = _Reader(errors if go_on else None)
    for document in documents_of(source, errors if go_on else None):
        reader.read(document)
    around = Around(tuple(node_addresses), node_ports)
    return ServiceManifests(tuple(reader.services(around)), tuple(errors), reader.others)


class _Reader:
    """Collects documents in any order; what belongs together has the same name."""

    def __init__(self, errors: list[SpecError] | None) -> None:
        self.others = 0
        self._errors = errors
        self._services: dict[str, Service] = {}
        self._slices: dict[str, list[Endpoint]] = defaultdict(list)
        self._endpoints: dict[str, list[Endpoint]] = defaultdict(list)

    def read(self, document: Node) -> None:
        """One document."""
        self._attempt(lambda: self._read(document))

    def services(self, around: Around) -> list[ServiceLB]:
        """Everything that was read, each frontend once."""
        found: dict[Frontend, ServiceLB] = {}
        for service in self._services.values():
            self._attempt(lambda one=service: self._add(found, one, around))  # type: ignore[misc]
        return list(found.values())

    def _attempt(self, work: Callable[[], None]) -> None:
        try:
            work()
        except SpecError as error:
            if self._errors is None:
                raise
            self._errors.append(error)

    def _read(self, document: Node) -> None:
        kind = _kind_of(document)
        if kind is None:
            self.others += 1
        elif kind == "Service":
            service = read_service(document)
            if service.name in self._services:
                raise document.error("each service once", service.name)
            self._services[service.name] = service
        else:
            read, into = (
                (read_slice, self._slices)
                if kind == "EndpointSlice"
                else (read_endpoints, self._endpoints)
            )
            name, endpoints = read(document)
            into[name] += endpoints

    def _add(self, found: dict[Frontend, ServiceLB], service: Service, around: Around) -> None:
        """All of a service or, where something is wrong, none of it."""
        endpoints = self._slices.get(service.name) or self._endpoints.get(service.name, [])
        fresh: dict[Frontend, ServiceLB] = {}
        for port, frontend, options in frontends(service, around):
            if frontend in found or frontend in fresh:
                holder = (found.get(frontend) or fresh[frontend]).name
                allowed = f"one service for each frontend; {holder} has it"
                raise port.node.error(allowed, str(frontend))
            family = frontend.address.version
            backends = _backends(service, endpoints, port.name, frontend.protocol, family)
            name = f"{service.name}:{port.name}" if port.name else service.name
            fresh[frontend] = ServiceLB(frontend, backends=backends, name=name, **options)
        found.update(fresh)


def _kind_of(document: Node) -> str | None:
    """One of the kinds that are read here, or None for what is plainly another."""
    top = document.mapping()
    if "kind" not in top:
        raise document.error(f"a kind: one of {', '.join(_VERSIONS)}", "no kind")
    kind = top["kind"].text()
    if kind not in _VERSIONS and not difflib.get_close_matches(kind, _VERSIONS, 1, 0.8):
        return None
    found = top["kind"].one_of(list(_VERSIONS))
    if "apiVersion" in top:
        top["apiVersion"].one_of(_VERSIONS[found])
    return found


def _backends(
    service: Service, endpoints: Iterable[Endpoint], port: str, protocol: int, family: int
) -> list[Backend]:
    """The endpoints of one port; those that end serve only where nothing else does."""
    found: dict[tuple[object, int], tuple[Endpoint, Backend]] = {}
    for one in endpoints:
        number = one.ports.get((port, protocol))
        if number is None or one.address.version != family:
            continue
        backend = Backend(
            one.address,
            number,
            state=BackendState.ACTIVE if service.publish_not_ready else one.state,
            node=one.node,
            zone=one.zone,
            for_nodes=one.for_nodes,
            for_zones=one.for_zones,
        )
        key = one.address, number
        # An endpoint may be in two slices while it moves: the ready one counts.
        if key not in found or backend.state is BackendState.ACTIVE:
            found[key] = one, backend
    pairs = list(found.values())
    if any(backend.state is BackendState.ACTIVE for _, backend in pairs):
        return [backend for _, backend in pairs]
    return [
        attrs.evolve(backend, state=BackendState.ACTIVE) if one.serving else backend
        for one, backend in pairs
    ]
