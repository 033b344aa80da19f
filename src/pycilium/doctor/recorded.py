# SPDX-License-Identifier: Apache-2.0
"""A machine as somebody wrote it down, so that a failure of elsewhere can be diagnosed here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from pycilium.doctor.machine import Machine

if TYPE_CHECKING:
    from pycilium.net.devices import Device


@attrs.frozen(kw_only=True)
class RecordedMachine(Machine):
    """Answers the probes from values; what is not written down is not there, or cannot be told."""

    files: Mapping[str, str] = attrs.field(factory=dict)
    targets: Mapping[str, str] = attrs.field(factory=dict)
    release: str = "6.18.0"
    architecture: str = "x86_64"
    page_size: int = 4096
    program_types: Mapping[str, bool] = attrs.field(factory=dict)
    nonsense: int = 22
    tcx: bool = True
    recorded_devices: tuple[Device, ...] = ()
    tcx_chains: Mapping[int, tuple[str, ...]] = attrs.field(factory=dict)
    owner: str = "a pin"
    netfilter: tuple[str, ...] = ()
    distributions: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RecordedMachine:
        """From plain data; `devices` is a list of the fields of pycilium.net.devices.Device."""
        from pycilium.net.devices import Device

        rest = {name: value for name, value in values.items() if name != "devices"}
        known = tuple(Device(**one) for one in values.get("devices", ()))
        return cls(recorded_devices=known, **rest)

    def text(self, path: str) -> str | None:
        """See Machine."""
        return self.files.get(path)

    def names(self, path: str) -> tuple[str, ...]:
        """See Machine."""
        start = path.rstrip("/") + "/"
        below = {name[len(start) :].split("/")[0] for name in self.files if name.startswith(start)}
        return tuple(sorted(below))

    def target(self, path: str) -> str:
        """See Machine."""
        return self.targets.get(path, "")

    def exists(self, path: str) -> bool:
        """See Machine."""
        return path in self.files or bool(self.names(path))

    def loads(self, program_type: str) -> bool | None:
        """See Machine."""
        return self.program_types.get(program_type)

    def answer_to_nonsense(self) -> int:
        """See Machine."""
        return self.nonsense

    def has_tcx(self) -> bool:
        """See Machine."""
        return self.tcx

    def device(self, index: int) -> Device | None:
        """See Machine."""
        return next((one for one in self.recorded_devices if one.index == index), None)

    def devices(self) -> list[Device]:
        """See Machine."""
        return list(self.recorded_devices)

    def chain(self, index: int) -> tuple[str, ...]:
        """See Machine."""
        return tuple(self.tcx_chains.get(index, ()))

    def program_name(self, number: int) -> str:
        """See Machine."""
        return str(number)

    def xdp_owner(self, index: int, program: int) -> str:  # noqa: ARG002 - as in Machine
        """See Machine."""
        return self.owner

    def chains(self) -> tuple[str, ...]:
        """See Machine."""
        return tuple(self.netfilter)

    def has_distribution(self, name: str) -> bool:
        """See Machine."""
        return name in self.distributions
