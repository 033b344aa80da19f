# SPDX-License-Identifier: Apache-2.0
"""The two programs on an endpoint's device: TCX links, or clsact filters before Linux 6.6."""

from __future__ import annotations

from pathlib import Path

from pycilium.libbpf import Hook, Link, Object, Program, TcFilter, features
from pycilium.net import NetNS

PROGRAMS = {Hook.RX: "from_endpoint", Hook.TX: "to_endpoint"}


class Hooks:
    """Both attachments of one device; closing it takes them off unless they are pinned."""

    def __init__(self, ifindex: int, attached: dict[Hook, Link | TcFilter]) -> None:
        self.ifindex = ifindex
        self._attached = attached

    @classmethod
    def attach(cls, obj: Object, ifindex: int, node: NetNS, *, pin: Path | None = None) -> Hooks:
        """Put both programs on a device of the node."""
        hooks = cls(ifindex, {})
        try:
            for hook, name in PROGRAMS.items():
                program = obj.programs[name]
                hooks._attached[hook] = node.run(_attach, program, ifindex, hook)
            if pin is not None:
                hooks._pin(pin)
        except BaseException:
            hooks.close()
            raise
        return hooks

    @classmethod
    def adopt(cls, ifindex: int, pin: Path) -> Hooks:
        """The pinned links of a device."""
        return cls(ifindex, {hook: Link.from_pin(_pin_path(pin, ifindex, hook)) for hook in PROGRAMS})

    def update(self, obj: Object, node: NetNS) -> None:
        """Replace both programs without a packet between."""
        for hook, attached in self._attached.items():
            node.run(attached.update, obj.programs[PROGRAMS[hook]])

    def unpin(self, pin: Path) -> None:
        """Remove the pins, so that close() detaches."""
        for hook in PROGRAMS:
            _pin_path(pin, self.ifindex, hook).unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of both."""
        for attached in self._attached.values():
            attached.close()
        self._attached = {}

    def _pin(self, pin: Path) -> None:
        for hook, attached in self._attached.items():
            if not isinstance(attached, Link):
                continue  # a clsact filter stays without a pin
            attached.pin(_pin_path(pin, self.ifindex, hook))


def kind() -> str:
    """How this kernel attaches."""
    return "tcx" if features.have_tcx() else "clsact"


def _attach(program: Program, ifindex: int, hook: Hook) -> Link | TcFilter:
    if features.have_tcx():
        return Link.attach_tcx(program, ifindex, hook)
    return TcFilter.attach(program, ifindex, hook)


def _pin_path(pin: Path, ifindex: int, hook: Hook) -> Path:
    return pin / f"{ifindex}_{hook.name.lower()}"


