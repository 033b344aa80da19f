# SPDX-License-Identifier: Apache-2.0
"""What an XDP program costs: each repetition gets the packet anew, the wrapper's cost is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pycilium.errors import SpecError
from pycilium.libbpf import ObjectSpec

if TYPE_CHECKING:
    from pycilium.libbpf import Object, Program, TestRun
    from pycilium.net import NetNS

_ROOM = 2048


class Repeated:
    """One program and one frame; close() unloads the wrapper."""

    def __init__(self, wrapper: Object, frame: bytes, node: NetNS, ifindex: int) -> None:
        self._wrapper = wrapper
        self._frame = frame
        self._node = node
        self._context = {"ingress_ifindex": ifindex, "rx_queue_index": 0}

    @classmethod
    def load(
        cls,
        program: Program | None,
        frame: bytes,
        *,
        node: NetNS,
        ifindex: int,
        port: int = 0,
        address: int = 0,
    ) -> Repeated:
        """program: None measures the wrapper alone.

        port, address: offsets of the 16-bit fields that make every packet a new flow; 0: none.
        """
        if len(frame) > _ROOM:
            raise SpecError("frame", len(frame), f"at most {_ROOM} bytes")
        wrapper = ObjectSpec.bundled("xdp_repeat").load(
            variables={
                "pcl_repeat_length": len(frame),
                "pcl_repeat_port": port,
                "pcl_repeat_address": address,
            }
        )
        wrapper.maps["pcl_repeat_frames"][0] = {"words": frame.ljust(_ROOM, b"\0")}
        target = program or wrapper.programs["nothing"]
        wrapper.maps["pcl_repeat_target"][0] = target.fd
        return cls(wrapper, frame, node, ifindex)

    def run(self, repeat: int) -> TestRun:
        """So many repetitions; nanoseconds of processor time for each, the wrapper's in them."""
        again = self._wrapper.programs["again"]
        return self._node.run(lambda: again.test_run(self._frame, ctx=self._context, repeat=repeat))

    def close(self) -> None:
        """Unload."""
        self._wrapper.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
