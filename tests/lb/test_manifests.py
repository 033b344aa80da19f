# SPDX-License-Identifier: Apache-2.0
"""Service, EndpointSlice and Endpoints to ServiceLB values, and what each mistake is told."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from pycilium import ServiceLB, SpecError
from pycilium.lb.manifests import load_services, read_services
from pycilium.model import BackendState, ServiceKind, SourceRangesMode, TrafficPolicy

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  clusterIP: 10.96.0.10
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: http}
  - {name: dns, port: 53, protocol: UDP, targetPort: 5353}
"""
SLICE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints:
- {addresses: [10.1.0.1], conditions: {ready: true}, nodeName: n1, zone: a}
- {addresses: [10.1.0.2], conditions: {ready: null}}
- {addresses: [10.1.0.3], conditions: {ready: false}}
- {addresses: [10.1.0.4], conditions: {ready: false, serving: true, terminating: true}}
ports:
- {name: http, port: 8080}
- {name: dns, port: 5353, protocol: UDP}
"""


def texts(*parts: str) -> str:
    return "\n---\n".join(textwrap.dedent(part).strip("\n") for part in parts)


def by_frontend(services: list[ServiceLB]) -> dict[str, ServiceLB]:
    return {str(one.frontend): one for one in services}


def states(service: ServiceLB) -> dict[str, str]:
    return {str(one): one.state.value for one in service.backends}


def service(spec: str, *, name: str = "web", more: str = "") -> str:
    head = f"apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop{more}}}\n"
    return f"{head}spec:\n{textwrap.indent(textwrap.dedent(spec).strip(), '  ')}\n"


def test_ports_names_and_conditions() -> None:
    found = by_frontend(load_services(texts(SERVICE, SLICE)))
    assert {f: one.name for f, one in found.items()} == {
        "10.96.0.10:80/tcp": "shop/web:http",
        "10.96.0.10:53/udp": "shop/web:dns",
    }
    assert states(found["10.96.0.10:80/tcp"]) == {
        "10.1.0.1:8080": "active",
        "10.1.0.2:8080": "active",
        "10.1.0.3:8080": "quarantined",
        "10.1.0.4:8080": "terminating",
    }
    first = found["10.96.0.10:53/udp"].backends[0]
    assert (first.port, first.node, first.zone) == (5353, "n1", "a")


def test_the_order_of_documents_does_not_matter() -> None:
    assert load_services(texts(SLICE, SERVICE)) == load_services(texts(SERVICE, SLICE))


def test_those_that_end_serve_where_nothing_else_does() -> None:
    ending = SLICE.replace("ready: true", "ready: false").replace("ready: null", "ready: false")
    found = by_frontend(load_services(texts(SERVICE, ending)))["10.96.0.10:80/tcp"]
    assert list(states(found).values()).count("active") == 1
    assert states(found)["10.1.0.4:8080"] == "active"


def test_publish_not_ready_addresses() -> None:
    published = SERVICE.replace("selector:", "publishNotReadyAddresses: true\n  selector:")
    found = load_services(texts(published, SLICE))[0]
    assert found.publish_not_ready
    assert set(states(found).values()) == {"active"}


def test_dual_stack_takes_each_family_from_its_slices() -> None:
    dual = SERVICE.replace("clusterIP: 10.96.0.10", "clusterIPs: [10.96.0.10, 'fd00:96::10']")
    six = SLICE.replace("addressType: IPv4", "addressType: IPv6").replace("web-1", "web-6")
    six = six.replace("10.1.0.", "fd00::")
    found = by_frontend(load_services(texts(dual, SLICE, six)))
    assert len(found) == 4
    assert str(found["[fd00:96::10]:80/tcp"].backends[0]) == "[fd00::1]:8080"
    assert str(found["10.96.0.10:80/tcp"].backends[0]) == "10.1.0.1:8080"


def test_an_endpoint_in_two_slices_is_one_backend() -> None:
    moving = SLICE.replace("web-1", "web-2").replace("ready: true", "ready: false")
    for order in ((SERVICE, SLICE, moving), (SERVICE, moving, SLICE)):
        assert states(load_services(texts(*order))[0])["10.1.0.1:8080"] == "active"


def test_endpoints_where_there_are_no_slices() -> None:
    old = """
        apiVersion: v1
        kind: Endpoints
        metadata: {name: web, namespace: shop}
        subsets:
        - addresses: [{ip: 10.1.0.9, nodeName: n2}]
          notReadyAddresses: [{ip: 10.1.0.8}]
          ports: [{name: http, port: 9000}]
        """
    found = by_frontend(load_services(texts(SERVICE, old)))
    assert states(found["10.96.0.10:80/tcp"]) == {
        "10.1.0.9:9000": "active",
        "10.1.0.8:9000": "quarantined",
    }
    assert found["10.96.0.10:53/udp"].backends == ()
    both = by_frontend(load_services(texts(SERVICE, old, SLICE)))
    assert "10.1.0.9:9000" not in states(both["10.96.0.10:80/tcp"])


def test_a_headless_service_has_no_frontends() -> None:
    assert load_services(SERVICE.replace("10.96.0.10", "None")) == []


LOAD_BALANCER = service("""
    type: LoadBalancer
    clusterIP: 10.96.0.10
    externalIPs: [192.0.2.7]
    externalTrafficPolicy: Local
    internalTrafficPolicy: Local
    healthCheckNodePort: 31000
    sessionAffinity: ClientIP
    sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}
    loadBalancerSourceRanges: [198.51.100.0/24]
    trafficDistribution: PreferSameZone
    ports: [{port: 80, nodePort: 30080}]
    """) + (
    "status: {loadBalancer: {ingress: [{ip: 203.0.113.5, ipMode: VIP}, {hostname: x.example}, "
    "{ip: 203.0.113.6, ipMode: Proxy}]}}\n"
)


def test_every_kind_of_frontend() -> None:
    found = by_frontend(load_services(LOAD_BALANCER))
    assert {f: one.kind for f, one in found.items()} == {
        "10.96.0.10:80/tcp": ServiceKind.CLUSTER_IP,
        "192.0.2.7:80/tcp": ServiceKind.EXTERNAL_IP,
        "203.0.113.5:80/tcp": ServiceKind.LOAD_BALANCER,
        "0.0.0.0:30080/tcp": ServiceKind.NODE_PORT,
    }
    assert all(one.affinity_timeout == 60 for one in found.values())
    inside = found.pop("10.96.0.10:80/tcp")
    assert inside.internal_traffic_policy is TrafficPolicy.LOCAL
    assert not inside.source_ranges
    assert all(o.external_traffic_policy is TrafficPolicy.LOCAL for o in found.values())
    balanced = found["203.0.113.5:80/tcp"]
    assert [str(one) for one in balanced.source_ranges] == ["198.51.100.0/24"]
    assert balanced.health_check_node_port == 31000


def test_node_ports_on_the_addresses_of_the_node() -> None:
    addresses = [ip_address("192.0.2.1"), ip_address("192.0.2.2")]
    found = read_services(LOAD_BALANCER, node_addresses=addresses).services
    assert [str(o.frontend) for o in found if o.kind is ServiceKind.NODE_PORT] == [
        "192.0.2.1:30080/tcp",
        "192.0.2.2:30080/tcp",
    ]


def test_ranges_of_the_other_family_keep_everybody_out() -> None:
    six = LOAD_BALANCER.replace("198.51.100.0/24", "'fd00::/8'")
    one = by_frontend(load_services(six))["203.0.113.5:80/tcp"]
    assert [str(r) for r in one.source_ranges] == ["0.0.0.0/32"]
    denied = six.replace(
        "namespace: shop", "namespace: shop, annotations: {pycilium.io/source-ranges-mode: deny}"
    )
    one = by_frontend(load_services(denied))["203.0.113.5:80/tcp"]
    assert (one.source_ranges, one.source_ranges_mode) == ((), SourceRangesMode.DENY)


def test_hints() -> None:
    hinted = SLICE.replace(
        "zone: a}", "zone: a, hints: {forZones: [{name: a}, {name: b}], forNodes: [{name: n1}]}}"
    )
    one = load_services(texts(SERVICE, hinted))[0].backends[0]
    assert (one.for_zones, one.for_nodes) == (("a", "b"), ("n1",))


def test_a_folder_with_other_documents(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(texts(SERVICE, "apiVersion: apps/v1\nkind: Deployment"))
    (tmp_path / "slice.yaml").write_text(SLICE)
    found = read_services(tmp_path)
    assert (len(found.services), found.others) == (2, 1)
    assert len(found.services[0].backends) == 4


def test_lists_and_dicts() -> None:
    document: dict[str, Any] = {
        "kind": "ServiceList",
        "items": [
            {
                "kind": "Service",
                "metadata": {"name": "web"},
                "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]},
            }
        ],
    }
    assert [one.name for one in load_services(document)] == ["default/web"]


def spec_of(**change: str) -> Callable[[], str]:
    fields = {"clusterIP": "10.96.0.10", "ports": "[{port: 80}]", **change}
    return lambda: service("\n".join(f"{key}: {value}" for key, value in fields.items()))


MISTAKES: list[tuple[Callable[[], str], int, str, str]] = [
    (spec_of(type="ExternalName"), 7, "spec.type", "an alias in DNS"),
    (spec_of(type="LoadBalanced"), 7, "spec.type", "did you mean LoadBalancer?"),
    (spec_of(clusterIPS="[1.2.3.4]"), 7, "spec.clusterIPS", "did you mean clusterIPs?"),
    (spec_of(clusterIP="10.96.0"), 5, "spec.clusterIP", "an address"),
    (spec_of(clusterIP="''"), 1, "document", "nothing here gives addresses away"),
    (spec_of(ports="[{port: 0}]"), 6, "spec.ports[0].port", "1 to 65535"),
    (spec_of(ports="[{port: '80'}]"), 6, "spec.ports[0].port", "without quotes"),
    (spec_of(ports="[{port: 80, protocol: tcp}]"), 6, "ports[0].protocol", "did you mean TCP?"),
    (spec_of(ports="[{port: 80}, {port: 81}]"), 6, "spec.ports[0]", "a name for each"),
    (spec_of(ports="[{name: a, port: 80}, {name: a, port: 81}]"), 6, "ports[1].name", "once"),
    (spec_of(ports="[{name: a, port: 80}, {name: b, port: 80}]"), 6, "ports[1]", "each frontend"),
    (spec_of(ports="[{port: 80, targetPort: 99999}]"), 6, "ports[0].targetPort", "a port's name"),
    (spec_of(ports="[{port: 80, nodePort: 30000}]"), 6, "ports[0].nodePort", "type ClusterIP"),
    (spec_of(type="NodePort"), 6, "spec.ports[0]", "a field nodePort"),
    (
        spec_of(type="NodePort", ports="[{port: 80, nodePort: 80}]"),
        6, "ports[0].nodePort", "30000 to 32767",
    ),
    (spec_of(sessionAffinity="ClientIp"), 7, "spec.sessionAffinity", "did you mean ClientIP?"),
    (
        spec_of(sessionAffinityConfig="{clientIP: {timeoutSeconds: 0}}"),
        7, "timeoutSeconds", "1 to 86400",
    ),
    (spec_of(internalTrafficPolicy="local"), 7, "internalTrafficPolicy", "did you mean Local?"),
    (spec_of(externalIPs="[db]"), 7, "spec.externalIPs[0]", "an address"),
    (spec_of(trafficDistribution="SameZone"), 7, "trafficDistribution", "PreferSameZone"),
    (spec_of(publishNotReadyAddresses="1"), 7, "publishNotReadyAddresses", "true or false"),
    (lambda: LOAD_BALANCER.replace("198.51.100.0/24", "198.51.100.1/24"), 13,
     "loadBalancerSourceRanges[0]", "a prefix"),
    (lambda: texts(SERVICE, SERVICE), 11, "document", "each service once"),
    (lambda: SERVICE.replace("kind: Service", "kind: Sevice"), 2, "kind", "did you mean Service?"),
    (lambda: SERVICE.replace("v1", "v2"), 1, "apiVersion", "v1"),
    (lambda: SERVICE.replace("name: web, ", ""), 3, "metadata", "a field name"),
    (lambda: SLICE.replace("IPv4", "FQDN"), 4, "addressType", "IPv4, IPv6"),
    (lambda: SLICE.replace("10.1.0.1]", "'fd00::1']"), 6, "endpoints[0].addresses[0]", "IPv4"),
    (lambda: SLICE.replace("ready: true", "ready: yeah"), 6, "conditions.ready", "true or false"),
    (lambda: SLICE.replace("ready: true", "redy: true"), 6, "conditions.redy", "mean ready?"),
    (lambda: SLICE.replace("port: 8080", "port: null"), 11, "ports[0]", "a field port"),
    (lambda: SLICE.replace(", labels: {kubernetes.io/service-name: web}", ""), 1, "document",
     "kubernetes.io/service-name"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "line", "path", "allowed"), MISTAKES)
def test_mistakes_have_a_place(
    make: Callable[[], str], line: int, path: str, allowed: str, tmp_path: Path
) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(make().lstrip("\n"))
    with pytest.raises(SpecError) as caught:
        load_services(file)
    assert caught.value.origin == f"{file}:{line}"
    assert path in caught.value.field
    assert allowed in caught.value.allowed


def test_go_on_keeps_the_others() -> None:
    bad = service("clusterIP: nonsense\nports: [{port: 80}]", name="bad")
    thief = service("clusterIP: 10.96.0.10\nports: [{port: 80}]", name="thief")
    found = read_services(texts(bad, SERVICE, thief, SLICE), go_on=True)
    assert [one.name for one in found.services] == ["shop/web:http", "shop/web:dns"]
    assert ["nonsense" in str(e) or "shop/web:http has it" in str(e) for e in found.errors] == [
        True,
        True,
    ]
    assert found.services[0].backends[0].state is BackendState.ACTIVE
