# SPDX-License-Identifier: Apache-2.0
"""What a session is at one moment, with everything that it has counted."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from pycilium.bgp.bfd.packet import Diagnostic, Discard, State
from pycilium.bgp.bfd.session import Remote


@attrs.frozen(kw_only=True)
class Statistics:
    """Packets of one session, and how often it came up and failed."""

    sent: int = 0
    received: int = 0
    send_errors: int = 0
    discarded: Mapping[Discard, int] = attrs.field(factory=dict)
    ups: int = 0
    failures: int = 0


@attrs.frozen(kw_only=True)
class Status:
    """interval, detection_time: seconds, as negotiated; detection_time None: nothing came yet."""

    state: State
    diagnostic: Diagnostic
    remote: Remote
    local: str
    source_port: int
    discriminator: int
    interval: float
    detection_time: float | None
    statistics: Statistics
