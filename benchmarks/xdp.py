# SPDX-License-Identifier: Apache-2.0
"""The XDP load balancer beside the reference H: `programs/reference_xdp.bpf.c`.

Each program runs under BPF_PROG_TEST_RUN behind a wrapper that takes the tunnel's header off
again and restores the packet, timed with the processor time of the calling thread, pinned to one
processor; a figure is the least of its rounds and holds the wrapper's own cost, which is listed.
New flows find the flow table full, so that each evicts another, in H as well. 100 backends and
a ring of 65,537 slots. A backend that leaves is the whole of set_weight(): the new table, what
differs in the ring, and the row; beside it stands the writing of a ring's bytes alone.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from statistics import median

import attrs

from benchmarks import build, frames
from benchmarks.errors import BenchmarkError
from benchmarks.packet import one_processor
from benchmarks.report import Report, at_most
from benchmarks.rounds import interleave
from pycilium import ServiceLB
from pycilium.datapath.xdp import Balancer
from pycilium.datapath.xdp_repeat import Repeated
from pycilium.datapath.xdp_settings import VipSettings
from pycilium.lb import maglev
from pycilium.libbpf import Object, ObjectSpec, Program
from pycilium.model import Backend, Frontend
from pycilium.net import NetNS, addresses, links, neighbours, sysctl

ROUNDS = 31
REPEAT = 50_000
FLOWS = 65_536
BACKENDS = 100
XDP_TX = 3
CLIENT_MAC = "02:00:00:00:00:99"
WRAPPER, REFERENCE, REFERENCE_NEW = "wrapper and an empty program", "H", "H, new flow"
SOURCE_PORT, SOURCE_ADDRESS = 34, 28  # offsets in the IPv4 frame
SOURCE_PORT6, SOURCE_ADDRESS6 = 54, 36


@attrs.frozen
class Place:
    """A device whose neighbours are the backends."""

    node: NetNS
    ifindex: int
    mac: str


def run(*, rounds: int | None = None, quick: bool = False) -> Report:
    """Measure packets, tables, and many VIPs."""
    report = Report("xdp")
    repeat, flows = (200, 200) if quick else (REPEAT, FLOWS)
    rounds = rounds or (2 if quick else ROUNDS)
    with one_processor(), ExitStack() as stack:
        place = stack.enter_context(_place())
        subjects = _references(place, stack, flows)
        for vips in (1, 20) if quick else (1, 512, 10_000):
            subjects |= _balancer(place, stack, flows, vips)
        for name in (name for name in subjects if "new flow" in name):
            subjects[name].run(flows * 2)
        samples = interleave(subjects, rounds, lambda one: one.run(repeat).nanoseconds)
    _packets(report, {name: min(values) for name, values in samples.items()})
    _tables(report, 3 if quick else 9)
    return report


def _packets(report: Report, cost: dict[str, float]) -> None:
    for name in (WRAPPER, REFERENCE, REFERENCE_NEW):
        report.add(name, cost.pop(name), "ns")
    for name, value in cost.items():
        new = "new flow" in name
        goal = at_most(1.4) if ", known flow" in name else None
        report.add(name, value, "ns", reference=REFERENCE_NEW if new else REFERENCE, goal=goal)


@contextmanager
def _place() -> Iterator[Place]:
    with NetNS.create() as node:
        device, peer = links.create_veth("eth0", "peer", ns=node)
        addresses.add("10.0.0.1/16", device.index, ns=node)
        addresses.add("fd00::1/64", device.index, ns=node)
        for one in (device, peer):
            links.set_up(one.index, ns=node)
        for family in ("ipv4", "ipv6"):
            sysctl.write(f"net/{family}/conf/all/forwarding", 1, ns=node)
        for backend in (*_backends(4), *_backends(6)):
            neighbours.add(str(backend.address), "02:00:00:00:00:10", dev=device.index, ns=node)
        yield Place(node, device.index, device.mac)


def _backends(family: int) -> list[Backend]:
    base = ip_address("10.0.1.0" if family == 4 else "fd00::100")
    return [Backend(base + i, 80) for i in range(BACKENDS)]


def _frame(place: Place, flow: frames.Tuple, flags: int = frames.ACK) -> bytes:
    return frames.tcp_frame(flow, source_mac=CLIENT_MAC, destination_mac=place.mac, flags=flags)


FLOW = frames.Tuple("198.51.100.1", "192.0.2.1", 1234, 80)
FLOW6 = frames.Tuple("2001:db8::99", "2001:db8:1::1", 1234, 80)


def _references(place: Place, stack: ExitStack, flows: int) -> dict[str, Repeated]:
    spec = ObjectSpec.from_file(build.program("reference_xdp"))
    loaded = stack.enter_context(spec.load(max_entries={"bench_flows": flows}))
    _teach(loaded)
    program = loaded.programs["reference"]
    return {
        WRAPPER: _load(stack, place, None, _frame(place, FLOW), expect=2),
        REFERENCE: _load(stack, place, program, _frame(place, FLOW)),
        REFERENCE_NEW: _load(stack, place, program, _frame(place, FLOW, frames.SYN), new=True),
    }


def _teach(reference: Object) -> None:
    """Its one service and that service's backend."""
    port = FLOW.destination_port.to_bytes(2, "big")
    key = ip_address(FLOW.destination).packed + port + (6).to_bytes(2, "little")
    backend = ip_address("10.0.1.0").packed + port + bytes(14)
    reference.maps["bench_services"][key] = backend


