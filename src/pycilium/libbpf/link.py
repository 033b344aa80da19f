# SPDX-License-Identifier: Apache-2.0
"""Attachments: TCX with order, XDP, cgroup hooks; and clsact filters for older kernels."""

from __future__ import annotations

import os
from typing import Any, Self

import attrs

from pycilium.errors import SpecError
from pycilium.failure import Failure
from pycilium.libbpf import xdp_failure
from pycilium.libbpf._native import check, ffi, lib, take_messages
from pycilium.libbpf.explain import closed
from pycilium.libbpf.handle import Handle, open_pin
from pycilium.libbpf.kinds import CgroupHook, Hook, XdpMode
from pycilium.libbpf.program import Program

_XDP = 37  # BPF_XDP
_BEFORE, _AFTER, _RELATIVE_LINK = 1 << 3, 1 << 4, 1 << 13
_LINK_TYPES = {1: "raw_tracepoint", 2: "tracing", 3: "cgroup", 6: "xdp", 11: "tcx"}


@attrs.frozen
class LinkInfo:
    """What the kernel says of a link; ifindex or cgroup is 0 where that is gone."""

    id: int
    type: str
    program_id: int
    ifindex: int
    attach_type: int
    cgroup: int = 0


@attrs.frozen
class Attachment:
    """A program on a hook, and the link that holds it (0: attached without one)."""

    program_id: int
    program_name: str
    link_id: int


class Link(Handle):
    """A program on a hook, for as long as this descriptor or a pin is open."""

    kind = "link"

    @classmethod
    def attach_tcx(
        cls,
        program: Program,
        ifindex: int,
        hook: Hook,
        *,
        before: Link | Program | None = None,
        after: Link | Program | None = None,
    ) -> Link:
        """Put a tc program on a device, last unless it has a place. Linux >= 6.6."""
        flags, relative = _place(before, after)
        fd = lib.pcl_link_create(program.fd, ifindex, hook, flags, relative)
        where = f"{program.name} on ifindex {ifindex} {hook.name.lower()}"
        facts = _facts(program, ifindex=ifindex, hook=hook.name)
        return cls(check(fd, "attach tcx", where, facts), f"tcx/{hook.name.lower()}")

    @classmethod
    def attach_xdp(cls, program: Program, ifindex: int, mode: XdpMode = XdpMode.NATIVE) -> Link:
        """Put an XDP program on a device, in its driver or generic."""

        def create() -> int:
            return int(lib.pcl_link_create(program.fd, ifindex, _XDP, mode, 0))

        fd, said = create(), ""
        if fd < 0:
            fd, said = xdp_failure.again(create, fd)
        facts = _facts(program, ifindex=ifindex, mode=mode.name or "", kernel_text=said)
        return cls(check(fd, "attach xdp", f"{program.name} on ifindex {ifindex}", facts), "xdp")

    @classmethod
    def attach_cgroup(
        cls, program: Program, path: str | os.PathLike[str], hook: CgroupHook
    ) -> Link:
        """Put a program on a cgroup2 directory and all below it."""
        try:
            directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise SpecError("path", os.fspath(path), "a cgroup2 directory") from error
        try:
            fd = lib.pcl_link_create(program.fd, directory, hook, 0, 0)
        finally:
            os.close(directory)
        facts = _facts(program, hook=hook.name, path=os.fspath(path))
        where = f"{program.name} at {os.fspath(path)}"
        return cls(check(fd, "attach cgroup", where, facts), f"cgroup/{hook.name}")

    @classmethod
    def from_pin(cls, path: str | os.PathLike[str]) -> Link:
        """Open what is pinned at a path."""
        return cls(open_pin(path), os.path.basename(path))  # noqa: PTH119 - also bytes-like

    @classmethod
    def from_id(cls, number: int) -> Link:
        """Borrow a link: closing it does not detach."""
        return cls(check(lib.bpf_link_get_fd_by_id(number), "open link", str(number)), str(number))

    def update(self, program: Program) -> None:
        """Replace the program without a packet between; KernelError if the device is gone."""
        check(lib.bpf_link_update(self.fd, program.fd, ffi.NULL), "update link", self.name)

    def detach(self) -> None:
        """Take the program off, whoever else holds the link."""
        check(lib.bpf_link_detach(self.fd), "detach link", self.name)

    def info(self) -> LinkInfo:
        """Ask the kernel."""
        raw = ffi.new("uint32_t[32]")
        size = ffi.new("__u32 *", 128)
        check(lib.bpf_obj_get_info_by_fd(self.fd, raw, size), "read link", self.name)
        kind = _LINK_TYPES.get(raw[0], str(raw[0]))
        on_device = kind in ("tcx", "xdp")
        return LinkInfo(
            id=raw[1],
            type=kind,
            program_id=raw[2],
            ifindex=raw[4] if on_device else 0,
            attach_type=raw[5] if kind == "tcx" else raw[6] if kind == "cgroup" else 0,
            cgroup=raw[4] | raw[5] << 32 if kind == "cgroup" else 0,
        )

    def __repr__(self) -> str:
        return f"<Link {self.name} fd={self._fd}>"


