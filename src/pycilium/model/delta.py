# SPDX-License-Identifier: Apache-2.0
"""What apply() changed, or plan() would change."""

from __future__ import annotations

import attrs


@attrs.frozen
class Change:
    """One map entry that is written, or deleted where value is None."""

    map: str
    key: str
    value: str | None


@attrs.frozen
class Delta:
    """Counts of objects, and behind them the exact map entries."""

    added: int = 0
    changed: int = 0
    removed: int = 0
    entries: tuple[Change, ...] = attrs.field(default=(), repr=False, eq=False)

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)
