# SPDX-License-Identifier: Apache-2.0
"""Services, health and pools to routes."""

from __future__ import annotations

import pytest

from pycilium.bgp import Pool, ServiceAnnouncer, TrafficPolicy
from pycilium.bgp.services import aggregate
from pycilium.errors import SpecError
from pycilium.model import ServiceLB

WEB = ServiceLB("10.96.0.10:80/tcp", backends=["10.1.0.20:8080", "10.1.1.20:8080"])
DNS = ServiceLB("10.96.0.53:53/udp", backends=["10.1.1.53:53"])
SIX = ServiceLB("[fd96::10]:80/tcp", backends=["[fd01::20]:8080"])
EMPTY = ServiceLB("10.96.0.99:80/tcp", backends=[])


def prefixes(announcer: ServiceAnnouncer, services, **health) -> set[str]:
    return {one.prefix for one in announcer.routes(services, **health)}


def test_what_has_backends_is_announced():
    every = ServiceAnnouncer()
    found = prefixes(every, [WEB, DNS, SIX, EMPTY])
    assert found == {"10.96.0.10/32", "10.96.0.53/32", "fd96::10/128"}


def test_health_decides():
    def dead(*addresses: str):
        return lambda backend: str(backend.address) not in addresses

    every = ServiceAnnouncer()
    assert prefixes(every, [WEB], healthy=dead("10.1.0.20")) == {"10.96.0.10/32"}
    assert prefixes(every, [WEB], healthy=dead("10.1.0.20", "10.1.1.20")) == set()


def test_the_policy_local_wants_a_healthy_backend_on_this_node():
    local = ServiceAnnouncer(policy=TrafficPolicy.LOCAL, local=["10.1.0.0/24"])
    assert prefixes(local, [WEB, DNS]) == {"10.96.0.10/32"}
    assert prefixes(local, [WEB], healthy=lambda b: str(b.address) != "10.1.0.20") == set()


def test_two_ports_of_one_address_share_its_route():
    other = ServiceLB("10.96.0.10:443/tcp", backends=["10.1.0.20:8443"])
    only_tls = ServiceAnnouncer().routes([WEB, other], healthy=lambda b: b.port == 8443)
    assert [one.prefix for one in only_tls] == ["10.96.0.10/32"]


def test_pools_choose_mark_and_aggregate():
    pools = [
        Pool("10.96.0.0/16", communities=["64512:1"]),
        Pool("10.96.0.0/24", communities=["64512:2"], med=5, aggregate=True),
    ]
    announcer = ServiceAnnouncer(pools=pools, pod_cidrs=["10.1.0.0/24"])
    far = ServiceLB("10.96.7.7:80/tcp", backends=["10.1.0.20:80"])
    outside = ServiceLB("10.99.0.1:80/tcp", backends=["10.1.0.20:80"])
    found = {one.prefix: one.attributes for one in announcer.routes([WEB, DNS, far, outside, SIX])}
    assert set(found) == {"10.96.0.0/24", "10.96.7.7/32", "10.1.0.0/24"}
    assert found["10.96.0.0/24"].communities == (64512 << 16 | 2,)
    assert found["10.96.0.0/24"].med == 5
    assert found["10.96.7.7/32"].communities == (64512 << 16 | 1,)
    assert set(prefixes(announcer, [far])) == {"10.96.7.7/32", "10.1.0.0/24"}


def test_aggregation_covers_exactly():
    assert aggregate(["10.0.0.0/25", "10.0.0.128/25", "fd00::/65", "10.1.0.0/24"]) == [
        "10.0.0.0/24",
        "10.1.0.0/24",
        "fd00::/65",
    ]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Pool("10.96.0.10/24"), "host bits"),
        (lambda: Pool("10.96.0.0/24", communities=["65536:1"]), "a community"),
        (lambda: ServiceAnnouncer(policy=TrafficPolicy.LOCAL), "pod prefixes"),
    ],
)
def test_what_is_refused(make, said):
    with pytest.raises(SpecError, match=said):
        make()
