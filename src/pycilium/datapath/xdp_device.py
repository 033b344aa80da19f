# SPDX-License-Identifier: Apache-2.0
"""Getting the program onto a device, in its driver or behind it, and saying why not."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import attrs

from pycilium.datapath.xdp_settings import Mode
from pycilium.errors import ConflictError, KernelError, NotSupportedError, SpecError
from pycilium.libbpf import Link, XdpMode
from pycilium.net import LinkInfo, links

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pycilium.libbpf import Program
    from pycilium.net import NetNS

_FLAGS = {Mode.NATIVE: XdpMode.NATIVE, Mode.GENERIC: XdpMode.GENERIC}
_HINTS = {
    errno.ERANGE: "a frame must fit into a page: lower the MTU (on 4 KB pages to about 3,500)",
    errno.EOPNOTSUPP: "its driver has no XDP",
    errno.EINVAL: "its driver refuses the program as it is set up now",
    errno.ENOMEM: "it lacks queues or memory for XDP",
}


@attrs.frozen
class BalancerDevice:
    """A device with the program; note: why it is not native, and what that means."""

    name: str
    ifindex: int
    mode: Mode
    note: str = ""


@attrs.frozen
class Attached:
    """The device, and the link that holds the program there."""

    device: BalancerDevice
    link: Link = attrs.field(repr=False)


def find(node: NetNS, names: Iterable[str]) -> list[LinkInfo]:
    """The devices by name; SpecError for none, an unknown one or one twice."""
    if isinstance(names, str):
        raise SpecError("devices", names, "a list of names")
    wanted = list(names)
    have = {one.name: one for one in links.list_all(ns=node)}
    if not wanted:
        raise SpecError("devices", wanted, f"at least one of {', '.join(have)}")
    for name in wanted:
        if name not in have:
            raise SpecError("devices", name, f"one of {', '.join(have)}")
    if len(set(wanted)) < len(wanted):
        raise SpecError("devices", wanted, "each device once")
    return [have[name] for name in wanted]


def attach(node: NetNS, program: Program, info: LinkInfo, mode: Mode) -> Attached:
    """Native where it can be, as the mode allows; the error says why not."""
    if mode is not Mode.AUTO:
        return _attached(node, program, info, mode)
    try:
        return _attached(node, program, info, Mode.NATIVE)
    except NotSupportedError as error:
        note = f"native XDP is not possible here: {error.meaning}; {error.hint}"
    return _attached(node, program, info, Mode.GENERIC, note)


def _attached(
    node: NetNS, program: Program, info: LinkInfo, mode: Mode, note: str = ""
) -> Attached:
    try:
        link = node.run(Link.attach_xdp, program, info.index, _FLAGS[mode])
    except KernelError as error:
        raise _explained(node, program, info, mode, error) from error
    return Attached(BalancerDevice(info.name, info.index, mode, note), link)


def _explained(
    node: NetNS, program: Program, info: LinkInfo, mode: Mode, error: KernelError
) -> Exception:
    said = error.failure.kernel_text or _kernel_text(node, program, info, mode)
    if error.errno in (errno.EBUSY, errno.EEXIST):
        detail = f": {said}" if said else ""
        return ConflictError(f"device {info.name} has another XDP program{detail}")
    if error.errno not in _HINTS:
        return error
    told = NotSupportedError(f"{mode.value} XDP on {info.name}", errno=error.errno or 0)
    told.meaning = said or error.meaning
    told.hint = f"MTU {info.mtu}: {_HINTS[error.errno]}"
    if mode is Mode.NATIVE:
        told.hint += '; or open with mode="generic", which costs several times as much'
    return told


def _kernel_text(node: NetNS, program: Program, info: LinkInfo, mode: Mode) -> str:
    """Before Linux 6.6 links keep the reason to themselves; the way over netlink tells it."""
    try:
        links.set_xdp(info.index, program.fd, int(_FLAGS[mode]), ns=node)
    except KernelError as error:
        return error.failure.kernel_text
    links.set_xdp(info.index, -1, int(_FLAGS[mode]), ns=node)
    return ""
