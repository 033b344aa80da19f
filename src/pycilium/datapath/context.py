# SPDX-License-Identifier: Apache-2.0
"""What the parts of one datapath share: the loaded object, the node, and the numbers."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from pycilium.datapath.config import Config
from pycilium.datapath.registry import RuleRegistry, SlotTable
from pycilium.libbpf import Map, Object, ObjectSpec
from pycilium.model import IdentityAllocator, Policy
from pycilium.net import NetNS

if TYPE_CHECKING:
    from collections.abc import Callable


@attrs.define(kw_only=True)
class Context:
    """One lock guards all of it; apply() is the only writer."""

    spec: ObjectSpec
    object: Object
    node: NetNS
    config: Config
    pin: Path | None
    slots: SlotTable
    rules: RuleRegistry = attrs.field(factory=RuleRegistry.with_defaults)
    identities: IdentityAllocator = attrs.field(factory=IdentityAllocator)
    policies: tuple[Policy, ...] = ()
    lock: threading.RLock = attrs.field(factory=threading.RLock)
    record: Callable[[], None] = attrs.field(default=lambda: None)
    """Writes the manifest; called before what it describes becomes visible."""

    def map(self, name: str) -> Map:
        """A map of the loaded object."""
        return self.object.maps[name]

    def constant(self, name: str) -> int:
        """One of enum pcl_limits."""
        return int(self.spec.enums["pcl_limits"][name])

    def bump_epoch(self, slot: int) -> None:
        """From now on, what was decided under this slot is decided anew. 0: all identities."""
        epochs: Any = self.map("pcl_epochs")
        epochs[slot] = (epochs[slot] + 1) & 0xFFFFFFFF
