# SPDX-License-Identifier: Apache-2.0
"""Failures made for real on this kernel: each is confirmed, and nothing else is."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pycilium import KernelError, MapFullError, VerifierError
from pycilium.doctor import Failure, Machine, Result, diagnose
from pycilium.libbpf import (
    CgroupHook,
    Hook,
    Link,
    MapType,
    Object,
    ObjectSpec,
    TcFilter,
    XdpMode,
    features,
)
from pycilium.libbpf._native import check, lib
from pycilium.net import NetNS, links, sysctl

pytestmark = pytest.mark.root
CGROUP = Path("/sys/fs/cgroup/unified")
PASSING = """
SEC("tc") int pass_tc(struct __sk_buff *skb) { return TC_ACT_UNSPEC; }
SEC("tc") int other_tc(struct __sk_buff *skb) { return TC_ACT_OK; }
SEC("xdp") int pass_xdp(struct xdp_md *ctx) { return XDP_PASS; }
SEC("cgroup/connect4") int connect4(struct bpf_sock_addr *ctx) { return 1; }
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __type(key, __u32); __type(value, __u64);
  __uint(max_entries, 4); } array SEC(".maps");
struct prefix { __u32 length; __u8 bytes[4]; };
struct { __uint(type, BPF_MAP_TYPE_LPM_TRIE); __type(key, struct prefix); __type(value, __u32);
  __uint(max_entries, 2); __uint(map_flags, BPF_F_NO_PREALLOC); } trie SEC(".maps");
