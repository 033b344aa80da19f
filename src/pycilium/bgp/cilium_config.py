# SPDX-License-Identifier: Apache-2.0
"""CiliumBGPClusterConfig, PeerConfig, Advertisement and NodeConfigOverride as a speaker's settings.

Fields that a library on one node has no use for (status, conditions) are passed over; fields that
change what is announced and are not supported are refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import attrs

from pycilium.bgp.fields import Fields, located, need, number, texts
from pycilium.bgp.peer import Peer, PeerOptions
from pycilium.documents import Node
from pycilium.model.labels import Labels
from pycilium.model.selector import Operator, Requirement, Selector

CLUSTER, PEER = "CiliumBGPClusterConfig", "CiliumBGPPeerConfig"
ADVERTISEMENT, OVERRIDE = "CiliumBGPAdvertisement", "CiliumBGPNodeConfigOverride"
CILIUM_KINDS = (CLUSTER, PEER, ADVERTISEMENT, OVERRIDE)

_DOCUMENT = ("apiVersion", "kind", "metadata", "spec", "status")
_TYPES = ("PodCIDR", "Service", "CiliumPodIPPool", "Interface")
_SERVICE_ADDRESSES = ("ClusterIP", "ExternalIP", "LoadBalancerIP")
_NO_AGGREGATION = dict.fromkeys(
    ("aggregationLengthIPv4", "aggregationLengthIPv6"), "a Pool with aggregate does it"
)
_WELL_KNOWN = ("no-export", "no-advertise", "no-export-subconfed", "no-peer", "graceful-shutdown",
               "blackhole", "llgr-stale", "no-llgr")  # fmt: skip


@attrs.frozen
class Advertisement:
    """One entry of a CiliumBGPAdvertisement."""

    kind: str
    communities: tuple[str, ...] = ()
    local_pref: int | None = None
    addresses: tuple[str, ...] = ()
    selector: Selector | None = None

    @property
    def is_pod_cidr(self) -> bool:
        """Whether it is about pods and not about services."""
        return self.kind == "PodCIDR"

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Whether a service with these labels is meant; without a selector none is."""
        return self.selector is not None and self.selector.matches(Labels.of(labels))


@attrs.define
class CiliumDocuments:
    """What the documents come to for one node."""

    asn: int = 0
    port: int | None = None
    router_id: str | None = None
    peers: list[Peer] = attrs.field(factory=list)
    advertisements: list[Advertisement] = attrs.field(factory=list)

    @classmethod
    def read(
        cls, documents: list[Node], secrets: Mapping[str, str], node_labels: Mapping[str, str]
    ) -> CiliumDocuments:
        """Exactly one instance must be left for this node."""
        parsed = [_Document.read(one) for one in documents]
        configs = {one.name: _peer_config(one, secrets) for one in parsed if one.kind == PEER}
        chosen = [
            (one, instance)
            for one in parsed
            if one.kind == CLUSTER
            for instance in _instances(one, node_labels)
        ]
        if len(chosen) != 1:
            where = parsed[0].node
            raise where.error("one BGP instance for this node", f"{len(chosen)} instances")
        found = cls()
        _read_instance(found, chosen[0][1], configs)
        found.advertisements = [
            entry for one in parsed if one.kind == ADVERTISEMENT for entry in _entries(one)
        ]
        for one in parsed:
            if one.kind == OVERRIDE:
                _override(found, one)
        return found


@attrs.frozen
class _Document:
    node: Node
    kind: str
    name: str
    spec: Node

    @classmethod
    def read(cls, node: Node) -> _Document:
        fields = node.mapping(*_DOCUMENT)
        version = need(node, fields, "apiVersion")
        version.one_of(["cilium.io/v2", "cilium.io/v2alpha1"])
        kind = need(node, fields, "kind").one_of(CILIUM_KINDS)
        metadata = need(node, fields, "metadata").mapping()
        name = need(fields["metadata"], metadata, "name").text()
        return cls(node, kind, name, need(node, fields, "spec"))


def _instances(one: _Document, labels: Mapping[str, str]) -> Iterator[Node]:
    fields = one.spec.mapping("nodeSelector", "bgpInstances")
    if "nodeSelector" in fields and not _selects(fields["nodeSelector"], labels):
        return
    yield from need(one.spec, fields, "bgpInstances").items()


def _selects(node: Node, labels: Mapping[str, str]) -> bool:
    """Without labels of the node nothing is asked of it."""
    return not labels or _selector(node).matches(Labels.of(labels))


def _selector(node: Node) -> Selector:
    fields = node.mapping("matchLabels", "matchExpressions")
    labels = fields["matchLabels"].mapping() if "matchLabels" in fields else {}
    found = [Requirement(key, Operator.IN, (one.text(),)) for key, one in labels.items()]
    for one in fields["matchExpressions"].items() if "matchExpressions" in fields else ():
        parts = one.mapping("key", "operator", "values")
        word = need(one, parts, "operator").one_of([operator.value for operator in Operator])
        key = need(one, parts, "key").text()
        values = tuple(texts(parts["values"])) if "values" in parts else ()
        found.append(located(one, partial(Requirement, key, Operator(word), values)))
    return Selector(tuple(found))


def _read_instance(found: CiliumDocuments, node: Node, configs: Mapping[str, PeerOptions]) -> None:
    fields = node.mapping("name", "localASN", "localPort", "peers")
    found.asn = number(need(node, fields, "localASN"))
    if "localPort" in fields:
        found.port = number(fields["localPort"], 1, 65535)
    for one in fields["peers"].items() if "peers" in fields else ():
        found.peers.append(_peer(one, configs))