def _balancer(place: Place, stack: ExitStack, flows: int, vips: int) -> dict[str, Repeated]:
    """The first balancer has both families; those of many VIPs show that one costs as much."""
    sizes = {
        "pcl_xdp_flows4": flows,
        "pcl_xdp_flows6": flows,
        "pcl_xdp_vips": 2 * vips + 8,
        "pcl_xdp_rings": 2 * maglev.DEFAULT_SIZE + vips * 251,
    }
    balancer = stack.enter_context(
        place.node.run(lambda: Balancer.open(devices=["eth0"], mode="native", sizes=sizes))
        if vips == 1
        else _second(place, sizes)
    )
    services, settings = _services(vips)
    balancer.services.apply(services, settings=settings)
    program = balancer.object.programs["balance"]
    plural = "VIP" if vips == 1 else "VIPs"
    known, new = f"IPIP, known flow, {vips:,} {plural}", f"IPIP, new flow, {vips:,} {plural}"
    found = {
        known: _load(stack, place, program, _frame(place, FLOW)),
        new: _load(stack, place, program, _frame(place, FLOW, frames.SYN), new=True),
    }
    if vips == 1:
        found["IPv6 in IPv6, known flow"] = _load(stack, place, program, _frame(place, FLOW6))
        found["IPv6 in IPv6, new flow"] = _load(
            stack, place, program, _frame(place, FLOW6, frames.SYN), new=True
        )
    return found


@contextmanager
def _second(place: Place, sizes: dict[str, int]) -> Iterator[Balancer]:
    """On a device of its own: one XDP program for each."""
    number = sizes["pcl_xdp_vips"]
    device, _ = links.create_veth(f"x{number}", f"y{number}", ns=place.node)
    with place.node.run(
        lambda: Balancer.open(devices=[device.name], mode="generic", sizes=sizes)
    ) as balancer:
        yield balancer
    links.delete(device.index, ns=place.node)


def _services(vips: int) -> tuple[list[ServiceLB], dict[Frontend, VipSettings]]:
    first = ServiceLB(Frontend(ip_address(FLOW.destination), 80), backends=_backends(4))
    other = ServiceLB(Frontend(ip_address(FLOW6.destination), 80), backends=_backends(6))
    base = ip_address("10.200.0.0")
    more = [ServiceLB(Frontend(base + i, 80), backends=_backends(4)[:1]) for i in range(1, vips)]
    return [first, other, *more], {one.frontend: VipSettings(ring=251) for one in more}


def _load(
    stack: ExitStack,
    place: Place,
    program: Program | None,
    frame: bytes,
    *,
    new: bool = False,
    expect: int = XDP_TX,
) -> Repeated:
    long = len(frame) == frames.LONG
    port, address = (SOURCE_PORT6, SOURCE_ADDRESS6) if long else (SOURCE_PORT, SOURCE_ADDRESS)
    one = stack.enter_context(
        Repeated.load(
            program,
            frame,
            node=place.node,
            ifindex=place.ifindex,
            port=port if new else 0,
            address=address if new else 0,
        )
    )
    got = one.run(2).retval
    if got != expect:
        raise BenchmarkError(f"the program under test returned {got}, not {expect}")
    return one


def _tables(report: Report, rounds: int) -> None:
    """One backend of a hundred leaves a table of 65,537 slots, and comes back."""
    names = itertools.cycle(str(backend) for backend in _backends(4))
    sizes = {"pcl_xdp_rings": maglev.DEFAULT_SIZE}
    with (
        _place() as place,
        place.node.run(lambda: Balancer.open(devices=["eth0"], sizes=sizes)) as balancer,
    ):
        services, _ = _services(1)
        balancer.services.apply(services[:1])

        def leave() -> float:
            maglev.forget()
            return _timed(lambda: balancer.set_weight(services[0], next(names), 0))

        def write() -> float:
            keys = b"".join(i.to_bytes(4, "little") for i in range(maglev.DEFAULT_SIZE))
            values = bytes(len(keys) * 2)
            table = balancer.object.maps["pcl_xdp_rings"]
            return _timed(lambda: table.batch_update(keys, values, maglev.DEFAULT_SIZE))

        taken = {"a ring's 65,537 slots written in one batch": [write() for _ in range(rounds)]}
        balancer.services.apply([])
        balancer.services.apply(services[:1])
        taken["one of 100 backends leaves"] = [leave() for _ in range(rounds)]
    write_all, leave_one = taken
    report.add(write_all, median(taken[write_all]), "s")
    report.add(leave_one, median(taken[leave_one]), "s", reference=write_all)


def _timed(action: Callable[[], object]) -> float:
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin
