# SPDX-License-Identifier: Apache-2.0
"""A link with a router behind it, and monitors on our side of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pycilium.bgp.bfd import Driver, Monitor

from .daemons import Scene, scene


@pytest.fixture
def link(no_leaks: None) -> Iterator[Scene]:
    """Our namespace and the router's."""
    with scene() as made:
        yield made


@pytest.fixture(params=Driver, ids=lambda driver: driver.value)
def monitor(request: pytest.FixtureRequest, link: Scene) -> Iterator[Monitor]:
    """A monitor in our namespace, with each driver."""
    with link.ours.run(lambda: Monitor.open(driver=request.param)) as opened:
        yield opened
