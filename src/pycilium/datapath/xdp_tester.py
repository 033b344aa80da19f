# SPDX-License-Identifier: Apache-2.0
"""The packet tester: fixtures in, what the program did and what it costs out.

The program runs on each packet through BPF_PROG_TEST_RUN, as if it had come in on a device of
the balancer, over the tables in force: flows are remembered and backends count, as for any packet.
Only reasons are counted apart, so that the traffic of the device is not taken for the packet's.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, SupportsBytes

import attrs

from pycilium.datapath.xdp_repeat import Repeated
from pycilium.datapath.xdp_status import read_counters
from pycilium.errors import SpecError

if TYPE_CHECKING:
    from pycilium.datapath.xdp import BalancerCore
    from pycilium.datapath.xdp_status import ReasonCounter


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
    """What happened. nanoseconds: processor time of one run; of a single one with its call."""

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


class Tester:
    """The program once more, with counters of its own."""

    def __init__(self, core: BalancerCore) -> None:
        self._core = core
        shared = {
            name: one
            for name, one in core.maps.items()
            if "." not in name and name != "pcl_xdp_counters"
        }
        self._loaded = core.spec.load(
            variables=core.options.variables(),
            max_entries={name: one.max_entries for name, one in shared.items()},
            reuse=shared,
        )

    def run(self, fixture: Fixture | SupportsBytes, repeat: int) -> Result:
        """One packet; repeat: how often it is run again to be timed, each time afresh."""
        one = fixture if isinstance(fixture, Fixture) else Fixture(fixture)
        frame, ifindex = bytes(one.packet), self._ifindex(one)
        program = self._loaded.programs["balance"]
        before = self._counters()
        context = {"ingress_ifindex": ifindex, "rx_queue_index": 0}
        done = self._core.node.run(lambda: program.test_run(frame, ctx=context))
        changed = [name for name, now in self._counters().items() if before.get(name) != now]
        cost = done.nanoseconds if repeat == 1 else self._cost(frame, ifindex, repeat)
        reason = changed[0] if changed else "PCL_XDP_FORWARDED"
        return Result(one, Action(done.retval), done.data, reason, cost)

    def _counters(self) -> dict[str, ReasonCounter]:
        return read_counters(self._core.spec, self._loaded.maps["pcl_xdp_counters"])

    def _cost(self, frame: bytes, ifindex: int, repeat: int) -> float:
        """Of the program alone: the wrapper that restores the packet is taken off."""
        with (
            Repeated.load(None, frame, node=self._core.node, ifindex=ifindex) as empty,
            Repeated.load(
                self._loaded.programs["balance"], frame, node=self._core.node, ifindex=ifindex
            ) as whole,
        ):
            return max(0.0, whole.run(repeat).nanoseconds - empty.run(repeat).nanoseconds)

    def _ifindex(self, fixture: Fixture) -> int:
        devices = {one.device.name: one.device.ifindex for one in self._core.attached}
        name = fixture.device or next(iter(devices))
        if name not in devices:
            raise SpecError("device", name, f"one of {', '.join(devices)}")
        return devices[name]

    def close(self) -> None:
        """Unload."""
        self._loaded.close()
