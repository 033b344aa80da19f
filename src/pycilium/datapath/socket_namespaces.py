# SPDX-License-Identifier: Apache-2.0
"""The network namespaces whose sockets are translated, and who a socket of each is as a client.

A socket that is bound to no address is its namespace's first of the family. The node is the
address that it leaves by.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from pycilium.datapath.wire import addr
from pycilium.net import addresses

if TYPE_CHECKING:
    from pycilium.datapath.wire import Address
    from pycilium.libbpf import Map
    from pycilium.net import NetNS

_FAR = ("192.0.2.1", "2001:db8::1")  # documentation's (RFC 5737, RFC 3849): any way out


class SocketNamespaces:
    """What `table` says of each namespace, by its cookie; 0 is none."""

    def __init__(self, table: Map, node: NetNS) -> None:
        self._table = table
        self._node = node
        self._addresses: dict[int, list[tuple[Address, ...]]] = defaultdict(list)

    def move(self, table: Map) -> None:
        """Go on with another descriptor of the same map."""
        self._table = table

    def read_node(self) -> None:
        """The node's namespace, with the addresses that it has now."""
        cookie, now = self._node.cookie, main_addresses(self._node)
        if self._addresses[cookie][:1] != [now]:
            self._addresses[cookie][:1] = [now]
            self._write(cookie)

    def admit(self, cookie: int, own: tuple[Address, ...]) -> None:
        """From now on its sockets are translated, as clients that have these addresses."""
        if cookie:
            self._addresses[cookie].append(own)
            self._write(cookie)

    def dismiss(self, cookie: int, own: tuple[Address, ...]) -> None:
        """The opposite of one admit()."""
        if own not in self._addresses.get(cookie, ()):
            return
        self._addresses[cookie].remove(own)
        if self._addresses[cookie]:
            self._write(cookie)
        else:
            del self._addresses[cookie]
            self._table.remove([cookie])

    def settle(self) -> None:
        """No others."""
        self._table.remove(set(self._table) - self._addresses.keys())

    def _write(self, cookie: int) -> None:
        everyone = [address for own in self._addresses[cookie] for address in own]
        value: dict[str, Any] = {"node": int(cookie == self._node.cookie)}
        for name, family in (("ipv4", 4), ("ipv6", 6)):
            value[name] = next((addr(one) for one in everyone if one.version == family), b"")
        self._table[cookie] = value


def main_addresses(node: NetNS) -> tuple[Address, ...]:
    """Who the node is to others: of each family the address that it leaves by, if it has one."""
    chosen = [node.run(addresses.source_to, far) for far in _FAR]
    own = [one.interface.ip for one in addresses.list_all(ns=node)]
    known = [one for one in (*chosen, *own) if one is not None]
    return tuple(one for one in known if not one.is_loopback and not one.is_link_local)
