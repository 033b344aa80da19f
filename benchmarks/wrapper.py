# SPDX-License-Identifier: Apache-2.0
"""One program behind the wrapper that gives each repetition a fresh packet."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from benchmarks import build, frames
from benchmarks.errors import BenchmarkError
from pycilium.libbpf import Object, ObjectSpec, Program
from pycilium.net import NetNS

REPEAT = 100_000
EVENTS = 4_000  # records that the event ring takes between two drains


@attrs.frozen
class Renumber:
    """Which fields of the frame make every packet a new connection; 0: none."""

    low: int = 0  # offset of the 16-bit field that counts packets
    high: int = 0  # offset of the one that counts 65536 packets
    high_mask: int = 0


@attrs.frozen
class Place:
    """Where the program believes to be: a device, in a namespace."""

    namespace: NetNS
    ifindex: int


class Wrapped:
    """A program under test, its packet, and the device it arrives on."""

    def __init__(self, wrapper: Object, place: Place, frame: bytes, settle: Callable[[], object]):
        self._wrapper = wrapper
        self._place = place
        self._frame = frame
        self._settle = settle

    @classmethod
    def load(
        cls,
        program: Program,
        frame: bytes,
        place: Place,
        *,
        renumber: Renumber | None = None,
        settle: Callable[[], object] = lambda: None,
    ) -> Wrapped:
        """Load a wrapper for the program; `settle` is called, untimed, between batches."""
        fields = renumber or Renumber()
        wrapper = ObjectSpec.from_file(build.program("wrapper")).load(
            variables={
                "bench_long_frame": int(len(frame) == frames.LONG),
                "bench_low_offset": fields.low,
                "bench_high_offset": fields.high,
                "bench_high_mask": fields.high_mask,
            }
        )
        wrapper.maps["bench_frame"][0] = frame.ljust(frames.LONG, b"\0")
        wrapper.maps["bench_target"][0] = program.fd
        return cls(wrapper, place, frame, settle)

    def verdict(self) -> int:
        """What the program returns for the packet."""
        return self._test_run(1)[0]

    def expect(self, *verdicts: int) -> None:
        """Refuse to measure a program that does something else with the packet."""
        got = self.verdict()
        if got not in verdicts:
            raise BenchmarkError(f"the program returned {got}, expected one of {verdicts}")

    def measure(self, repeat: int) -> float:
        """Nanoseconds of processor time per packet, the wrapper's own included."""
        return self._test_run(repeat)[1]

    def measure_batches(self, repeat: int) -> float:
        """The same in batches that the event ring holds, drained in between."""
        batches = max(1, repeat // EVENTS)
        total = 0.0
        for _ in range(batches):
            self._settle()
            total += self.measure(min(repeat, EVENTS))
        return total / batches

    def close(self) -> None:
        self._wrapper.close()

    def _test_run(self, repeat: int) -> tuple[int, float]:
        wrapper = self._wrapper.programs["wrapper"]
        run = self._place.namespace.run(
            lambda: wrapper.test_run(
                self._frame, ctx={"ifindex": self._place.ifindex}, repeat=repeat
            )
        )
        return run.retval, run.nanoseconds