def _peer(node: Node, configs: Mapping[str, PeerOptions]) -> Peer:
    refused = {"autoDiscovery": "peerAddress names the peer"}
    fields = node.mapping("name", "peerASN", "peerAddress", "peerConfigRef", refused=refused)
    options = PeerOptions()
    if "peerConfigRef" in fields:
        reference = fields["peerConfigRef"].mapping("name", "group", "kind")
        name = need(fields["peerConfigRef"], reference, "name")
        options = configs[name.one_of(list(configs))]
    address = need(node, fields, "peerAddress").text()
    asn = number(need(node, fields, "peerASN"))
    return located(node, lambda: Peer(address, asn=asn, options=options))


def _peer_config(one: _Document, secrets: Mapping[str, str]) -> PeerOptions:
    fields = one.spec.mapping(
        "transport", "timers", "authSecretRef", "gracefulRestart", "ebgpMultihop", "families"
    )
    found: dict[str, Any] = {"graceful_restart": 0}
    for key, read in _PEER_PARTS.items():
        if key in fields:
            found.update(read(fields[key]))
    if "authSecretRef" in fields:
        name = fields["authSecretRef"]
        if name.text() not in secrets:
            raise name.error("a secret that is given beside the documents")
        found["password"] = secrets[name.text()]
    return located(one.spec, lambda: PeerOptions(**found))


def _transport(node: Node) -> Fields | dict[str, Any]:
    fields = node.mapping("peerPort", "sourceInterface", refused={"localPort": "of the instance"})
    if "sourceInterface" in fields:
        raise fields["sourceInterface"].error("localAddress in a bgp.yaml")
    return {"port": number(fields["peerPort"], 1, 65535)} if "peerPort" in fields else {}


def _timers(node: Node) -> dict[str, Any]:
    fields = node.mapping("connectRetryTimeSeconds", "holdTimeSeconds", "keepAliveTimeSeconds")
    found: dict[str, Any] = {}
    if "connectRetryTimeSeconds" in fields:
        found["connect_retry"] = float(number(fields["connectRetryTimeSeconds"], 1))
    if "holdTimeSeconds" in fields:
        found["hold_time"] = number(fields["holdTimeSeconds"])
    return found


def _graceful_restart(node: Node) -> dict[str, Any]:
    fields = node.mapping("enabled", "restartTimeSeconds")
    if "enabled" not in fields or not fields["enabled"].flag():
        return {"graceful_restart": 0}
    time = number(fields["restartTimeSeconds"], 1, 4095) if "restartTimeSeconds" in fields else 120
    return {"graceful_restart": time}


def _multihop(node: Node) -> dict[str, Any]:
    ttl = number(node, 0, 255)
    return {"multihop": ttl if ttl > 1 else 0}


def _families(node: Node) -> dict[str, Any]:
    found = []
    for one in node.items():
        fields = one.mapping("afi", "safi", "advertisements")
        need(one, fields, "safi").one_of(["unicast"])
        found.append(need(one, fields, "afi").one_of(["ipv4", "ipv6"]))
    return {"families": found}


_PEER_PARTS = {
    "transport": _transport,
    "timers": _timers,
    "gracefulRestart": _graceful_restart,
    "ebgpMultihop": _multihop,
    "families": _families,
}


def _entries(one: _Document) -> Iterator[Advertisement]:
    fields = one.spec.mapping("advertisements")
    for node in need(one.spec, fields, "advertisements").items():
        yield _entry(node)


def _entry(node: Node) -> Advertisement:
    fields = node.mapping("advertisementType", "service", "interface", "selector", "attributes")
    kind = need(node, fields, "advertisementType")
    if kind.one_of(_TYPES) in ("CiliumPodIPPool", "Interface"):
        raise kind.error("PodCIDR or Service: a library has no such pools and devices")
    addresses: tuple[str, ...] = ()
    if "service" in fields:
        service = fields["service"].mapping("addresses", refused=_NO_AGGREGATION)
        listed = need(fields["service"], service, "addresses").items()
        addresses = tuple(one.one_of(_SERVICE_ADDRESSES) for one in listed)
    communities, local_pref = _attributes(fields.get("attributes"))
    chosen = _selector(fields["selector"]) if "selector" in fields else None
    return Advertisement(kind.text(), communities, local_pref, addresses, chosen)


def _attributes(node: Node | None) -> tuple[tuple[str, ...], int | None]:
    fields = node.mapping("communities", "localPreference") if node is not None else {}
    found: list[str] = []
    if "communities" in fields:
        kinds = fields["communities"].mapping("standard", "wellKnown", "large")
        for key in ("standard", "large"):
            found += texts(kinds[key]) if key in kinds else []
        if "wellKnown" in kinds:
            found += [one.one_of(_WELL_KNOWN) for one in kinds["wellKnown"].items()]
    preference = number(fields["localPreference"]) if "localPreference" in fields else None
    return tuple(found), preference


def _override(found: CiliumDocuments, one: _Document) -> None:
    for node in need(one.spec, one.spec.mapping("bgpInstances"), "bgpInstances").items():
        fields = node.mapping("name", "routerID", "localPort", "localASN", "peers")
        if "routerID" in fields:
            found.router_id = fields["routerID"].text()
        if "localPort" in fields:
            found.port = number(fields["localPort"], 1, 65535)
        if "localASN" in fields:
            found.asn = number(fields["localASN"])
