# SPDX-License-Identifier: Apache-2.0
"""Health-check node ports: a load balancer asks a node whether it has a service's backends.

HTTP, as Kubernetes' KEP-1669 and kube-proxy have it: 200 where an active backend runs on this
node, else 503; the body says which service and how many.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address
from platform import node
from socketserver import ThreadingTCPServer
from typing import Any, Self

import attrs

from pycilium.errors import SpecError
from pycilium.model.delta import Delta
from pycilium.model.frontend import BackendState
from pycilium.model.service import ServiceLB

_SECONDS = 5  # for one request


@attrs.frozen
class Health:
    """What a port answers: a service, and how many of its backends' addresses are here."""

    namespace: str
    name: str
    local_endpoints: int

    @property
    def status(self) -> int:
        """Of HTTP."""
        return 200 if self.local_endpoints else 503

    def body(self) -> bytes:
        """The JSON that load balancers and people read."""
        content = {
            "service": {"namespace": self.namespace, "name": self.name},
            "localEndpoints": self.local_endpoints,
            "serviceProxyHealthy": True,
        }
        return json.dumps(content).encode()


def healths(services: Iterable[ServiceLB], node_name: str) -> dict[int, Health]:
    """By port, what the services that ask for one answer on this node.

    Raises SpecError where two services ask for the same port.
    """
    owners: dict[int, ServiceLB] = {}
    here: dict[int, set[Any]] = {}
    for service in services:
        port = service.health_check_node_port
        if not port:
            continue
        owner = owners.setdefault(port, service)
        if _names(owner) != _names(service):
            allowed = f"a port of its own; service {owner.name} has it"
            raise service.error("health_check_node_port", port, allowed)
        here.setdefault(port, set()).update(
            one.address
            for one in service.backends
            if one.node == node_name and one.state is BackendState.ACTIVE
        )
    return {port: Health(*_names(one), len(here[port])) for port, one in owners.items()}


def _names(service: ServiceLB) -> tuple[str, str]:
    """Namespace and name of the Service: a ServiceLB's is "shop/web", or "shop/web:http"."""
    namespace, slash, name = service.name.partition(":")[0].rpartition("/")
    return (namespace, name) if slash else ("", name)


class HealthChecks:
    """One HTTP server for each port; apply() takes the full desired state.

    node_name: whose backends count; None: the host's name. address: where to listen; load
    balancers reach the node's addresses, or "0.0.0.0" and "::" for all of them. Requests are
    served on threads that end with close().
    """

    def __init__(self, node_name: str | None = None, *, address: str = "127.0.0.1") -> None:
        try:
            self._version = ip_address(address).version
        except ValueError:
            raise SpecError("address", address, "an IPv4 or IPv6 address") from None
        self._address = address
        self._node_name = node() if node_name is None else node_name
        self._answers: dict[int, Health] = {}
        self._servers: dict[int, _Server] = {}

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._servers))

    def __getitem__(self, port: int) -> Health:
        return self._answers[port]

    def apply(self, services: Iterable[ServiceLB]) -> Delta:
        """Serve exactly the ports that these services ask for.

        Raises SpecError, with nothing changed, where two services ask for one port or a process
        has it.
        """
        services = list(services)
        wanted = healths(services, self._node_name)
        fresh = self._open(wanted, services)
        gone = self._servers.keys() - wanted.keys()
        changed = sum(
            1 for port, one in self._answers.items() if port in wanted and wanted[port] != one
        )
        self._answers.clear()
        self._answers.update(wanted)
        for server in fresh.values():
            server.start()
        self._servers.update(fresh)
        for port in gone:
            self._servers.pop(port).stop()
        return Delta(added=len(fresh), changed=changed, removed=len(gone))

    def close(self) -> None:
        """End every server."""
        while self._servers:
            self._servers.popitem()[1].stop()
        self._answers.clear()

    def _open(
        self, wanted: Mapping[int, Health], services: Iterable[ServiceLB]
    ) -> dict[int, _Server]:
        owners = {one.health_check_node_port: one for one in services}
        found = {}
        with ExitStack() as undo:
            for port in wanted.keys() - self._servers.keys():
                try:
                    found[port] = _Server(self._address, self._version, port, self._answers)
                except OSError as error:
                    allowed = f"a port that is free at {self._address}: {error.strerror}"
                    raise owners[port].error("health_check_node_port", port, allowed) from error
                undo.callback(found[port].server_close)
            undo.pop_all()
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<HealthChecks {self._address} {list(self)}>"


class _Server(ThreadingTCPServer):
    allow_reuse_address = True

    def __init__(
        self, address: str, version: int, port: int, answers: Mapping[int, Health]
    ) -> None:
        self.address_family = {4: 2, 6: 10}[version]  # AF_INET, AF_INET6
        self.port = port
        self.answers = answers
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,))
        super().__init__((address, port), _Handler)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _SECONDS
    server_version, sys_version = "pycilium", ""

    def do_GET(self) -> None:
        health = self.server.answers.get(self.server.port)
        if health is None:  # the service has just gone
            self.send_error(404)
            return
        body = health.body()
        self.send_response(health.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Load-Balancing-Endpoint-Weight", str(health.local_endpoints))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Probes come every few seconds: nothing is said of them."""
