# SPDX-License-Identifier: Apache-2.0
"""Documents to a speaker's settings, and what is wrong with them by file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from pycilium.bgp import Configuration, Role
from pycilium.bgp.family import Family
from pycilium.bgp.prefix import parse_prefix
from pycilium.bgp.route import make_attributes
from pycilium.errors import SpecError

NATIVE = """
speaker: {asn: 64512, routerId: 10.0.0.1, listen: false}
policies:
  hosts:
    default: reject
    rules:
      - match: {prefixes: ["10.96.0.0/16 ge 32"], communities: ["64512:1"]}
        set: {med: 5, addCommunities: ["64512:2:3"], prepend: [64512, 64512]}
      - name: nothing else
        action: reject
templates:
  tor: {holdTime: 9, passwordFile: secret.txt, ttlSecurity: 1, export: hosts, role: customer}
peers:
  - {address: 10.0.0.254, asn: 64513, template: tor, holdTime: 30}
  - {address: "fd00::254", asn: 64513, families: [ipv6]}
dynamic:
  - {prefix: 10.9.0.0/24, asns: [64600, 64601], limit: 5}
announce:
  - 10.96.0.10/32
  - {prefix: "fd96::/112", communities: [no-export], med: 7}
bmp:
  - {address: 10.0.0.9}
"""


@pytest.fixture
def read(tmp_path: Path):
    (tmp_path / "secret.txt").write_text("hunter2\n")

    def read(text: str, **more) -> Configuration:
        file = tmp_path / "bgp.yaml"
        file.write_text(text)
        return Configuration.read([file], **more)

    return read


def test_a_document_of_our_own(read):
    found = read(NATIVE)
    assert (found.asn, found.router_id, found.listen) == (64512, "10.0.0.1", False)
    tor, six = found.peers
    assert (tor.options.hold_time, tor.options.ttl_security) == (30, 1)
    assert (tor.options.password, tor.options.role) == ("hunter2", Role.CUSTOMER)
    assert "hunter2" not in repr(found)
    assert six.options.families == (Family.IPV6,)
    assert found.dynamic[0].asns == (64600, 64601)
    assert [one.prefix for one in found.announced()] == ["10.96.0.10/32", "fd96::/112"]
    assert (found.stations[0].address, found.stations[0].port) == ("10.0.0.9", 11019)


def test_its_policy(read):
    policy = read(NATIVE).peers[0].options.export_policy
    marked = make_attributes(communities=["64512:1"])
    decision = policy.decide(*parse_prefix("10.96.0.10/32"), marked)
    assert decision.attributes.med == 5
    assert list(decision.attributes.as_path) == [64512, 64512]
    refused = policy.decide(*parse_prefix("10.96.0.0/24"), marked)
    assert (refused.attributes, refused.by) == (None, "nothing else")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("asn: 64512,", "asn: 0,", "asn: 0 is not allowed"),
        ("routerId: 10.0.0.1", "routerId: 10.0.0", "router_id"),
        ("holdTime: 9", "holdTime: 2", "bgp.yaml:12: templates.tor: hold_time: 2"),
        ("holdTime: 9", "holdtime: 9", "did you mean holdTime"),
        ("template: tor", "template: spine", "bgp.yaml:14"),
        ("export: hosts", "export: host", "did you mean hosts"),
        ("10.0.0.254", "10.0.0.256", "bgp.yaml:14: peers[0]: peer.address"),
        ("10.96.0.10/32", "10.96.0.10/24", "bgp.yaml:19: announce[0]: prefix"),
        ("[no-export]", "[no-exprot]", "bgp.yaml:20"),
        ("secret.txt", "missing.txt", "a readable file"),
        ("10.9.0.0/24", "10.9.0.1/24", "host bits"),
        ("ge 32", "ge 8", "a length from 16 to 32"),
        ("peers:", "peer:", "did you mean peers"),
        ("[ipv6]", "[ipv5]", "any of ipv4, ipv6"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(read, old, new, said):
    assert old in NATIVE
    with pytest.raises(SpecError) as caught:
        read(NATIVE.replace(old, new)).speaker()
    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)


CILIUM = """
apiVersion: cilium.io/v2
kind: CiliumBGPClusterConfig
metadata: {name: cluster}
spec:
  nodeSelector: {matchLabels: {rack: r1}}
  bgpInstances:
    - name: main
      localASN: 64512
      localPort: 179
      peers:
        - name: tor
          peerASN: 64513
          peerAddress: 10.0.0.254
          peerConfigRef: {name: tor}
