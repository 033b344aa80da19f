# SPDX-License-Identifier: Apache-2.0
"""kube-proxy's nftables mode: one table with verdict maps, a chain per service and endpoint."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from benchmarks.kubeproxy.shape import MASQUERADE, PODS, Shape
from pycilium import Backend, ServiceLB
from pycilium.model import ServiceKind, TrafficPolicy

_FAMILIES = {4: ("ip", "ipv4_addr"), 6: ("ip6", "ipv6_addr")}
_NAT = """
add table {t}
add set {t} cluster-ips {{ type {a} ; comment "Active ClusterIPs" ; }}
add set {t} nodeport-ips {{ type {a} ; comment "IPs that accept NodePort traffic" ; }}
add map {t} service-ips {{ type {a} . inet_proto . inet_service : verdict ; }}
add map {t} service-nodeports {{ type inet_proto . inet_service : verdict ; }}
add chain {t} services
add chain {t} mark-for-masquerade
add chain {t} masquerading
add chain {t} nat-prerouting {{ type nat hook prerouting priority -100 ; }}
add chain {t} nat-output {{ type nat hook output priority -100 ; }}
add chain {t} nat-postrouting {{ type nat hook postrouting priority 100 ; }}
add rule {t} services {f} daddr . meta l4proto . th dport vmap @service-ips
add rule {t} services {f} daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
add rule {t} mark-for-masquerade mark set mark or {m}
add rule {t} masquerading mark and {m} == 0 return
add rule {t} masquerading mark set mark xor {m}
add rule {t} masquerading masquerade fully-random
add rule {t} nat-prerouting jump services
add rule {t} nat-output jump services
add rule {t} nat-postrouting jump masquerading
"""
_FILTER = """
add map {t} firewall-ips {{ type {a} . inet_proto . inet_service : verdict ; }}
add map {t} no-endpoint-services {{ type {a} . inet_proto . inet_service : verdict ; }}
add map {t} no-endpoint-nodeports {{ type inet_proto . inet_service : verdict ; }}
add chain {t} firewall-check
add chain {t} service-endpoints-check
add chain {t} nodeport-endpoints-check
add chain {t} cluster-ips-check
add chain {t} reject-chain
add chain {t} filter-prerouting-pre-dnat {{ type filter hook prerouting priority -110 ; }}
add chain {t} filter-output-pre-dnat {{ type filter hook output priority -110 ; }}
add chain {t} filter-input {{ type filter hook input priority 0 ; }}
add chain {t} filter-forward {{ type filter hook forward priority 0 ; }}
add chain {t} filter-output {{ type filter hook output priority 0 ; }}
add rule {t} reject-chain reject
add rule {t} firewall-check {f} daddr . meta l4proto . th dport vmap @firewall-ips
add rule {t} service-endpoints-check {f} daddr . meta l4proto . th dport vmap @no-endpoint-services
add rule {t} nodeport-endpoints-check {f} daddr @nodeport-ips meta l4proto . th dport \
vmap @no-endpoint-nodeports
add rule {t} cluster-ips-check {f} daddr @cluster-ips reject
add rule {t} filter-prerouting-pre-dnat ct state new jump firewall-check
add rule {t} filter-output-pre-dnat ct state new jump firewall-check
add rule {t} filter-input ct state new jump nodeport-endpoints-check
add rule {t} filter-input ct state new jump service-endpoints-check
add rule {t} filter-forward ct state new jump service-endpoints-check
add rule {t} filter-forward ct state new jump cluster-ips-check
add rule {t} filter-output ct state new jump service-endpoints-check
add rule {t} filter-output ct state new jump cluster-ips-check
"""


def rules(wanted: Sequence[ServiceLB], *, node: str = "", node_ips: Sequence[str] = ()) -> str:
    """Input of nft -f for services of one family, with the filters that refuse."""
    family = wanted[0].frontend.address.version if wanted else 4
    shapes = [Shape(one, node) for one in wanted]
    lines = dict.fromkeys(line for one in shapes for line in (*_service(one), *_refusals(one)))
    table = _table(family)
    addresses = [f"add element {table} nodeport-ips {{ {one} }}" for one in node_ips]
    return _base(_NAT, family) + _base(_FILTER, family) + "\n".join([*addresses, *lines]) + "\n"


def nat_table(wanted: Sequence[ServiceLB]) -> str:
    """The table without the filters, and all services in one transaction."""
    return _base(_NAT, 4) + addition(*wanted)


def batches(wanted: Sequence[ServiceLB], size: int = 500) -> list[str]:
    """The same in transactions of `size` services: one of 10,000 takes most of a minute."""
    parts = (wanted[start : start + size] for start in range(0, len(wanted), size))
    return [_base(_NAT, 4), *(addition(*part) for part in parts)]


def addition(*added: ServiceLB) -> str:
    """Input of nft -f: more services in a table that stands."""
    return "".join(f"{line}\n" for one in added for line in _service(Shape(one, "")))


def _table(family: int) -> str:
    return f"{_FAMILIES[family][0]} kube-proxy"


def _base(text: str, family: int) -> str:
    word, kind = _FAMILIES[family]
    return text.lstrip().format(t=_table(family), f=word, a=kind, m=MASQUERADE)


def _suffix(one: Shape) -> str:
    """What the names of a service's chains have in common."""
    where, _, port = one.name.partition(":")
    return f"{one.digest[:8]}-{where}/{one.protocol}/{port}"


