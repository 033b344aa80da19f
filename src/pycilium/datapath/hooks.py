# SPDX-License-Identifier: Apache-2.0
"""How the two programs get onto a device: TCX links, or clsact filters before Linux 6.6."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycilium.datapath.config import HookKind
from pycilium.errors import KernelError
from pycilium.libbpf import Hook, Link, Object, Program, TcFilter

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pycilium.net import NetNS

_HANDLE = 0x70636C  # "pcl": by which our filter is found again on its hook
PROGRAMS = {Hook.RX: "from_endpoint", Hook.TX: "to_endpoint"}


class Attachments:
    """Both programs on one device; closing takes them off unless they are pinned."""

    def __init__(
        self,
        links: dict[Hook, Link | TcFilter],
        pins: dict[Hook, Path],
        programs: Mapping[Hook, str],
    ) -> None:
        self._links = links
        self._pins = pins
        self._programs = programs

    @classmethod
    def attach(
        cls,
        kind: HookKind,
        node: NetNS,
        loaded: Object,
        ifindex: int,
        pins: dict[Hook, Path] | None = None,
        programs: Mapping[Hook, str] = PROGRAMS,
    ) -> Attachments:
        """Put both programs on, or none; `pins` keep TCX links alive without this process."""
        attached = cls({}, pins or {}, programs)
        try:
            for hook, name in programs.items():
                program = loaded.programs[name]
                attached._links[hook] = node.run(_attach, kind, program, ifindex, hook)
                attached._pin(hook)
        except BaseException:
            attached.remove(node)
            raise
        return attached

    @classmethod
    def adopt(
        cls,
        kind: HookKind,
        node: NetNS,
        loaded: Object,
        ifindex: int,
        pins: dict[Hook, Path],
        programs: Mapping[Hook, str] = PROGRAMS,
    ) -> Attachments:
        """Open the pinned links again; a filter has no pin and is replaced by its like."""
        if kind is HookKind.CLSACT:
            return cls.attach(kind, node, loaded, ifindex, pins, programs)
        adopted = cls({}, pins, programs)
        for hook, name in programs.items():
            program, link = loaded.programs[name], _open_live(pins[hook])
            adopted._links[hook] = link or node.run(_attach, kind, program, ifindex, hook)
            if link is None:
                adopted._pin(hook)
        return adopted

    def update(self, node: NetNS, loaded: Object) -> None:
        """Replace both programs without a packet between."""
        for hook, link in self._links.items():
            node.run(link.update, loaded.programs[self._programs[hook]])

    def close(self, node: NetNS) -> None:
        """Close the descriptors; a filter that must outlive this process stays."""
        for link in self._links.values():
            if isinstance(link, Link):
                link.close()
            elif not self._pins:
                node.run(link.close)
        self._links.clear()

    def remove(self, node: NetNS) -> None:
        """Take the programs off, pinned or not."""
        for path in self._pins.values():
            path.unlink(missing_ok=True)
        self._pins = {}
        self.close(node)

    def _pin(self, hook: Hook) -> None:
        link = self._links[hook]
        if isinstance(link, Link) and hook in self._pins:
            self._pins[hook].unlink(missing_ok=True)
            link.pin(self._pins[hook])


def _attach(kind: HookKind, program: Program, ifindex: int, hook: Hook) -> Link | TcFilter:
    if kind is HookKind.TCX:
        return Link.attach_tcx(program, ifindex, hook)
    return TcFilter.attach(program, ifindex, hook, handle=_HANDLE)


def _open_live(path: Path) -> Link | None:
    """The pinned link, unless its device has gone."""
    try:
        link = Link.from_pin(path)
    except KernelError:
        return None
    if link.info().ifindex:
        return link
    link.close()
    return None
