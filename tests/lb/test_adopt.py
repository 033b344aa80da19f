# SPDX-License-Identifier: Apache-2.0
"""kube-proxy's rules as services: written in its shapes, they come back."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks import kubeproxy
from pycilium import ServiceLB, SpecError
from pycilium.lb.adopt import Adoption, iptables, nftables
from pycilium.net import NetNS

NODE = "n1"
MODES = ("legacy", "nft", "nftables")
KINDS = ("ClusterIP", "NodePort", "ExternalIP", "LoadBalancer")


@st.composite
def one_service(draw: Any, number: int, family: int) -> ServiceLB:
    """What kube-proxy's rules can express; each service has an address of its own."""
    kind = draw(st.sampled_from(KINDS))
    address = f"10.96.0.{number + 1}" if family == 4 else f"[fd96::{number + 1}]"
    anywhere = "0.0.0.0" if family == 4 else "[::]"
    where = anywhere if kind == "NodePort" else address
    port = 30000 + number if kind == "NodePort" else draw(st.integers(1, 65535))
    protocol = draw(st.sampled_from(("tcp", "udp", "sctp")))
    local = draw(st.booleans())
    more: dict[str, Any] = {}
    if draw(st.booleans()):
        more = {"session_affinity": "ClientIP", "affinity_timeout": draw(st.integers(1, 86400))}
    if kind == "ClusterIP" and local:
        more["internal_traffic_policy"] = "Local"
    elif local:
        more["external_traffic_policy"] = "Local"
    if kind == "LoadBalancer":
        prefix = "198.51.100.0/24" if family == 4 else "2001:db8::/32"
        more["source_ranges"] = [prefix]
    hosts = draw(st.lists(st.integers(1, 200), min_size=1, max_size=4, unique=True))
    net = "10.1.0." if family == 4 else "fd01::"
    backends = [f"{net}{n}:8080" if family == 4 else f"[{net}{n}]:8080" for n in hosts]
    made = ServiceLB(f"{where}:{port}/{protocol}", backends=backends, kind=kind,
                     name=f"ns/svc-{number}:http", **more)  # fmt: skip
    return here(made) if local else made


def here(service: ServiceLB) -> ServiceLB:
    """With all backends on this node: what runs elsewhere has no name in the rules."""
    backends = [attrs.evolve(one, node=NODE) for one in service.backends]
    return attrs.evolve(service, backends=backends)


@st.composite
def services(draw: Any) -> tuple[int, list[ServiceLB]]:
    family = draw(st.sampled_from((4, 6)))
    count = draw(st.integers(1, 5))
    return family, [draw(one_service(number, family)) for number in range(count)]


def feed(ns: NetNS, command: list[str], text: str = "") -> str:
    done = ns.run(
        lambda: subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    )
    assert done.returncode == 0, done.stderr + text
    return done.stdout


def held(ns: NetNS, mode: str, family: int, wanted: list[ServiceLB]) -> str:
    """What the tools print after the kernel has taken the rules."""
    if mode == "nftables":
        feed(ns, ["nft", "-f", "-"], kubeproxy.nftables.rules(wanted, node=NODE))
    else:
        rules = kubeproxy.iptables.rules(wanted, node=NODE)
        feed(ns, [f"ip{'6' if family == 6 else ''}tables-{mode}-restore"], rules)
    return listing(ns, mode, family)


def listing(ns: NetNS, mode: str, family: int) -> str:
    six = "6" if family == 6 else ""
    if mode == "nftables":
        return feed(ns, ["nft", "-j", "list", "table", f"ip{six}", "kube-proxy"])
    return feed(ns, [f"ip{six}tables-{mode}-save"])


def read(mode: str, family: int, text: str) -> Adoption:
    reader = nftables.read if mode == "nftables" else iptables.read
    return reader(text, family=family, node=NODE)


