# SPDX-License-Identifier: Apache-2.0
"""What apply() changed, or plan() would change."""

from __future__ import annotations

from collections.abc import Callable

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
    _entries: tuple[Change, ...] | Callable[[], tuple[Change, ...]] = attrs.field(
        default=(), alias="entries", repr=False, eq=False
    )

    @property
    def entries(self) -> tuple[Change, ...]:
        """The map entries; of a large change their text is made when it is asked for."""
        return self._entries() if callable(self._entries) else self._entries

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)
