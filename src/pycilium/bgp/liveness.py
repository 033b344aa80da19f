# SPDX-License-Identifier: Apache-2.0
"""What a speaker asks of something that knows whether a path works."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

Unwatch = Callable[[], None]


class Liveness(Protocol):
    """Something outside of BGP that knows whether a path works, such as BFD."""

    def watch(self, local: str, remote: str, changed: Callable[[bool], None]) -> Unwatch:
        """Call back with False when the path fails, from any thread, until unwatched."""