def same(found: tuple[ServiceLB, ...], wanted: list[ServiceLB]) -> bool:
    """Equal, whatever the order of backends."""

    def plain(one: ServiceLB) -> ServiceLB:
        return attrs.evolve(one, backends=sorted(one.backends, key=str))

    return {one.frontend: plain(one) for one in found} == {
        one.frontend: plain(one) for one in wanted
    }


@pytest.mark.root
@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(drawn=services())
def test_what_the_kernel_holds_is_read_back(mode: str, drawn: tuple[int, list[ServiceLB]]) -> None:
    family, wanted = drawn
    with NetNS.create() as ns:
        found = read(mode, family, held(ns, mode, family, wanted))
    assert not found.unread, [str(one) for one in found.unread]
    assert same(found.services, wanted)
    assert found.removals({one.frontend for one in wanted}) == found.jumps
    assert len(found.jumps) >= 2
    partly = found.removals({wanted[0].frontend})
    assert partly == (found.jumps if len(wanted) == 1 else found.entries[wanted[0].frontend])


@pytest.mark.root
@pytest.mark.parametrize("mode", MODES)
def test_services_without_endpoints_are_services(mode: str) -> None:
    wanted = [
        ServiceLB("10.96.0.1:80/tcp", backends=[], name="ns/a:http"),
        ServiceLB("0.0.0.0:30080/udp", backends=[], name="ns/b", kind="NodePort"),
        ServiceLB("203.0.113.9:80/tcp", backends=[], name="ns/c", kind="ExternalIP"),
        ServiceLB("10.96.0.2:80/tcp", backends=["10.1.0.1:80"], name="ns/d"),
    ]
    with NetNS.create() as ns:
        found = read(mode, 4, held(ns, mode, 4, wanted))
    assert not found.unread
    assert same(found.services, wanted)


OLDER = """*nat
:KUBE-SERVICES - [0:0]
:KUBE-XLB-AAAA - [0:0]
-A PREROUTING -j ACCEPT
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A KUBE-SERVICES ! -s 10.0.0.0/8 -d 10.96.0.1/32 -p tcp -m comment --comment "ns/a cluster IP" \
-m tcp --dport 80 -j KUBE-MARK-MASQ
-A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m comment --comment "ns/a cluster IP" -m tcp --dport 80 \
-j KUBE-SVC-AAAA
-A KUBE-SERVICES -d 192.0.2.1/32 -p tcp -m comment --comment "ns/a loadbalancer IP" -m tcp \
--dport 80 -j KUBE-FW-AAAA
-A KUBE-FW-AAAA -m comment --comment "ns/a loadbalancer IP" -j KUBE-XLB-AAAA
-A KUBE-FW-AAAA -m comment --comment "ns/a loadbalancer IP" -j KUBE-MARK-DROP
-A KUBE-XLB-AAAA -s 10.0.0.0/8 -m comment --comment "Redirect pods" -j KUBE-SVC-AAAA
-A KUBE-XLB-AAAA -m comment --comment "masquerade" -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ
-A KUBE-XLB-AAAA -m comment --comment "route" -m addrtype --src-type LOCAL -j KUBE-SVC-AAAA
-A KUBE-XLB-AAAA -m comment --comment "Balancing rule 0 for ns/a" -j KUBE-SEP-ONE
-A KUBE-SVC-AAAA -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-ONE
-A KUBE-SVC-AAAA -j KUBE-SEP-TWO
-A KUBE-SEP-ONE -s 10.1.0.1/32 -j KUBE-MARK-MASQ
-A KUBE-SEP-ONE -p tcp -m tcp -j DNAT --to-destination 10.1.0.1:8080
-A KUBE-SEP-TWO -p tcp -m tcp -j DNAT --to-destination 10.1.0.2:8080
COMMIT
"""


