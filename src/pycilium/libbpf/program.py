# SPDX-License-Identifier: Apache-2.0
"""A loaded program: run it on a packet, pin it, or attach it with Link."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import attrs

from pycilium.errors import SpecError
from pycilium.libbpf._native import check, ffi, lib
from pycilium.libbpf.handle import Handle, open_pin
from pycilium.libbpf.kinds import ProgramType

# Offsets in struct __sk_buff and struct xdp_md (linux/bpf.h, stable ABI), in u32 words.
_SKB_WORDS = {
    "mark": 2, "priority": 8, "ingress_ifindex": 9, "ifindex": 10,
    "cb0": 12, "cb1": 13, "cb2": 14, "cb3": 15, "cb4": 16, "gso_size": 44,
}  # fmt: skip
_XDP_WORDS = {"ingress_ifindex": 3, "rx_queue_index": 4}
_SKB_SIZE = 192
_XDP_SIZE = 24
_ROOM = 65536


@attrs.frozen
class TestRun:
    """One BPF_PROG_TEST_RUN: the program's return value, what it left, and its cost.

    nanoseconds: CPU time of the calling thread per repetition, with the syscall in it.
    """

    __test__ = False

    retval: int
    data: bytes
    ctx: Mapping[str, int]
    nanoseconds: float


class Program(Handle):
    """A program in the kernel."""

    kind = "program"

    def __init__(self, fd: int, name: str, type: ProgramType, info: Any) -> None:  # noqa: A002
        super().__init__(fd, name)
        self.type = type
        self.id: int = info.id
        self.tag = bytes(ffi.buffer(info.tag)).hex()
        self.verified_insns: int = info.verified_insns
        self.jited_size: int = info.jited_prog_len

    @classmethod
    def from_fd(cls, fd: int) -> Program:
        """Take over a descriptor."""
        info = ffi.new("struct bpf_prog_info *")
        size = ffi.new("__u32 *", ffi.sizeof("struct bpf_prog_info"))
        check(lib.bpf_obj_get_info_by_fd(fd, info, size), "read program", str(fd))
        name = ffi.string(info.name).decode()
        return cls(fd, name, ProgramType(info.type), info)

    @classmethod
    def from_pin(cls, path: str | os.PathLike[str]) -> Program:
        """Open what is pinned at a path."""
        return cls.from_fd(open_pin(path))

    @classmethod
    def from_id(cls, number: int) -> Program:
        """Borrow a program that somebody loaded."""
        return cls.from_fd(check(lib.bpf_prog_get_fd_by_id(number), "open program", str(number)))

    def __repr__(self) -> str:
        return f"<Program {self.name} {self.type.name.lower()} id={self.id}>"

    def test_run(
        self, data: bytes, *, ctx: Mapping[str, int] | None = None, repeat: int = 1
    ) -> TestRun:
        """Run the program on a packet without a device.

        ctx: for tc mark, priority, ifindex, ingress_ifindex, cb0 to cb4, gso_size; for XDP
        ingress_ifindex and rx_queue_index. Interfaces are those of the calling thread's
        namespace. The packet is not restored between repetitions.
        Raises SpecError for an unknown ctx field and KernelError.
        """
        words, size = self._context()
        context = ffi.new("uint32_t[]", size // 4)
        for name, value in (ctx or {}).items():
            if name not in words:
                raise SpecError(f"ctx.{name}", value, f"one of {', '.join(words) or 'nothing'}")
            context[words[name]] = value
        if self.type == ProgramType.XDP and ctx:
            context[1] = len(data)  # data_end: the kernel wants the packet's bounds
        out = ffi.new("char[]", _ROOM)
        out_size, retval = ffi.new("__u32 *", _ROOM), ffi.new("__u32 *")
        spent = ffi.new("__u64 *")
        given = context if ctx and size else ffi.NULL
        check(
            lib.pcl_test_run(
                self.fd, data, len(data), out, out_size, given, size if ctx else 0,
                repeat, retval, spent,
            ),
            "test run", self.name,
        )  # fmt: skip
        left = {name: int(context[word]) for name, word in words.items()} if ctx else {}
        return TestRun(retval[0], bytes(ffi.buffer(out, out_size[0])), left, spent[0] / repeat)

    def _context(self) -> tuple[dict[str, int], int]:
        if self.type == ProgramType.XDP:
            return _XDP_WORDS, _XDP_SIZE
        if self.type in (ProgramType.SCHED_CLS, ProgramType.SCHED_ACT, ProgramType.CGROUP_SKB):
            return _SKB_WORDS, _SKB_SIZE
        return {}, 0
