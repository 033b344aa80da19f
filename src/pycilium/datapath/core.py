# SPDX-License-Identifier: Apache-2.0
"""What all parts of one datapath share: the node's namespace, the object, the lock, the pins."""

from __future__ import annotations

import errno
import threading
from typing import TYPE_CHECKING, Any

from pycilium.datapath.manifest import Manifest
from pycilium.errors import ClosedError, MapFullError, PermissionDeniedError, SpecError
from pycilium.libbpf import Hook, Map, Object, ObjectSpec, features

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pycilium.datapath.config import Config
    from pycilium.net import NetNS

SET_MAP = "pcl_policy_set"  # the inner maps of pcl_policies


class Core:
    """One loaded object in one namespace; `pins` is its directory, or None where scoped."""

    def __init__(
        self,
        *,
        node: NetNS,
        spec: ObjectSpec,
        loaded: Object,
        config: Config,
        pins: Path | None,
        sizes: Mapping[str, int],
    ) -> None:
        self.node = node
        self.spec = spec
        self.object = loaded
        self.config = config
        self.pins = pins
        self.sizes = dict(sizes)
        self.lock = threading.RLock()
        self.manifest = Manifest(self.maps["pcl_manifest"] if pins else None)
        self.limits = spec.enums["pcl_limits"]
        self.describe: Callable[[], dict[str, Any]] = dict
        self._closed = False

    @property
    def maps(self) -> Mapping[str, Map]:
        """Maps by name."""
        return self.object.maps

    @property
    def name(self) -> str:
        """The pin's name, or what stands for it."""
        return self.pins.name if self.pins else "scoped"

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._closed

    def require_open(self) -> None:
        """ClosedError after close()."""
        if self._closed:
            raise ClosedError(f"datapath {self.name} is closed")

    def mark_closed(self) -> bool:
        """Whether this call closed it."""
        was_open, self._closed = not self._closed, True
        return was_open

    def replace(self, fresh: Object) -> Object:
        """Go on with another object over the same maps; the old one, to be closed."""
        old, self.object = self.object, fresh
        if self.pins is not None:
            self.manifest.move(self.maps["pcl_manifest"])
        return old

    def save(self) -> None:
        """Write the manifest, if this datapath keeps one and it would change."""
        if self.pins is not None:
            self.manifest.write(self.describe())

    def link_pins(self, owner: int | str) -> dict[Hook, Path]:
        """Where the links of an endpoint or a device are pinned; nothing where scoped."""
        if self.pins is None:
            return {}
        return {hook: self.pins / "links" / f"{owner}-{hook.name.lower()}" for hook in Hook}

    def bump(self, *slots: int) -> None:
        """Make every verdict of some slots (0: of the identities) be made anew, in one write."""
        epochs = self.maps["pcl_epochs"]
        epochs.update((slot, (epochs[slot] + 1) & 0xFFFFFFFF) for slot in slots)

    def set_limit(self) -> int:
        """Entries that one policy set may have."""
        inner = self.maps["pcl_policies"].inner
        assert inner is not None
        return self.sizes.get(SET_MAP, inner.max_entries)

    def require_full(self, table: Map, entries: int) -> None:
        """MapFullError where a whole content does not fit."""
        if entries > table.max_entries:
            raise MapFullError(table.name, needed=entries, used=0, size=table.max_entries)

    def require_room(self, name: str, used: int, needed: int, size: int | None = None) -> None:
        """MapFullError before the first write."""
        limit = self.maps[name].max_entries if size is None else size
        if used + needed > limit:
            raise MapFullError(name, needed=needed, used=used, size=limit)


def check_sizes(spec: ObjectSpec, sizes: Mapping[str, int] | None) -> dict[str, int]:
    """Names of maps and positive numbers; SpecError for anything else."""
    allowed = [name for name, one in spec.maps.items() if not one.internal]
    for name, size in (sizes or {}).items():
        if name not in allowed and name != SET_MAP:
            raise SpecError("sizes", name, f"one of {', '.join(sorted([*allowed, SET_MAP]))}")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 < size < 1 << 31:
            raise SpecError(f"sizes.{name}", size, "a positive number of entries")
    return dict(sizes or {})


def pairs_of(table: Map) -> dict[bytes, bytes]:
    """A map's entries as bytes."""
    keys, values, count = table.batch_lookup()
    width, row = table.key_size, table.value_size
    return {
        keys[i * width : (i + 1) * width]: values[i * row : (i + 1) * row] for i in range(count)
    }


def write_pairs(table: Map, pairs: Mapping[bytes, bytes]) -> None:
    """Write many entries with few system calls."""
    if pairs:
        table.batch_update(b"".join(pairs), b"".join(pairs.values()), len(pairs))


def require_privileges(what: str) -> None:
    """PermissionDeniedError for what cannot be opened without root or its capabilities."""
    if features.missing_capabilities():
        raise PermissionDeniedError(errno.EPERM, "open", what).diagnosed()