def test_the_older_shape_with_xlb() -> None:
    found = iptables.read(OLDER, node=NODE)
    assert not found.unread, [str(one) for one in found.unread]
    inside, outside = found.services
    assert [str(one) for one in inside.backends] == ["10.1.0.1:8080", "10.1.0.2:8080"]
    assert outside.external_traffic_policy.value == "Local"
    assert [(str(one), one.node) for one in outside.backends] == [
        ("10.1.0.1:8080", NODE), ("10.1.0.2:8080", ""),
    ]  # fmt: skip
    (jump,) = found.jumps
    assert jump.restore.startswith("-I PREROUTING 2 -m comment")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("--probability 0.50000000000", "--probability 0.7", "save:15: a share other than 1 of 2"),
        (
            "-m tcp --dport 80 -j KUBE-SVC",
            "-i eth0 -m tcp --dport 80 -j KUBE-SVC",
            ": -i is not known",
        ),
        ("10.96.0.1/32 -p tcp", "10.96.0.0/16 -p tcp", "not one IPv4 address"),
        ("ns/a cluster IP", "something else", "does not say the kind"),
        ("-j DNAT --to-destination 10.1.0.1:8080", "-j RETURN", "without a destination"),
    ],
)
def test_what_is_not_understood_is_reported_by_line(old: str, new: str, said: str) -> None:
    found = iptables.read(OLDER.replace(old, new), file="save")
    assert said in "\n".join(map(str, found.unread))
    assert found.removals({one.frontend for one in found.services}) != found.jumps


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "KUBE-SERVICES"),
        ("*nat\nwhat\n", "save:2: line"),
        ('*nat\n-A KUBE-SERVICES --comment "open\n', "closed quotes"),
        ("*nat\n-A KUBE-SERVICES " + "x" * 9000, "at most 8192"),
    ],
)
def test_what_is_no_output_of_the_tool_is_refused(text: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        iptables.read(text, file="save")


WORDS = st.sampled_from([*OLDER.split(), "!", '"', "\\", "-A", "65536", "::1"])


@settings(max_examples=300, deadline=None)
@given(st.lists(WORDS, max_size=40), st.integers(0, 20))
def test_any_rule_is_read_or_reported(words: list[str], at: int) -> None:
    lines = OLDER.split("\n")
    lines.insert(min(at + 3, len(lines)), "-A KUBE-SVC-AAAA " + " ".join(words))
    try:
        iptables.read("\n".join(lines))
    except SpecError:
        return


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(("rule", "map", "chain", "expr", "family", "table", "name",
                                       "elem", "goto")), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(JSON)
def test_any_json_is_read_or_refused(value: Any) -> None:
    table = [{"chain": {"family": "ip", "table": "kube-proxy", "name": "services"}}]
    service_ips = {"map": {"family": "ip", "table": "kube-proxy", "name": "service-ips",
                           "elem": value}}  # fmt: skip
    for text in (json.dumps(value), json.dumps({"nftables": [*table, service_ips]})):
        try:
            nftables.read(text)
        except SpecError:
            continue


@pytest.mark.root
@pytest.mark.parametrize("mode", MODES)
def test_one_service_of_two_goes_and_comes_back(mode: str) -> None:
    """The tools take the commands; the other service's rules stay."""
    from pycilium.cli.adoption import Part

    wanted = [
        ServiceLB(f"10.96.0.{n}:80/tcp", backends=["10.1.0.1:80"], name=f"ns/s{n}:http")
        for n in (1, 2)
    ]
    name = mode if mode == "nftables" else f"iptables-{mode}"
    with NetNS.create() as ns:
        found = read(mode, 4, held(ns, mode, 4, wanted))
        part = Part(name, 4, found.removals({wanted[0].frontend}))
        ns.run(part.remove)
        left = read(mode, 4, listing(ns, mode, 4))
        assert left.services == (wanted[1],)
        assert len(left.jumps) == len(found.jumps)
        ns.run(part.restore)
        assert same(read(mode, 4, listing(ns, mode, 4)).services, wanted)