"""
TC = 'SEC("tc") int bad(struct __sk_buff *skb) {{ {} }}'
REFUSED = {
    "PYC-V1": TC.format("return ((char *)(long)skb->data)[12];"),
    "PYC-V2": TC.format("__u32 k = 0; __u64 *v = bpf_map_lookup_elem(&hash, &k); return *v;"),
    "PYC-V2 scalar": TC.format("return *(__u32 *)(long)skb->len;"),
    "PYC-V3": 'SEC("xdp") int bad(struct xdp_md *c) { return bpf_skb_pull_data((void *)c, 1); }',
    "PYC-V4": TC.format("int (*f)(void *) = (void *)9999; return f(skb);"),
    "PYC-V6": TC.format('__u32 i = 1; while (i) { asm volatile("" : "+r"(i)); } return 0;'),
    "PYC-V8": TC.format("return bpf_ringbuf_reserve(&ring, 8, 0) ? 1 : 0;"),
    "PYC-V9": 'SEC("cgroup/connect4") int bad(struct bpf_sock_addr *ctx) { return 7; }',
    "PYC-V10": TC.format("skb->len = 1; return 0;"),
    "PYC-V13": TC.format("char b[8] = {}; bpf_skb_load_bytes(skb, 0, b, skb->len); return b[0];"),
    "PYC-V5": TC.format("return bpf_skb_ecn_set_ce(skb) + bpf_ktime_get_boot_ns();"),
    "PYC-V15": 'SEC("fentry/no_such_function_pcl") int bad(void *ctx) { return 0; }',
    "PYC-L1": 'SEC("xdp_prog1") int bad(struct xdp_md *ctx) { return 0; }',
    "PYC-E4": 'SEC("fentry/ip_rcv") int bad(void *ctx) { return 0; }',
}


def codes(error: KernelError, result: Result = Result.CONFIRMED) -> list[str]:
    return [one.code for one in error.diagnosis.findings if one.result is result]


@pytest.fixture
def loaded(compiled: Callable[..., ObjectSpec], no_leaks: None) -> Iterator[Object]:
    with compiled(PASSING).load() as obj:
        yield obj


@pytest.fixture
def device(node: NetNS) -> int:
    return links.create_veth("one", "two", ns=node)[0].index


def attach_xdp(node: NetNS, loaded: Object, index: int, mode: XdpMode) -> Link:
    return node.run(Link.attach_xdp, loaded.programs["pass_xdp"], index, mode)


@pytest.mark.parametrize("name", [n for n in REFUSED if n not in ("PYC-E4", "PYC-V5")])
def test_a_program_is_refused(compiled: Callable[..., ObjectSpec], name: str) -> None:
    with pytest.raises(KernelError) as caught:
        compiled(REFUSED[name]).load()
    code = name.split(maxsplit=1)[0]
    assert codes(caught.value) == [code], caught.value.diagnosis
    assert f"[{code} confirmed]" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_licence_is_too_free(compiled: Callable[..., ObjectSpec]) -> None:
    body = TC.format('char t[] = "x"; return bpf_trace_printk(t, sizeof(t));')
    with pytest.raises(VerifierError) as caught:
        compiled(body, "Proprietary").load()
    assert codes(caught.value) == ["PYC-V5"]


def test_a_type_of_program_is_refused_to_everybody(compiled: Callable[..., ObjectSpec]) -> None:
    """Only where the kernel does so; nothing is confirmed."""
    try:
        compiled(REFUSED["PYC-E4"]).load().close()
    except KernelError as error:
        if error.errno != 1:
            pytest.skip(f"refused otherwise: {error}")
        assert codes(error, Result.LIKELY) == ["PYC-E4"]  # noqa: PT017 - only where refused
        assert codes(error) == []  # noqa: PT017
    else:
        pytest.skip("this kernel accepts fentry")


def test_a_refusal_shows_line_register_and_suggestion(compiled: Callable[..., ObjectSpec]) -> None:
    with pytest.raises(VerifierError) as caught:
        compiled(REFUSED["PYC-V1"]).load()
    text = str(caught.value)
    assert "R1 is a pointer into the packet, of which 0 bytes are checked" in text
    assert ".bpf.c:" in text
    assert "data_end" in text


def test_a_full_map(loaded: Object) -> None:
    table = loaded.maps["hash"]
    table.update((i, i) for i in range(4))
    with pytest.raises(MapFullError) as caught:
        table[9] = 9
    assert codes(caught.value) == ["PYC-M1"]
    assert "4 of 4" in str(caught.value)


def test_an_index_beyond_an_array(loaded: Object) -> None:
    with pytest.raises(KernelError, match="beyond the array's 4 entries") as caught:
        loaded.maps["array"][4] = 1
    assert codes(caught.value) == ["PYC-M2"]


def test_a_full_trie(loaded: Object) -> None:
    trie = loaded.maps["trie"]
    entry = trie.key_codec.decode(bytes(8), 0)
    keys = [entry._replace(length=32, bytes=[10, 0, 0, i]) for i in range(3)]
    trie.update((key, 1) for key in keys[:2])
    with pytest.raises(MapFullError) as caught:
        trie[keys[2]] = 1
    assert codes(caught.value) == ["PYC-M3"]


@pytest.mark.parametrize(
    ("code", "kind", "sizes", "flags"),
    [("PYC-M5", MapType.LPM_TRIE, (8, 4, 4), 0), ("PYC-M6", MapType.RINGBUF, (0, 0, 5000), 0)],
)
def test_a_map_is_not_made(
    code: str, kind: MapType, sizes: tuple[int, int, int], flags: int
) -> None:
    fd = lib.pcl_map_create(kind, b"case", *sizes, flags)
    facts = Failure(map_type=kind.name, max_entries=sizes[2], flags=flags)
    with pytest.raises(KernelError) as caught:
        check(fd, "create map", "case", facts)
    assert codes(caught.value) == [code]


def test_pins(loaded: Object, bpffs: Path, tmp_path: Path) -> None:
    program = loaded.programs["pass_tc"]
    program.pin(bpffs / "one")
    with pytest.raises(KernelError) as caught:
        program.pin(bpffs / "one")
    assert codes(caught.value) == ["PYC-M8"]
    (bpffs / "one").unlink()
    with pytest.raises(KernelError) as caught:
        program.pin(tmp_path / "one")
    assert codes(caught.value) == ["PYC-E9"]
    assert "mount -t bpf" in str(caught.value)


def test_a_directory_outside_cgroup2(loaded: Object) -> None:
    with pytest.raises(KernelError) as caught:
        Link.attach_cgroup(loaded.programs["connect4"], "/tmp", CgroupHook.INET4_CONNECT)
    assert codes(caught.value) == ["PYC-E12"]
    assert "cgroup2" in str(caught.value)


def test_a_program_for_another_call(loaded: Object) -> None:
    with pytest.raises(KernelError) as caught:
        Link.attach_cgroup(loaded.programs["connect4"], CGROUP, CgroupHook.INET6_CONNECT)
    assert codes(caught.value) == []
    assert codes(caught.value, Result.LIKELY) == ["PYC-A7"]


def test_the_kernels_words_for_a_large_mtu(loaded: Object, node: NetNS, device: int) -> None:
    for one in links.list_all(ns=node):
        if one.kind == "veth":
            links.set_mtu(one.index, 9000, ns=node)
    with pytest.raises(KernelError) as caught:
        attach_xdp(node, loaded, device, XdpMode.NATIVE)
    assert codes(caught.value) == ["PYC-A1"]
    assert "MTU is too large" in caught.value.failure.kernel_text
    assert "ip link set dev one mtu 3506" in str(caught.value)


def test_who_holds_the_interface(loaded: Object, node: NetNS, device: int) -> None:
    with attach_xdp(node, loaded, device, XdpMode.NATIVE) as link:
        with pytest.raises(KernelError) as caught:
            attach_xdp(node, loaded, device, XdpMode.NATIVE)
        assert codes(caught.value) == ["PYC-A2"]
        assert f"link {link.info().id} of " in str(caught.value)
        assert f"({os.getpid()})" in str(caught.value)
        with pytest.raises(KernelError) as caught:
            attach_xdp(node, loaded, device, XdpMode.GENERIC)
        assert codes(caught.value)[0] == "PYC-A3"
        with pytest.raises(KernelError) as caught:
            links.set_xdp(device, -1, int(XdpMode.NATIVE), ns=node)
        assert codes(caught.value)[0] == "PYC-A4"


def test_a_driver_without_xdp(loaded: Object, node: NetNS) -> None:
    with pytest.raises(KernelError) as caught:
        attach_xdp(node, loaded, 1, XdpMode.NATIVE)
    assert codes(caught.value) == ["PYC-A5"]


def test_programs_of_another_type(loaded: Object, node: NetNS, device: int) -> None:
    with pytest.raises(KernelError) as caught:
        node.run(Link.attach_xdp, loaded.programs["pass_tc"], device)
    assert codes(caught.value) == ["PYC-A7"]
    with pytest.raises(KernelError) as caught:
        node.run(Link.attach_tcx, loaded.programs["pass_xdp"], device, Hook.RX)
    assert codes(caught.value) == ["PYC-A7"]


def test_a_chain(loaded: Object, node: NetNS, device: int) -> None:
    program = loaded.programs["pass_tc"]
    with node.run(Link.attach_tcx, program, device, Hook.RX):
        with pytest.raises(KernelError) as caught:
            node.run(Link.attach_tcx, program, device, Hook.RX)
        assert codes(caught.value) == ["PYC-A8"]
    with pytest.raises(KernelError) as caught:
        node.run(Link.attach_tcx, program, 9999, Hook.RX)
    assert codes(caught.value) == ["PYC-A8"]


def said(node: NetNS, *command: str) -> str:
    """What a tool says when it fails."""
    done = node.run(
        lambda: subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    )
    assert done.returncode
    return done.stderr


@pytest.mark.parametrize(
    ("code", "operation", "kind", "command"),
    [
        ("PYC-E14", "create link", "dummy", "ip link add x type dummy"),
        ("PYC-E14", "create link", "netkit", "ip link add x type netkit"),
        ("PYC-E14", "create link", "geneve", "ip link add x type geneve id 1 remote 192.0.2.1"),
        ("PYC-E14", "add qdisc", "fq", "tc qdisc add dev one root fq"),
        ("PYC-A9", "add filter", "", "tc filter add dev one ingress matchall action drop"),
    ],
)
def test_what_tools_say(
    node: NetNS, device: int, code: str, operation: str, kind: str, command: str
) -> None:
    text = said(node, *command.split())
    failure = Failure(operation=operation, kind=kind, messages=text)
    found = node.run(diagnose, failure)
    assert [f.code for f in found.findings if f.result is Result.CONFIRMED] == [code], (text, found)


def test_clsact_twice(node: NetNS, device: int) -> None:
    add = ("tc", "qdisc", "add", "dev", "one", "clsact")
    node.run(lambda: subprocess.run(add, check=True))
    found = node.run(diagnose, Failure(operation="add qdisc", messages=said(node, *add)))
    assert found.best is not None
    assert found.best.code == "PYC-A10"


def test_a_vxlan_port_is_taken(node: NetNS) -> None:
    with node.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("0.0.0.0", 8472))
        kind = ["type", "vxlan", "id", "1", "dstport", "8472", "local", "127.0.0.1"]
        create = ["ip", "link", "add", "vx", *kind]
        node.run(lambda: subprocess.run(create, check=True))
        text = said(node, "ip", "link", "set", "vx", "up")
        found = node.run(diagnose, Failure(operation="create link", errno=98, messages=text))
    assert found.best is not None
    assert (found.best.code, found.best.result) == ("PYC-R5", Result.CONFIRMED)


def test_filters_behind_tcx(loaded: Object, node: NetNS, device: int) -> None:
    machine = Machine()
    failure = Failure(operation="check order")
    assert not node.run(diagnose, failure, machine)
    with (
        node.run(Link.attach_tcx, loaded.programs["pass_tc"], device, Hook.RX),
        node.run(TcFilter.attach, loaded.programs["other_tc"], device, Hook.RX) as behind,
    ):
        best = node.run(diagnose, failure, machine).best
        assert best is not None
        assert best.result is Result.CONFIRMED
        assert "rx pass_tc" in best.evidence
        node.run(behind.close)


def test_a_strict_reverse_path_filter(loaded: Object, node: NetNS, device: int) -> None:
    failure = Failure(operation="check rp_filter")
    with node.run(Link.attach_tcx, loaded.programs["pass_tc"], device, Hook.RX):
        for name, value in (("all", 0), ("one", 0)):
            sysctl.write(f"net/ipv4/conf/{name}/rp_filter", value, ns=node)
        assert not node.run(diagnose, failure)
        sysctl.write("net/ipv4/conf/one/rp_filter", 1, ns=node)
        best = node.run(diagnose, failure).best
        assert best is not None
        assert (best.code, best.result) == ("PYC-R1", Result.CONFIRMED)


def test_leftovers(node: NetNS) -> None:
    failure = Failure(operation="check leftovers")
    assert not node.run(diagnose, failure)
    links.create_veth("flannel.1", "two", ns=node)
    best = node.run(diagnose, failure).best
    assert best is not None
    assert (best.code, best.result) == ("PYC-R4", Result.LIKELY)


def test_no_kprobes_here() -> None:
    if Path("/sys/bus/event_source/devices/kprobe").exists():
        pytest.skip("this kernel has kprobes")
    best = diagnose(Failure(operation="attach kprobe", errno=2)).best
    assert best is not None
    assert (best.code, best.result) == ("PYC-A11", Result.CONFIRMED)


def unprivileged(code: str, *dropped: str) -> dict[str, Any]:
    """Run Python without some capabilities; it prints JSON."""
    sets = ",".join(f"-{one}" for one in dropped) or "-all"
    command = ["setpriv", "--bounding-set", sets, "--inh-caps", sets, sys.executable, "-c", code]
    env = {**os.environ, "PYTHONPATH": str(Path(features.__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


REPORT = """
import json
from pycilium import KernelError
from pycilium.libbpf import ObjectSpec
from pycilium.net import links
found = {}
try:
    ObjectSpec.bundled("endpoint").load()
except KernelError as error:
    found = {f.code: f.result for f in error.diagnosis.findings}
    text = str(error)
try:
    links.create_veth("x1", "x2")
except KernelError as error:
    more = {f.code: f.result for f in error.diagnosis.findings}
print(json.dumps({"load": found, "text": text, "veth": more}))
"""


def test_without_capabilities() -> None:
    found = unprivileged(REPORT)
    assert found["load"]["PYC-E1"] == "confirmed"
    assert found["load"]["PYC-E3"] == "ruled out"
    assert found["load"]["PYC-E4"] == "ruled out"
    assert found["veth"] == {"PYC-A12": "confirmed"}
    assert "lacks CAP_BPF and CAP_NET_ADMIN" in found["text"]
