# SPDX-License-Identifier: Apache-2.0
"""Nanoseconds per packet, beside the reference R: `programs/reference.bpf.c`.

Each program runs under BPF_PROG_TEST_RUN behind a wrapper that restores its
packet, timed with the processor time of the calling thread, pinned to one
processor. A figure is the least of its rounds and holds the wrapper's own cost,
which is listed; so does R. Before it is timed, a program is asked once what it
does with the packet. New connections find the connection table full, so that
each of them evicts another, and their events are written and read.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from ipaddress import ip_address

from benchmarks import build
from benchmarks import device as at_device
from benchmarks.cases import CASES, POD, REDIRECT, Case
from benchmarks.report import Report
from benchmarks.rounds import interleave
from benchmarks.scene import Pod, Scene, scene
from benchmarks.wrapper import EVENTS, Wrapped
from pycilium.libbpf import Object, ObjectSpec

ROUNDS = 31
REPEAT = 50_000
FILL = 300_000  # new connections before the first round: more than the table holds

EMPTY = "wrapper and an empty program"
REFERENCE = "R"


def run(*, rounds: int | None = None, quick: bool = False) -> Report:
    """Measure every case beside R."""
    repeat, fill = (1_000, 1_000) if quick else (REPEAT, FILL)
    with one_processor(), scene() as around, ExitStack() as stack:
        subjects = _references(around, stack) | _cases(around, stack, fill)
        subjects |= _device_cases(stack, fill)
        samples = interleave(
            subjects, rounds or (2 if quick else ROUNDS), lambda subject: subject.measure(repeat)
        )
        for case in at_device.CASES:  # still so: the ports that the node took have not changed
            subjects[case.name].expect(case.verdict)
    return _report({name: min(measured) for name, measured in samples.items()})


def _report(cost: dict[str, float]) -> Report:
    report = Report("packet")
    for name in (EMPTY, REFERENCE):
        report.add(name, cost[name], "ns")
    for case in CASES:
        report.add(case.name, cost[case.name], "ns", reference=REFERENCE, goal=case.goal)
    for at in at_device.CASES:
        report.add(at.name, cost[at.name], "ns", reference=REFERENCE)
    return report


def _references(around: Scene, stack: ExitStack) -> dict[str, Wrapped]:
    loaded = stack.enter_context(ObjectSpec.from_file(build.program("reference")).load())
    _teach(loaded, around.server)
    frame = around.client.frame(POD.flow, CASES[0].flags)
    wrapped = {}
    for name, program, verdict in ((EMPTY, "empty", 0), (REFERENCE, "reference", REDIRECT)):
        made = Wrapped.load(loaded.programs[program], frame, around.client.place)
        wrapped[name] = stack.enter_context(made)
        made.expect(verdict)
    return wrapped


def _teach(reference: Object, to: Pod) -> None:
    flow = POD.flow
    key = ip_address(flow.source).packed + ip_address(flow.destination).packed
    key += struct.pack("!HHB3x", flow.source_port, flow.destination_port, 6)
    macs = bytes.fromhex((to.mac + to.gateway_mac).replace(":", ""))
    reference.maps["bench_flows"][key] = struct.pack("=I", to.place.ifindex) + macs


def _cases(around: Scene, stack: ExitStack, fill: int) -> dict[str, Wrapped]:
    wrapped = {case.name: stack.enter_context(_wrap(case, around)) for case in CASES}
    for case in CASES:
        if case.renumber:
            wrapped[case.name].measure(fill)
    for case in CASES:
        wrapped[case.name].expect(case.verdict)
    return wrapped


def _wrap(case: Case, around: Scene) -> Wrapped:
    """What stands between two batches: an evicted connection comes back, the ring is read."""
    pod = around.sender(case.flow)
    load = partial(
        Wrapped.load,
        around.program,
        pod.frame(case.flow, case.flags),
        pod.place,
        renumber=case.renumber,
    )
    if case.connection:
        flow, reply = case.connection.flow, case.connection.reply
        return load(before=lambda: around.establish(flow, reply))
    return load(before=around.events.drain, batch=EVENTS)


def _device_cases(stack: ExitStack, fill: int) -> dict[str, Wrapped]:
    """New connections have a node of their own: they evict, and a port once taken must stay."""
    where = {new: stack.enter_context(at_device.device()) for new in (False, True)}
    wrapped = {
        case.name: stack.enter_context(case.wrap(where[case.new])) for case in at_device.CASES
    }
    for case in at_device.CASES:
        if case.new:
            wrapped[case.name].measure(fill)
    for case in at_device.CASES:
        wrapped[case.name].expect(case.verdict)
    return wrapped


@contextmanager
def one_processor() -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