---
apiVersion: cilium.io/v2
kind: CiliumBGPPeerConfig
metadata: {name: tor}
spec:
  timers: {holdTimeSeconds: 9, keepAliveTimeSeconds: 3, connectRetryTimeSeconds: 5}
  authSecretRef: tor-secret
  ebgpMultihop: 4
  gracefulRestart: {enabled: true, restartTimeSeconds: 15}
  families:
    - {afi: ipv4, safi: unicast, advertisements: {matchLabels: {advertise: bgp}}}
---
apiVersion: cilium.io/v2
kind: CiliumBGPAdvertisement
metadata: {name: ads, labels: {advertise: bgp}}
spec:
  advertisements:
    - advertisementType: PodCIDR
    - advertisementType: Service
      service: {addresses: [LoadBalancerIP]}
      selector: {matchExpressions: [{key: bgp, operator: In, values: [blue]}]}
      attributes:
        communities: {standard: ["65000:99"], large: ["64512:1:2"], wellKnown: [no-export]}
        localPreference: 200
"""
GIVEN = {"router_id": "10.0.0.1", "secrets": {"tor-secret": "hunter2"}}


def test_documents_of_ciliums_kinds(read):
    found = read(CILIUM, **GIVEN)
    (peer,) = found.peers
    options = peer.options
    assert (str(peer), found.asn, found.listen) == ("10.0.0.254 AS 64513", 64512, True)
    assert (options.hold_time, options.connect_retry, options.multihop) == (9, 5.0, 4)
    assert (options.password, options.graceful_restart) == ("hunter2", 15)
    assert options.families == (Family.IPV4,)
    vips = {"10.96.0.10": {"bgp": "blue"}, "10.96.0.11": {"bgp": "green"}, "10.96.0.12": {}}
    routes = {r.prefix: r for r in found.announced(pod_cidrs=["10.1.0.0/24"], vips=vips)}
    assert set(routes) == {"10.1.0.0/24", "10.96.0.10/32"}
    vip = routes["10.96.0.10/32"].attributes
    assert vip.community_texts() == ["65000:99", "no-export", "64512:1:2"]
    assert vip.local_pref == 200


def test_an_override_gives_the_router_id(read):
    override = """
---
apiVersion: cilium.io/v2
kind: CiliumBGPNodeConfigOverride
metadata: {name: node1}
spec:
  bgpInstances: [{name: main, routerID: 10.0.0.7}]
"""
    found = read(CILIUM + override, secrets=GIVEN["secrets"])
    assert found.router_id == "10.0.0.7"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("localASN: 64512", "localASN: many", "bgp.yaml:9"),
        ("peerAddress: 10.0.0.254", "peerAddress: tor.example", "IPv4 or IPv6"),
        ("peerConfigRef: {name: tor}", "peerConfigRef: {name: spine}", "one of tor"),
        ("safi: unicast", "safi: mpls_vpn", "unicast"),
        ("advertisementType: PodCIDR", "advertisementType: Interface", "PodCIDR or Service"),
        ("wellKnown: [no-export]", "wellKnown: [no-exprot]", "did you mean no-export"),
        ("65000:99", "65536:99", "a community"),
        ("kind: CiliumBGPPeerConfig", "kind: CiliumBGPPeeringPolicy", "one of CiliumBGPCluster"),
        ("addresses: [LoadBalancerIP]", "addresses: [LB], aggregationLengthIPv4: 24", "Pool"),
        ("holdTimeSeconds: 9", "holdTimeSeconds: 2", "hold_time"),
        ("authSecretRef: tor-secret", "authSecretRef: other", "a secret"),
    ],
)
def test_what_is_wrong_with_them(read, old, new, said):
    assert old in CILIUM
    with pytest.raises(SpecError) as caught:
        read(CILIUM.replace(old, new), **GIVEN).announced(vips={"10.96.0.10": {"bgp": "blue"}})
    assert said in str(caught.value)


def test_a_node_that_is_not_selected(read):
    with pytest.raises(SpecError, match="0 instances"):
        read(CILIUM, node_labels={"rack": "r2"}, **GIVEN)
    assert read(CILIUM, node_labels={"rack": "r1"}, **GIVEN).asn == 64512
