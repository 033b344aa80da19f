# SPDX-License-Identifier: Apache-2.0
"""Learned routes into a forwarding table, through whatever writes one (pycilium.net.fib.Fib)."""

from __future__ import annotations

from typing import Protocol

from pycilium.bgp.events import BgpEvent, Feed, RouteChanged
from pycilium.bgp.prefix import address_text


class ForwardingTable(Protocol):
    """Where routes go; what is absent may be removed."""

    def replace(self, prefix: str, gateways: list[str]) -> None:
        """Send a prefix by these gateways, equally."""

    def remove(self, prefix: str) -> None:
        """Send it there no more."""

    def prefixes(self) -> list[str]:
        """What an earlier run left."""


class KernelRoutes:
    """Keeps a forwarding table equal to what a speaker learned.

    speaker.events(routes=True, max_paths=4) is what it reads. Own routes, and those without a next
    hop, are not installed. What an earlier run left is kept until forget_old(), so that a restart
    loses no packet.
    """

    def __init__(self, table: ForwardingTable) -> None:
        self._table = table
        self._old = set(table.prefixes())
        self.installed: dict[str, list[str]] = {}
        self.failures: dict[str, str] = {}

    async def follow(self, feed: Feed) -> None:
        """Until the feed is closed."""
        async for event in feed:
            self.apply(event)

    def apply(self, event: BgpEvent) -> None:
        """One change."""
        if not isinstance(event, RouteChanged):
            return
        prefix = event.prefix
        gateways = [address_text(one.next_hop) for one in event.paths if one.next_hop]
        if gateways == self.installed.get(prefix, []):
            return
        try:
            self._write(prefix, gateways)
        except OSError as error:
            self.failures[prefix] = str(error)
            self.installed.pop(prefix, None)
        else:
            self.failures.pop(prefix, None)

    def forget_old(self) -> None:
        """Remove what an earlier run left and no peer has said again; after End-of-RIB."""
        for prefix in self._old:
            self._table.remove(prefix)
        self._old.clear()

    def _write(self, prefix: str, gateways: list[str]) -> None:
        self._old.discard(prefix)
        if gateways:
            self._table.replace(prefix, gateways)
            self.installed[prefix] = gateways
        elif self.installed.pop(prefix, None):
            self._table.remove(prefix)
