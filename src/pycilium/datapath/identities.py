# SPDX-License-Identifier: Apache-2.0
"""Who is who: identities of endpoints by their labels, identities of prefixes, the ipcache.

The ipcache says who is behind an address that is no local endpoint's: everything (world), the
node's own addresses (host), and every prefix that a policy names. An endpoint or a node's address
inside such prefixes has an identity of its own there: its labels and those of the prefixes.
"""

from __future__ import annotations

from contextlib import contextmanager
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import attrs

from pycilium.datapath.core import pairs_of, write_pairs
from pycilium.datapath.wire import Address, Network, addr, address_key, address_of
from pycilium.libbpf import packer
from pycilium.model import Identity, IdentityAllocator, Labels
from pycilium.model.identity import RESERVED, reserved_labels
from pycilium.net import addresses
from pycilium.policy import PrefixIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from pycilium.datapath.core import Core

_EVERYTHING = (ip_network("0.0.0.0/0"), ip_network("::/0"))


@attrs.frozen
class Assignment:
    """Who is behind every named prefix, the node's addresses, and local endpoints' addresses.

    known: the prefixes by length, to find those around an address.
    """

    known: PrefixIndex = attrs.field(factory=lambda: PrefixIndex(()))
    prefixes: dict[Network, Identity] = attrs.field(factory=dict)
    nodes: dict[Address, Identity] = attrs.field(factory=dict)
    ends: dict[Address, Identity] = attrs.field(factory=dict)

    def __iter__(self) -> Iterator[Identity]:
        yield from self.prefixes.values()
        yield from self.nodes.values()
        yield from self.ends.values()


