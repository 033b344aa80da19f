# SPDX-License-Identifier: Apache-2.0
"""A wire between two namespaces."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bgp.lab import Wire, wire


@pytest.fixture
def net(no_leaks: None) -> Iterator[Wire]:
    with wire() as one:
        yield one
