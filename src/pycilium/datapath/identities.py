# SPDX-License-Identifier: Apache-2.0
"""The ipcache: prefixes to identities, for everything that is no local endpoint."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_network

from pycilium.datapath import rows
from pycilium.datapath.context import Context
from pycilium.model import Identity
from pycilium.model.identity import HOST
from pycilium.model.policy import Network
from pycilium.net import addresses


class Identities:
    """Numbers and labels that are in use, and what the kernel takes an address for."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.written: dict[Network, int] = {}
        """What pcl_ipcache holds."""

    def __iter__(self) -> Iterator[Identity]:
        known = self._context.identities.all()
        return iter(Identity(number, labels) for number, labels in sorted(known.items()))

    def get(self, number: int) -> Identity:
        """By number; an unknown one has no labels."""
        return self._context.identities.get(number)

    def refresh_host(self) -> None:
        """The node's own addresses are the host."""
        mine = {
            ip_network(one.interface.ip)
            for one in addresses.list_all(ns=self._context.node)
            if not one.interface.ip.is_loopback and not one.interface.ip.is_link_local
        }
        held = {prefix for prefix, number in self.written.items() if number == HOST}
        self.write({prefix: HOST for prefix in mine - held})
        self.forget(held - mine)

    def write(self, entries: dict[Network, int]) -> None:
        """Map prefixes to identities; whoever was judged by another one is judged anew."""
        changed = {p: n for p, n in entries.items() if self.written.get(p) != n}
        if not changed:
            return
        bits = self._context.constant("PCL_IPCACHE_STATIC_BITS")
        self._context.map("pcl_ipcache").update(
            [(rows.ipcache_key(p, bits), {"identity": n}) for p, n in changed.items()]
        )
        self.written.update(changed)
        self._context.bump_epoch(0)

    def forget(self, prefixes: Iterable[Network]) -> None:
        """Remove prefixes; what is absent is fine."""
        gone = [prefix for prefix in prefixes if prefix in self.written]
        if not gone:
            return
        bits = self._context.constant("PCL_IPCACHE_STATIC_BITS")
        self._context.map("pcl_ipcache").remove(rows.ipcache_key(p, bits) for p in gone)
        for prefix in gone:
            del self.written[prefix]
        self._context.bump_epoch(0)

    def restore(self, entries: dict[Network, int]) -> None:
        """Take over what the kernel has already."""
        self.written = dict(entries)
