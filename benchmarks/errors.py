# SPDX-License-Identifier: Apache-2.0
"""The one error of the benchmarks."""

from __future__ import annotations

from pycilium.errors import PyciliumError


class BenchmarkError(PyciliumError):
    """A benchmark cannot measure what it says: a tool is missing, or a path does not work."""
