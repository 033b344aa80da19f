# SPDX-License-Identifier: Apache-2.0
"""Load balancing without a kernel: services to the rows of the service maps."""

from __future__ import annotations

from pycilium.lb.choice import Place, candidates
from pycilium.lb.rows import BackendRow, Changes, ServiceRow, Sizes, Standing
from pycilium.lb.table import ServiceTable

__all__ = [
    "BackendRow",
    "Changes",
    "Place",
    "ServiceRow",
    "ServiceTable",
    "Sizes",
    "Standing",
    "candidates",
]
