# SPDX-License-Identifier: Apache-2.0
"""ServiceLB: what it takes, and what each refusal says."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from pycilium import ServiceLB, SpecError
from pycilium.datapath import serial
from pycilium.model import Backend, BackendState, Frontend, ServiceKind, SessionAffinity

VIP = "10.96.0.10:80"


def test_as_short_as_ever() -> None:
    one = ServiceLB("10.96.0.10:5432/tcp", backends=["10.1.0.20:5432"])
    assert str(one) == "service 10.96.0.10:5432/tcp over 1 backends"
    assert one.kind is ServiceKind.CLUSTER_IP


def test_words_in_place_of_members() -> None:
    one = ServiceLB(VIP, backends=[], kind="NodePort", session_affinity="ClientIP")
    assert (one.kind, one.session_affinity) == (ServiceKind.NODE_PORT, SessionAffinity.CLIENT_IP)
    backend = Backend(ip_address("10.1.0.1"), 80, state="terminating", for_zones="a")
    assert (backend.state, backend.for_zones) == (BackendState.TERMINATING, ("a",))


def test_sctp_and_order_of_ranges() -> None:
    assert Frontend.parse("[fd00::1]:7/sctp") == Frontend(ip_address("fd00::1"), 7, 132)
    one = ServiceLB(VIP, backends=[], source_ranges=["10.2.0.0/16", "10.1.0.0/16", "10.1.0.0/16"])
    assert [str(r) for r in one.source_ranges] == ["10.1.0.0/16", "10.2.0.0/16"]


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("kind", "ClusterIp", "NodePort"),
        ("session_affinity", True, "ClientIP"),
        ("affinity_timeout", 0, "1 to 86400 seconds"),
        ("affinity_timeout", 86401, "1 to 86400 seconds"),
        ("affinity_timeout", True, "1 to 86400 seconds"),
        ("external_traffic_policy", "Node", "Cluster, Local"),
        ("external_traffic_policy", "Local", "another kind than ClusterIP"),
        ("internal_traffic_policy", "", "Cluster, Local"),
        ("source_ranges", ["10.0.0.1/8"], "prefixes"),
        ("source_ranges", ["fd00::/8"], "IPv4"),
        ("source_ranges_mode", "permit", "allow, deny"),
        ("algorithm", "roundrobin", "random, maglev"),
        ("forwarding", "tunnel", "snat, dsr, hybrid"),
        ("forwarding", "dsr", "another kind than ClusterIP"),
        ("publish_not_ready", "yes", "True or False"),
        ("health_check_node_port", 65536, "0 to 65535"),
        ("health_check_node_port", 30000, "another kind than ClusterIP"),
    ],
)
def test_refusals_name_service_field_value_and_what_is_allowed(
    field: str, value: Any, allowed: str
) -> None:
    with pytest.raises(SpecError) as caught:
        ServiceLB(VIP, backends=[], name="shop/web", **{field: value})
    assert caught.value.field == f"service shop/web: {field}"
    shown = value[0] if isinstance(value, list) else value
    assert caught.value.value == shown
    assert allowed in caught.value.allowed


@pytest.mark.parametrize(
    ("values", "field"),
    [({"weight": -1}, "weight"), ({"weight": 65536}, "weight"), ({"state": "idle"}, "state")],
)
def test_bad_backends(values: dict[str, Any], field: str) -> None:
    with pytest.raises(SpecError, match=rf"backend 10\.1\.0\.1:80: {field}"):
        Backend(ip_address("10.1.0.1"), 80, **values)


def test_one_server_is_there_once() -> None:
    twice = [Backend(ip_address("10.1.0.1"), 80, weight=n) for n in (1, 2)]
    with pytest.raises(SpecError, match="each address and port once"):
        ServiceLB(VIP, backends=twice)


def test_unknown_keywords() -> None:
    with pytest.raises(TypeError):
        ServiceLB(VIP, backends=[], weights=[1])  # type: ignore[call-arg]


def test_the_manifest_keeps_all_of_it() -> None:
    backend = Backend(ip_address("10.1.0.1"), 80, weight=3, state="quarantined", node="n1")
    one = ServiceLB(
        VIP, backends=[backend], kind="LoadBalancer", source_ranges=["10.0.0.0/8"],
        external_traffic_policy="Local", health_check_node_port=31000,
    )  # fmt: skip
    assert serial.load(serial.dump(one)) == one