class Identities:
    """The identities in use, and the ipcache as it stands in the kernel."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._allocator = IdentityAllocator()
        self._written: dict[bytes, bytes] = {}
        self._written_numbers: set[int] = set()
        self._node: frozenset[Address] = frozenset()
        self._written_node: frozenset[Address] = frozenset()
        self._ends: dict[Address, Labels] = {}
        self._published: dict[Address, int] = {}
        self._labelled: tuple[PrefixIndex, list[tuple[Network, Labels]]] = (PrefixIndex(()), [])
        self._encoded: tuple[Any, Any, dict[bytes, bytes]] = ((), (), {})
        self.current = Assignment()
        self.publish: Callable[[set[Address]], None] = lambda _: None
        self.node_changed: Callable[[], None] = lambda: None

    def __iter__(self) -> Iterator[Identity]:
        return iter(self._allocator.get(number) for number in self._allocator.all())

    def __getitem__(self, number: int) -> Identity:
        return self._allocator.get(number)

    def __len__(self) -> int:
        return len(self._allocator.all())

    def __repr__(self) -> str:
        return f"<Identities {len(self)} in use, {len(self.current.prefixes)} prefixes>"

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

    @property
    def next_numbers(self) -> tuple[int, int]:
        """Where the search for unused numbers goes on; set after a restart."""
        return self._allocator.next_numbers

    @next_numbers.setter
    def next_numbers(self, numbers: tuple[int, int]) -> None:
        self._allocator.go_on_from(numbers)

    def known(self) -> dict[int, Labels]:
        """Every identity in use, by number."""
        return self._allocator.all()

    @property
    def node_addresses(self) -> frozenset[Address]:
        """The node's own, as last read: identity host."""
        return self._node

    def read_node(self) -> bool:
        """Look at the node's addresses anew; write() puts them into force. Whether they changed."""
        before = self._node
        found = addresses.list_all(ns=self._core.node)
        self._node = frozenset(
            one.interface.ip for one in found if not one.interface.ip.is_link_local
        )
        return self._node != before

    def of(self, address: Address) -> Identity:
        """Who the ipcache says is behind an address: the longest prefix counts."""
        return max(
            (item for item in self._table(self.current).items() if address in item[0]),
            key=lambda item: item[0].prefixlen,
        )[1]

    def resolve(self, wanted: Collection[Network]) -> Assignment:
        """Identities where these prefixes are named, each one use more; see give_back()."""
        known = PrefixIndex(wanted)
        host = reserved_labels("host")
        return Assignment(
            known,
            {one: self._take(labels) for one, labels in self._prefix_labels(known)},
            {one: self._take(host | self._cover(one, known)) for one in self._node},
            {one: self._take(base | self._cover(one, known)) for one, base in self._ends.items()},
        )

    def _prefix_labels(self, known: PrefixIndex) -> list[tuple[Network, Labels]]:
        """In a fixed order; what the last call found of the same prefixes is found again."""
        if known != self._labelled[0]:
            found = known.labels()
            order = sorted(found, key=_order)
            self._labelled = (known, [(one, found[one]) for one in order])
        return self._labelled[1]

    def give_back(self, assignment: Assignment) -> None:
        """The opposite of resolve()."""
        for identity in assignment:
            if identity.number not in RESERVED:
                self.release(identity)

    def settle(self, addresses: Iterable[Address], labels: Labels) -> tuple[Identity, ...]:
        """An endpoint with these labels gets addresses, or other labels: who it is at each."""
        found = []
        for address in addresses:
            self.unsettle([address])
            self._ends[address] = labels
            cover = self._cover(address, self.current.known)
            self.current.ends[address] = self._take(labels | cover)
            found.append(self.current.ends[address])
        return tuple(found)

    def unsettle(self, addresses: Iterable[Address]) -> None:
        """It has gone."""
        for address in addresses:
            self._published.pop(address, None)
            if self._ends.pop(address, None) is not None:
                self.release(self.current.ends.pop(address))

    def hold(self, addresses: Iterable[Address]) -> tuple[Identity, ...]:
        """Keep who is at these addresses now: the sets must know them until nobody sends so."""
        return tuple(self.acquire(self.current.ends[one].labels) for one in addresses)

    def let_go(self, held: Iterable[Identity]) -> None:
        """The opposite of hold()."""
        for identity in held:
            self.release(identity)

    def number_of(self, address: Address | None) -> int:
        """The identity of a local endpoint's address; 0 where it has none of that family."""
        return self.current.ends[address].number if address else 0

    def note_published(self, address: Address, number: int) -> None:
        """What stands in the kernel for an endpoint's address."""
        self._published[address] = number

    def _cover(self, address: Address, known: PrefixIndex) -> Labels:
        if not self._core.config.cidr_matches_pods:
            return Labels()
        return known.covering(address)

    def _take(self, labels: Labels) -> Identity:
        only = labels.items[0] if len(labels) == 1 else None
        if only is not None and only.source == "reserved":
            return Identity.reserved(only.key)
        return self.acquire(labels)

    def pairs(self, assignment: Assignment) -> dict[bytes, bytes]:
        """The whole ipcache for an assignment, as bytes."""
        if self._encoded[0] is not assignment.prefixes or self._encoded[1] is not assignment.nodes:
            found = self._encode(assignment)
            self._encoded = (assignment.prefixes, assignment.nodes, found)
        return self._encoded[2]

    def _encode(self, assignment: Assignment) -> dict[bytes, bytes]:
        spec = self._core.spec.maps["pcl_ipcache"]
        static = self._core.limits.PCL_IPCACHE_STATIC_BITS
        key = packer(spec.key, "prefixlen", "family", "addr")
        value = packer(spec.value, "identity")
        return {
            key(static + one.prefixlen, one.version, addr(one.network_address)): value(who.number)
            for one, who in self._table(assignment).items()
        }

    def differs(self, assignment: Assignment) -> bool:
        """Whether write() would change anything."""
        return self.pairs(assignment) != self._written or bool(self._moved(assignment))

    def _moved(self, assignment: Assignment) -> set[Address]:
        """Endpoints' addresses for which something else stands in the kernel."""
        ends = assignment.ends
        return {one for one, number in self._published.items() if ends[one].number != number}

    @property
    def written(self) -> dict[bytes, bytes]:
        """The ipcache as it stands in the kernel."""
        return self._written

    def in_use(self) -> set[int]:
        """Identities that an address has in the kernel: a packet can be of them."""
        return self._written_numbers | set(self._published.values())

    def write(self, assignment: Assignment) -> None:
        """Put it into force; connections are judged anew where a mapping changed."""
        table = self._core.maps["pcl_ipcache"]
        desired = self.pairs(assignment)
        changed = {k: v for k, v in desired.items() if self._written.get(k) != v}
        gone = [key for key in self._written if key not in desired]
        write_pairs(table, changed)
        table.remove(gone)
        if self._written and (changed or gone):
            self._core.bump(0)
        self._note_written(desired)
        self.write_node()
        self.node_changed()
        self.current = assignment
        moved = self._moved(assignment)
        if moved:
            self.publish(moved)

    @property
    def local(self) -> frozenset[Address]:
        """The node's own as far as they stand among the local addresses: services ask there."""
        config = self._core.config
        return self._node if config.devices or config.socket_lb else frozenset()

    def write_node(self) -> None:
        """Bring them there: local addresses without an endpoint."""
        if self.local == self._written_node:
            return
        table = self._core.maps["pcl_addresses"]
        known = {address_of(key.addr.bytes, key.family): end for key, end in table.pairs()}
        standing = {one for one, ifindex in known.items() if not ifindex}
        table.remove(address_key(one) for one in standing - self.local)
        table.update((address_key(one), 0) for one in self.local - known.keys())
        self._written_node = self.local

    def adopt(self) -> None:
        """Take what stands in the kernel as written."""
        self._note_written(pairs_of(self._core.maps["pcl_ipcache"]))

    def _note_written(self, pairs: dict[bytes, bytes]) -> None:
        self._written = pairs
        self._written_numbers = {int.from_bytes(one, "little") for one in set(pairs.values())}

    def _table(self, assignment: Assignment) -> dict[Network, Identity]:
        return {
            **dict.fromkeys(_EVERYTHING, Identity.reserved("world")),
            **assignment.prefixes,
            **{ip_network(address): one for address, one in assignment.nodes.items()},
        }


def _order(network: Network) -> tuple[int, int, int]:
    return network.version, int(network.network_address), network.prefixlen
