# SPDX-License-Identifier: Apache-2.0
"""One program behind the wrapper that gives each repetition a fresh packet."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

import attrs

from benchmarks import build, frames
from benchmarks.errors import BenchmarkError
from pycilium.libbpf import Object, ObjectSpec, Program, TestRun
from pycilium.net import NetNS

EVENTS = 5_000  # events that fit into the ring between two drains


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

    def test_run(self, program: Program, frame: bytes, repeat: int = 1) -> TestRun:
        """Run the program as if the frame had come in here."""
        return self.namespace.run(
            lambda: program.test_run(frame, ctx={"ifindex": self.ifindex}, repeat=repeat)
        )


class Wrapped:
    """A program under test, its packet, and the place where it arrives."""

    def __init__(
        self, wrapper: Object, frame: bytes, place: Place, before: Callable[[], object], batch: int
    ) -> None:
        self._wrapper = wrapper
        self._frame = frame
        self._place = place
        self._before = before
        self._batch = batch

    @classmethod
    def load(
        cls,
        program: Program,
        frame: bytes,
        place: Place,
        *,
        renumber: Renumber | None = None,
        before: Callable[[], object] = lambda: None,
        batch: int = 1 << 30,
    ) -> Wrapped:
        """Load a wrapper for the program; `before` is called, untimed, before each batch."""
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
        return cls(wrapper, frame, place, before, batch)

    def expect(self, verdict: int) -> None:
        """Refuse to measure a program that does something else with the packet."""
        self._before()
        got = self._test_run(1).retval
        if got != verdict:
            raise BenchmarkError(f"the program under test returned {got}, not {verdict}")

    def measure(self, repeat: int) -> float:
        """Nanoseconds of processor time per packet, the wrapper's own included."""
        batch = min(repeat, self._batch)
        batches = max(1, repeat // batch)
        return sum(self._measure_batch(batch) for _ in range(batches)) / batches

    def _measure_batch(self, size: int) -> float:
        self._before()
        return self._test_run(size).nanoseconds

    def _test_run(self, repeat: int) -> TestRun:
        return self._place.test_run(self._wrapper.programs["wrapper"], self._frame, repeat)

    def close(self) -> None:
        self._wrapper.close()

    def __enter__(self) -> Wrapped:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
