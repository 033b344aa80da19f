# SPDX-License-Identifier: Apache-2.0
"""kube-proxy's iptables mode: chains KUBE-SERVICES, -SVC-, -SVL-, -EXT-, -FW-, -SEP- and on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from benchmarks.kubeproxy.shape import MASQUERADE, PODS, Shape
from pycilium import Backend, ServiceLB
from pycilium.model import ServiceKind, TrafficPolicy

_ANY = {"0.0.0.0", "::"}
_WORDS = {
    ServiceKind.CLUSTER_IP: "cluster IP",
    ServiceKind.EXTERNAL_IP: "external IP",
    ServiceKind.LOAD_BALANCER: "loadbalancer IP",
}
_NAT_BASE = f"""
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --or-mark {MASQUERADE}
-A KUBE-POSTROUTING -m mark ! --mark {MASQUERADE}/{MASQUERADE} -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark {MASQUERADE}
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
""".strip()
_NEW = "-m conntrack --ctstate NEW -m comment --comment"
_FILTER_BASE = f"""
-A INPUT {_NEW} "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-A INPUT -m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS
-A INPUT {_NEW} "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
-A FORWARD {_NEW} "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A FORWARD {_NEW} "kubernetes service portals" -j KUBE-SERVICES
-A FORWARD {_NEW} "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
-A OUTPUT {_NEW} "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-A OUTPUT {_NEW} "kubernetes service portals" -j KUBE-SERVICES
-A KUBE-FORWARD -m mark --mark {MASQUERADE}/{MASQUERADE} -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
""".strip()
_NAT_CHAINS = ("KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ")
_FILTER_CHAINS = (
    "KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-NODEPORTS", "KUBE-FORWARD",
    "KUBE-PROXY-FIREWALL",
)  # fmt: skip


def rules(wanted: Iterable[ServiceLB], *, node: str = "") -> str:
    """Input of iptables-restore for services of one family, with both tables."""
    shapes = [Shape(one, node) for one in wanted]
    filters = [line for one in shapes for line in _filter(one)]
    chains = (f":{one} - [0:0]" for one in _FILTER_CHAINS)
    table = ["*filter", *chains, _FILTER_BASE, *filters, "COMMIT"]
    return _nat(shapes) + "\n".join(table) + "\n"


def nat_table(wanted: Iterable[ServiceLB]) -> str:
    """The nat table alone, which is what a connection pays for."""
    return _nat([Shape(one, "") for one in wanted])


def addition(added: ServiceLB) -> str:
    """Input of iptables-restore --noflush: one more service."""
    shape = Shape(added, "")
    chains = dict.fromkeys(line for line in _chains(shape))
    return "\n".join(["*nat", *chains, *_service(shape), *_frontend(shape), "COMMIT\n"])


def _nat(shapes: list[Shape]) -> str:
    chains = dict.fromkeys(line for one in shapes for line in _chains(one))
    inner = dict.fromkeys(line for one in shapes for line in _service(one))
    base = [f":{chain} - [0:0]" for chain in _NAT_CHAINS]
    portals = [line for one in shapes for line in _frontend(one)]
    last = (
        '-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be'
        ' the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS'
    )
    lines = ["*nat", *base, *chains, _NAT_BASE, *portals, last, *inner, "COMMIT"]
    return "\n".join(lines) + "\n"


def _chains(one: Shape) -> Iterator[str]:
    if one.active:
        yield f":KUBE-SVC-{one.digest} - [0:0]"
    if one.local and one.policy is TrafficPolicy.LOCAL:
        yield f":KUBE-SVL-{one.digest} - [0:0]"
    if one.outside and one.active:
        yield f":KUBE-EXT-{one.digest} - [0:0]"
    if one.service.source_ranges and one.active:
        yield f":KUBE-FW-{one.digest} - [0:0]"
    for backend in one.active:
        yield f":KUBE-SEP-{one.endpoint_digest(backend)} - [0:0]"


def _match(one: Shape, words: str) -> str:
    """What finds the packets of a frontend."""
    where, bits = one.service.frontend.address, 32 if one.family == 4 else 128
    comment = f'-m comment --comment "{one.name}{words}"'
    ports = f"-m {one.protocol} --dport {one.service.frontend.port}"
    if str(where) in _ANY:
        return f"-p {one.protocol} {comment} {ports}"
    return f"-d {where}/{bits} -p {one.protocol} {comment} {ports}"


def _frontend(one: Shape) -> Iterator[str]:
    """The rule that a new connection is found by."""
    if not one.eligible and not (one.outside and one.active):
        return
    if one.service.kind is ServiceKind.NODE_PORT:
        yield f"-A KUBE-NODEPORTS {_match(one, '')} -j KUBE-EXT-{one.digest}"
        return
    target = "SVL" if one.policy is TrafficPolicy.LOCAL else "SVC"
    if one.outside:
        target = "FW" if one.service.source_ranges else "EXT"
    words = f" {_WORDS[one.service.kind]}"
    yield f"-A KUBE-SERVICES {_match(one, words)} -j KUBE-{target}-{one.digest}"


def _service(one: Shape) -> Iterator[str]:
    """The chains behind a frontend."""
    comment = f'-m comment --comment "{one.name}"'
    if not one.outside and one.active:
        match = _match(one, " cluster IP")
        yield f"-A KUBE-SVC-{one.digest} ! -s {PODS[one.family]} {match} -j KUBE-MARK-MASQ"
    if one.outside and one.active:
        yield from _external(one)
    for source in one.service.source_ranges if one.active else ():
        yield f"-A KUBE-FW-{one.digest} {comment} -s {source} -j KUBE-EXT-{one.digest}"
    yield from _balance(one, f"KUBE-SVC-{one.digest}", one.active)
    if one.policy is TrafficPolicy.LOCAL:
        yield from _balance(one, f"KUBE-SVL-{one.digest}", one.local)
    for backend in one.active:
        yield from _endpoint(one, backend, comment)


def _external(one: Shape) -> Iterator[str]:
    chain, inner = f"-A KUBE-EXT-{one.digest}", f"KUBE-SVC-{one.digest}"
    if one.policy is TrafficPolicy.CLUSTER:
        words = f"masquerade traffic for {one.name} external destinations"
        yield f'{chain} -m comment --comment "{words}" -j KUBE-MARK-MASQ'
        yield f"{chain} -j {inner}"
        return
    pods = f'-m comment --comment "pod traffic for {one.name} external destinations"'
    yield f"{chain} -s {PODS[one.family]} {pods} -j {inner}"
    yield f"{chain} -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ"
    yield f"{chain} -m addrtype --src-type LOCAL -j {inner}"
    if one.local:
        yield f"{chain} -j KUBE-SVL-{one.digest}"


def _balance(one: Shape, chain: str, backends: list[Backend]) -> Iterator[str]:
    """Affinity first, then each endpoint with the probability that is left."""
    for backend in backends if one.affinity else ():
        endpoint = f"KUBE-SEP-{one.endpoint_digest(backend)}"
        recent = f"-m recent --rcheck --seconds {one.affinity} --reap --name {endpoint} --rsource"
        yield f'-A {chain} -m comment --comment "{one.name} -> {backend}" {recent} -j {endpoint}'
    for left, backend in zip(range(len(backends), 0, -1), backends, strict=True):
        share = f"-m statistic --mode random --probability {1 / left:.11f} " if left > 1 else ""
        comment = f'-m comment --comment "{one.name} -> {backend}"'
        yield f"-A {chain} {comment} {share}-j KUBE-SEP-{one.endpoint_digest(backend)}"


def _endpoint(one: Shape, backend: Backend, comment: str) -> Iterator[str]:
    name = f"KUBE-SEP-{one.endpoint_digest(backend)}"
    recent = f"-m recent --set --name {name} --rsource " if one.affinity else ""
    yield f"-A {name} -s {backend.address} {comment} -j KUBE-MARK-MASQ"
    yield (
        f"-A {name} -p {one.protocol} {comment} {recent}-m {one.protocol}"
        f" -j DNAT --to-destination {backend}"
    )


def _filter(one: Shape) -> Iterator[str]:
    """Refusals where there is nobody, and the health check's port."""
    words = "no endpoints" if not one.active else "no local endpoints"
    if not one.eligible:
        action = "DROP" if one.active else "REJECT"
        chain = "KUBE-EXTERNAL-SERVICES" if one.outside else "KUBE-SERVICES"
        local = "-m addrtype --dst-type LOCAL " if _is_any(one) else ""
        yield f"-A {chain} {local}{_match(one, f' has {words}')} -j {action}"
    if one.service.source_ranges and one.active:
        told = f" traffic not accepted by KUBE-FW-{one.digest}"
        yield f"-A KUBE-PROXY-FIREWALL {_match(one, told)} -j DROP"
    if one.service.health_check_node_port:
        comment = f'-m comment --comment "{one.name} health check node port"'
        port = one.service.health_check_node_port
        yield f"-A KUBE-NODEPORTS -p tcp {comment} -m tcp --dport {port} -j ACCEPT"


def _is_any(one: Shape) -> bool:
    return str(one.service.frontend.address) in _ANY
