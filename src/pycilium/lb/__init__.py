# SPDX-License-Identifier: Apache-2.0
"""Load balancing without a kernel: services to the rows of the service maps."""

from __future__ import annotations

from pycilium.lb.table import BackendRow, Changes, ServiceRow, ServiceTable

__all__ = ["BackendRow", "Changes", "ServiceRow", "ServiceTable"]
