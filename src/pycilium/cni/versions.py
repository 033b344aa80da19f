# SPDX-License-Identifier: Apache-2.0
"""The versions of the CNI specification. The build reads this file too: it imports nothing."""

SUPPORTED = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
LATEST = SUPPORTED[-1]


def number(version: str) -> tuple[int, ...]:
    """For comparison."""
    return tuple(map(int, version.split(".")))