def _endpoint_name(one: Shape, backend: Backend) -> str:
    address = f"{backend.address}/{backend.port}".replace(":", ".")
    rest = _suffix(one).partition("-")[2]
    return f"endpoint-{one.endpoint_digest(backend)[:8]}-{rest}__{address}"


def _service(one: Shape) -> Iterator[str]:
    table, suffix = _table(one.family), _suffix(one)
    if not one.outside:
        yield f"add element {table} cluster-ips {{ {one.service.frontend.address} }}"
    if not one.active:
        return
    for backend in one.active:
        yield from _endpoint_chain(one, backend)
    yield from _balance(one, f"service-{suffix}", one.active)
    if one.policy is TrafficPolicy.LOCAL and one.local:
        yield from _balance(one, f"local-{suffix}", one.local)
    yield from _external(one) if one.outside else ()
    yield from _elements(one)


def _elements(one: Shape) -> Iterator[str]:
    """Where a new connection is found."""
    if not one.outside and not one.eligible:
        return
    table, word = _table(one.family), _FAMILIES[one.family][0]
    kind = "local" if one.policy is TrafficPolicy.LOCAL else "service"
    target = f"{'external' if one.outside else kind}-{_suffix(one)}"
    where, port = one.service.frontend.address, one.service.frontend.port
    if one.service.kind is ServiceKind.NODE_PORT:
        key = f"{one.protocol} . {port}"
        yield f"add element {table} service-nodeports {{ {key} : goto {target} }}"
        return
    key = f"{where} . {one.protocol} . {port}"
    yield f"add element {table} service-ips {{ {key} : goto {target} }}"
    if one.service.source_ranges:
        chain = f"firewall-{_suffix(one)}"
        sources = ", ".join(map(str, one.service.source_ranges))
        yield f"add chain {table} {chain}"
        yield f"add rule {table} {chain} {word} saddr != {{ {sources} }} drop"
        yield f"add element {table} firewall-ips {{ {key} : goto {chain} }}"


def _balance(one: Shape, chain: str, backends: list[Backend]) -> Iterator[str]:
    table, word = _table(one.family), _FAMILIES[one.family][0]
    yield f"add chain {table} {chain}"
    if not one.outside:
        yield (
            f"add rule {table} {chain} {word} daddr {one.service.frontend.address}"
            f" {word} saddr != {PODS[one.family]} jump mark-for-masquerade"
        )
    names = [_endpoint_name(one, backend) for backend in backends]
    for name in names if one.affinity else ():
        kept = name.replace("endpoint-", "affinity-", 1)
        yield f"add rule {table} {chain} {word} saddr @{kept} goto {name}"
    verdicts = ", ".join(f"{i} : goto {name}" for i, name in enumerate(names))
    yield f"add rule {table} {chain} numgen random mod {len(names)} vmap {{ {verdicts} }}"


def _external(one: Shape) -> Iterator[str]:
    table, word = _table(one.family), _FAMILIES[one.family][0]
    chain, inner = f"external-{_suffix(one)}", f"service-{_suffix(one)}"
    yield f"add chain {table} {chain}"
    if one.policy is TrafficPolicy.CLUSTER:
        yield f"add rule {table} {chain} jump mark-for-masquerade"
        yield f"add rule {table} {chain} goto {inner}"
        return
    yield f"add rule {table} {chain} {word} saddr {PODS[one.family]} goto {inner}"
    yield f"add rule {table} {chain} fib saddr type local jump mark-for-masquerade"
    yield f"add rule {table} {chain} fib saddr type local goto {inner}"
    if one.local:
        yield f"add rule {table} {chain} goto local-{_suffix(one)}"


def _endpoint_chain(one: Shape, backend: Backend) -> Iterator[str]:
    table, name = _table(one.family), _endpoint_name(one, backend)
    word, kind = _FAMILIES[one.family]
    yield f"add chain {table} {name}"
    yield f"add rule {table} {name} {word} saddr {backend.address} jump mark-for-masquerade"
    if one.affinity:
        kept = name.replace("endpoint-", "affinity-", 1)
        flags = f"flags dynamic,timeout ; timeout {one.affinity}s ;"
        yield f"add set {table} {kept} {{ type {kind} ; {flags} }}"
        yield f"add rule {table} {name} update @{kept} {{ {word} saddr }}"
    yield f"add rule {table} {name} meta l4proto {one.protocol} dnat to {backend}"


def _refusals(one: Shape) -> Iterable[str]:
    if one.eligible:
        return
    verdict = "drop" if one.active else "goto reject-chain"
    port, comment = f"{one.protocol} . {one.service.frontend.port}", f'comment "{one.name}"'
    if one.service.kind is ServiceKind.NODE_PORT:
        where, key = "no-endpoint-nodeports", port
    else:
        where, key = "no-endpoint-services", f"{one.service.frontend.address} . {port}"
    yield f"add element {_table(one.family)} {where} {{ {key} {comment} : {verdict} }}"
