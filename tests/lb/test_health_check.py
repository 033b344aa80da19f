# SPDX-License-Identifier: Apache-2.0
"""Health-check node ports, asked over HTTP."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from ipaddress import ip_address
from typing import Any

import pytest

from pycilium import Backend, ServiceLB, SpecError
from pycilium.lb.health_check import Health, HealthChecks, healths


@pytest.fixture
def port() -> int:
    """One that was free a moment ago."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def service(port: int, *backends: Backend, name: str = "shop/web:http", **more: Any) -> ServiceLB:
    frontend = more.pop("frontend", "192.0.2.1:80/tcp")
    return ServiceLB(
        frontend,
        backends=backends,
        name=name,
        kind="LoadBalancer",
        external_traffic_policy="Local",
        health_check_node_port=port,
    )


def backend(last: int, node: str = "n1", **more: Any) -> Backend:
    return Backend(ip_address(f"10.1.0.{last}"), 8080, node=node, **more)


def ask(port: int, host: str = "127.0.0.1") -> tuple[int, dict[str, Any], Any]:
    url = f"http://{host}:{port}/healthz"
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, json.load(answer), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error), error.headers


def test_local_backends(port: int) -> None:
    """The published shape: who asks reads status, count and weight."""
    with HealthChecks("n1") as checks:
        assert checks.apply([service(port, backend(1), backend(2), backend(3, "n2"))]).added == 1
        status, body, headers = ask(port)
        assert (status, body) == (
            200,
            {
                "service": {"namespace": "shop", "name": "web"},
                "localEndpoints": 2,
                "serviceProxyHealthy": True,
            },
        )
        assert headers["Content-Type"] == "application/json"
        assert headers["X-Load-Balancing-Endpoint-Weight"] == "2"
        assert checks.apply([service(port, backend(3, "n2"))]).changed == 1
        status, body, headers = ask(port)
        assert (status, body["localEndpoints"]) == (503, 0)
        assert headers["X-Load-Balancing-Endpoint-Weight"] == "0"
        assert not checks.apply([service(port, backend(3, "n2"))])
        assert checks.apply([]).removed == 1
        with pytest.raises(urllib.error.URLError, match="refused"):
            ask(port)


@pytest.mark.parametrize("state", ["terminating", "quarantined", "maintenance"])
def test_only_active_backends_count(state: str) -> None:
    one = service(30000, backend(1), backend(2, state=state))
    assert healths([one], "n1") == {30000: Health("shop", "web", 1)}


def test_addresses_are_counted_once() -> None:
    """A Service has a frontend for each port and address; its backends are the same."""
    ends = [
        service(30000, backend(1), backend(2)),
        service(30000, backend(2), name="shop/web:https", frontend="192.0.2.1:443/tcp"),
    ]
    assert healths(ends, "n1") == {30000: Health("shop", "web", 2)}
    assert healths([ServiceLB("10.96.0.1:80", backends=[])], "n1") == {}


def test_port_of_two_services(port: int) -> None:
    with HealthChecks("n1") as checks:
        checks.apply([service(port, backend(1))])
        two = [service(port, backend(1)), service(port, name="bar/db", frontend="192.0.2.2:80")]
        with pytest.raises(SpecError, match=r"service bar/db: health_check_node_port.*shop/web"):
            checks.apply(two)
        assert ask(port)[0] == 200


def test_port_that_a_process_has(port: int) -> None:
    with socket.socket() as held, HealthChecks("n1") as checks:
        held.bind(("127.0.0.1", port))
        held.listen()
        with pytest.raises(SpecError, match=rf"shop/web:http: health_check_node_port.*{port}"):
            checks.apply([service(port)])
        assert list(checks) == []


def test_ipv6(port: int) -> None:
    with HealthChecks("n1", address="::1") as checks:
        checks.apply([service(port, backend(1))])
        assert ask(port, "[::1]")[0] == 200


def test_bad_address() -> None:
    with pytest.raises(SpecError, match="address"):
        HealthChecks("n1", address="localhost")


def test_torn_request_holds_nobody_up(port: int) -> None:
    with HealthChecks("n1") as checks:
        checks.apply([service(port, backend(1))])
        with socket.create_connection(("127.0.0.1", port)) as slow:
            slow.send(b"GET / HT")
            assert ask(port)[0] == 200
        with socket.create_connection(("127.0.0.1", port)) as other:
            other.send(b"POST / HTTP/1.0\r\n\r\n")
            assert b" 501 " in other.recv(100)