class TcFilter:
    """A clsact filter: the place of TCX before Linux 6.6. It outlives the process."""

    def __init__(self, ifindex: int, hook: Hook, priority: int, handle: int) -> None:
        self.ifindex = ifindex
        self.hook = hook
        self._priority = priority
        self._handle = handle
        self._open = True

    @classmethod
    def attach(
        cls, program: Program, ifindex: int, hook: Hook, *, priority: int = 1, handle: int = 0
    ) -> TcFilter:
        """Add clsact where it is missing and a direct-action filter with this program.

        handle: 0 makes a new filter; another number replaces the filter that has it.
        """
        chosen = ffi.new("__u32 *", handle)
        result = lib.pcl_tc_attach(ifindex, hook == Hook.TX, program.fd, priority, chosen)
        facts = _facts(program, ifindex=ifindex, hook=hook.name, messages=take_messages())
        check(result, "attach tc filter", f"{program.name} on ifindex {ifindex}", facts)
        return cls(ifindex, hook, priority, chosen[0])

    def update(self, program: Program) -> None:
        """Replace the program without a packet between."""
        if not self._open:
            raise closed("tc filter", str(self.ifindex))
        handle = ffi.new("__u32 *", self._handle)
        egress = self.hook == Hook.TX
        result = lib.pcl_tc_attach(self.ifindex, egress, program.fd, self._priority, handle)
        take_messages()
        check(result, "update tc filter", f"{program.name} on ifindex {self.ifindex}")

    def close(self) -> None:
        """Remove the filter; clsact stays, others may use it."""
        if self._open:
            self._open = False
            egress = self.hook == Hook.TX
            lib.pcl_tc_detach(self.ifindex, egress, self._priority, self._handle)
            take_messages()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<TcFilter {self.hook.name.lower()} ifindex={self.ifindex}>"


def attachments(ifindex: int, hook: Hook) -> list[Attachment]:
    """Who is on a TCX hook, in the order in which they run. Linux >= 6.6."""
    room = 64
    programs, links = ffi.new("__u32[]", room), ffi.new("__u32[]", room)
    count = ffi.new("__u32 *", room)
    result = lib.pcl_prog_query(ifindex, hook, programs, links, count)
    check(result, "query tcx", f"ifindex {ifindex}")
    return [_attachment(programs[i], links[i]) for i in range(count[0])]


def _attachment(program_id: int, link_id: int) -> Attachment:
    with Program.from_id(program_id) as program:
        return Attachment(program_id, program.name, link_id)


def _facts(program: Program, **known: Any) -> Failure:
    return Failure(program_type=program.type.name, program_id=program.id, **known)


def _place(before: Any, after: Any) -> tuple[int, int]:
    if before is not None and after is not None:
        raise SpecError("before and after", (before, after), "one of them")
    other = before if before is not None else after
    if other is None:
        return 0, 0
    flags = _BEFORE if before is not None else _AFTER
    return flags | (_RELATIVE_LINK if isinstance(other, Link) else 0), other.fd
