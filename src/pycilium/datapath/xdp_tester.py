# SPDX-License-Identifier: Apache-2.0
"""The packet tester: fixtures in, what the program did and what it costs out.

The program in force runs on each packet through BPF_PROG_TEST_RUN, as if it had come in on a
device of the balancer. Counters count and flows are remembered, as for any packet.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Protocol, SupportsBytes

import attrs

from pycilium.datapath.xdp_status import read_counters
from pycilium.errors import SpecError

if TYPE_CHECKING:
    from pycilium.datapath.xdp import BalancerCore


class Action(enum.IntEnum):
    """XDP_*: what becomes of the packet."""

    ABORTED = 0
    DROP = 1
    PASS = 2
    TX = 3
    REDIRECT = 4


class MismatchError(AssertionError):
    """A fixture was not met; the text says in what."""


@attrs.frozen
class Fixture:
    """A packet, and what is expected of it; None: anything.

    packet, output: bytes, or what bytes() makes bytes of, such as a scapy packet.
    """

    packet: SupportsBytes
    action: Action | None = None
    output: SupportsBytes | None = None
    reason: str | None = None
    name: str = ""
    device: str | None = None


@attrs.frozen
class Result:
    """What happened. nanoseconds: processor time of one run, the call itself in it."""

    fixture: Fixture
    action: Action
    output: bytes
    reason: str
    nanoseconds: float

    @property
    def mismatches(self) -> list[str]:
        """In what the fixture was not met."""
        wanted, found = self.fixture, []
        if wanted.action is not None and wanted.action != self.action:
            found.append(f"action {self.action.name}, expected {wanted.action.name}")
        if wanted.reason is not None and wanted.reason != self.reason:
            found.append(f"reason {self.reason}, expected {wanted.reason}")
        if wanted.output is not None and bytes(wanted.output) != self.output:
            found.append(f"packet {self.output.hex()}, expected {bytes(wanted.output).hex()}")
        return found

    def check(self) -> Result:
        """This result; MismatchError where its fixture was not met."""
        if self.mismatches:
            raise MismatchError(f"{self.fixture.name or 'packet'}: {'; '.join(self.mismatches)}")
        return self

    def __str__(self) -> str:
        verdict = "; ".join(self.mismatches) or "ok"
        what = f"{self.action.name} {self.reason}"
        return f"{self.fixture.name or 'packet'}: {what}, {self.nanoseconds:.0f} ns, {verdict}"


class _Bytes(Protocol):
    def __bytes__(self) -> bytes: ...


def run(core: BalancerCore, fixture: Fixture | _Bytes, repeat: int) -> Result:
    """One packet; repetitions after the first are timed on the packet that the first left."""
    one = fixture if isinstance(fixture, Fixture) else Fixture(fixture)
    frame, ifindex = bytes(one.packet), _ifindex(core, one)
    program = core.object.programs["balance"]
    before = read_counters(core)
    context = {"ingress_ifindex": ifindex, "rx_queue_index": 0}
    done = core.node.run(lambda: program.test_run(frame, ctx=context))
    after = read_counters(core)
    timed = done
    if repeat > 1:
        timed = core.node.run(lambda: program.test_run(frame, ctx=context, repeat=repeat))
    changed = [name for name, now in after.items() if before.get(name) != now]
    reason = changed[0] if changed else "PCL_XDP_FORWARDED"
    return Result(one, Action(done.retval), done.data, reason, timed.nanoseconds)


def _ifindex(core: BalancerCore, fixture: Fixture) -> int:
    devices = {one.device.name: one.device.ifindex for one in core.attached}
    name = fixture.device or next(iter(devices))
    if name not in devices:
        raise SpecError("device", name, f"one of {', '.join(devices)}")
    return devices[name]
