# SPDX-License-Identifier: Apache-2.0
"""Who is who: identities of endpoints by their labels, identities of prefixes, the ipcache.

The ipcache says who is behind an address that is no local endpoint's: everything (world), the
node's own addresses (host), and every prefix that a policy names.
"""

from __future__ import annotations

from contextlib import contextmanager
from ipaddress import ip_network
from typing import TYPE_CHECKING

from pycilium.datapath.core import encode_pair, pairs_of, write_pairs
from pycilium.datapath.wire import Address, Network, ipcache_key
from pycilium.model import Identity, IdentityAllocator, Labels
from pycilium.net import addresses
from pycilium.policy import prefix_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from pycilium.datapath.core import Core

_EVERYTHING = (ip_network("0.0.0.0/0"), ip_network("::/0"))


class Identities:
    """The identities in use, and the ipcache as it stands in the kernel."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._allocator = IdentityAllocator()
        self._written: dict[bytes, bytes] = {}
        self._node: frozenset[Address] = frozenset()
        self.prefixes: dict[Network, Identity] = {}

    def __iter__(self) -> Iterator[Identity]:
        return iter(self._allocator.get(number) for number in self._allocator.all())

    def __getitem__(self, number: int) -> Identity:
        return self._allocator.get(number)

    def __len__(self) -> int:
        return len(self._allocator.all())

    def __repr__(self) -> str:
        return f"<Identities {len(self)} in use, {len(self.prefixes)} prefixes>"

    def acquire(self, labels: Labels, *, number: int | None = None) -> Identity:
        """The identity of a label set, one user more; `number` restores an adopted one."""
        return self._allocator.acquire(labels, number=number)

    def release(self, identity: Identity) -> None:
        """One user less; without any the number is free again."""
        self._allocator.release(identity.labels)

    @contextmanager
    def trial(self) -> Iterator[Callable[[], None]]:
        """Numbers that are taken inside are given back, unless the yielded function is called."""
        kept = self._allocator
        self._allocator = trial = kept.copy()

        def keep() -> None:
            nonlocal kept
            kept = trial

        try:
            yield keep
        finally:
            self._allocator = kept

    def labels_of(self, number: int) -> Labels:
        """The labels behind a number, none if it is unknown."""
        return self._allocator.get(number).labels

    def known(self) -> dict[int, Labels]:
        """Every identity in use, by number."""
        return self._allocator.all()

    @property
    def node_addresses(self) -> frozenset[Address]:
        """The node's own, as last read: identity host."""
        return self._node

    def refresh(self) -> None:
        """Look at the node's addresses anew and put them into force: identity host."""
        self.read_node()
        self._core.require_room("pcl_ipcache", 0, len(self.pairs(self.prefixes)))
        self.write(self.prefixes)

    def read_node(self) -> None:
        """Look at the node's addresses anew; write() puts them into force."""
        found = addresses.list_all(ns=self._core.node)
        self._node = frozenset(
            one.interface.ip for one in found if not one.interface.ip.is_link_local
        )

    def of(self, address: Address) -> Identity:
        """Who the ipcache says is behind an address: the longest prefix counts."""
        return max(
            (item for item in self._table(self.prefixes).items() if address in item[0]),
            key=lambda item: item[0].prefixlen,
        )[1]

    def resolve(self, wanted: Collection[Network]) -> dict[Network, Identity]:
        """Identities for prefixes, each one use more; give them back with release_prefixes()."""
        named = sorted(prefix_labels(wanted).items(), key=lambda item: (item[0].version, item[0]))
        return {network: self.acquire(labels) for network, labels in named}

    def release_prefixes(self, prefixes: dict[Network, Identity]) -> None:
        """The opposite of resolve()."""
        for identity in prefixes.values():
            self.release(identity)

    def pairs(self, prefixes: dict[Network, Identity]) -> dict[bytes, bytes]:
        """The whole ipcache for these prefixes, as bytes."""
        table, static = self._core.maps["pcl_ipcache"], self._core.limits.PCL_IPCACHE_STATIC_BITS
        return dict(
            encode_pair(table, ipcache_key(network, static), {"identity": identity.number})
            for network, identity in self._table(prefixes).items()
        )

    @property
    def written(self) -> dict[bytes, bytes]:
        """The ipcache as it stands in the kernel."""
        return self._written

    def write(self, prefixes: dict[Network, Identity]) -> None:
        """Make the ipcache this; connections are judged anew where a mapping changed."""
        table = self._core.maps["pcl_ipcache"]
        desired = self.pairs(prefixes)
        changed = {k: v for k, v in desired.items() if self._written.get(k) != v}
        gone = [key for key in self._written if key not in desired]
        write_pairs(table, changed)
        table.remove(gone)
        if self._written and (changed or gone):
            self._core.bump(0)
        self._written = desired
        self.prefixes = prefixes

    def adopt(self) -> None:
        """Take what stands in the kernel as written."""
        self._written = pairs_of(self._core.maps["pcl_ipcache"])

    def _table(self, prefixes: dict[Network, Identity]) -> dict[Network, Identity]:
        host, world = Identity.reserved("host"), Identity.reserved("world")
        return {
            **dict.fromkeys(_EVERYTHING, world),
            **prefixes,
            **{ip_network(address): host for address in self._node},
        }
