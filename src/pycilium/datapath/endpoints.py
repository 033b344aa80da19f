# SPDX-License-Identifier: Apache-2.0
"""Endpoints: a namespace behind a veth, with an identity, and closed until its policy holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar

import attrs

from pycilium.datapath import rows
from pycilium.datapath.config import GATEWAY_IPV4, GATEWAY_IPV6
from pycilium.datapath.context import Context
from pycilium.datapath.hooks import Hooks
from pycilium.datapath.identities import Identities
from pycilium.datapath.policies import Policies
from pycilium.errors import ClosedError, ConflictError, SpecError
from pycilium.model import Endpoint as EndpointValue
from pycilium.model import Identity, Labels
from pycilium.net import NetNS, addresses, links, neighbours, routes

T = TypeVar("T")
Address = rows.Address


class Endpoint:
    """One endpoint of this node; made by Endpoints, closed by remove() or with its datapath."""

    def __init__(
        self,
        owner: Endpoints,
        value: EndpointValue,
        netns: NetNS | None,
        hooks: Hooks,
        *,
        made: bool,
    ) -> None:
        self._owner = owner
        self._netns = netns
        self.value = value
        self.hooks = hooks
        self.made = made
        self.closed = False

    @property
    def id(self) -> int:
        """Number on this node, as events carry it."""
        return self.value.id

    @property
    def name(self) -> str:
        """Unique on this node."""
        return self.value.name

    @property
    def addresses(self) -> tuple[Address, ...]:
        """At most one of each family."""
        return self.value.addresses

    @property
    def ip(self) -> Address:
        """The first address."""
        return self.value.addresses[0]

    @property
    def identity(self) -> Identity:
        """Number and labels."""
        return self.value.identity

    @property
    def labels(self) -> Labels:
        """What its identity is made of."""
        return self.value.identity.labels

    @property
    def ifindex(self) -> int:
        """The device on the host's side."""
        return self.value.ifindex

    @property
    def mac(self) -> str:
        """The endpoint's own MAC."""
        return self.value.mac

    @property
    def netns(self) -> NetNS:
        """Its namespace; ClosedError where this process does not hold it."""
        if self._netns is None:
            raise ClosedError(f"endpoint {self.name}: this process does not hold its namespace")
        return self._netns

    def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function inside its namespace."""
        return self.netns.run(function, *arguments)

    def set_labels(self, labels: Labels | Mapping[str, str] | str) -> None:
        """Another identity, from the next packet on."""
        self._owner.relabel(self, labels)

    def remove(self) -> None:
        """Take it off the network, with everything that was made for it."""
        self._owner.remove(self)

    @property
    def netns_name(self) -> str:
        """Under which it can be found again, empty where it is anonymous."""
        return self._netns.name if self._netns is not None and self._netns.is_named else ""

    def close_namespace(self, *, leave: bool = False) -> None:
        """Let go of the namespace; one that was made for the endpoint loses its name."""
        if self._netns is not None:
            if leave:
                self._netns.leave()
            self._netns.close()
            self._netns = None

    def __repr__(self) -> str:
        where = ", ".join(map(str, self.addresses))
        return f"<Endpoint {self.id} {self.name} {where} identity={self.identity.number}>"

    def __str__(self) -> str:
        return self.name


class Endpoints:
    """The endpoints of one datapath."""

    def __init__(self, context: Context, identities: Identities, policies: Policies) -> None:
        self._context = context
        self._identities = identities
        self._policies = policies
        self._by_id: dict[int, Endpoint] = {}
        self._next = 1

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    def __getitem__(self, name: str) -> Endpoint:
        for endpoint in self:
            if endpoint.name == name:
                return endpoint
        raise KeyError(name)

    def by_address(self, address: Address) -> Endpoint | None:
        """The endpoint that has an address."""
        return next((one for one in self if address in one.addresses), None)

    def is_host(self, address: Address) -> bool:
        """Whether an address is one of the node's own."""
        from ipaddress import ip_network

        return self._identities.written.get(ip_network(address)) == 1

    def create(
        self,
        address: str | Iterable[str],
        *,
        labels: Labels | Mapping[str, str] | str,
        name: str | None = None,
        netns: NetNS | str | None = None,
        ifname: str = "eth0",
        mac: str | None = None,
    ) -> Endpoint:
        """A veth pair with its far end configured in a namespace.

        address: one address, or one of each family. netns: a NetNS that stays the caller's, a
        name or path, or None for a new one that lives as long as the endpoint. It drops every
        packet until its policy is in force, which it is when this returns.
        Raises SpecError, ConflictError and KernelError, each with nothing left behind.
        """
        wanted = _addresses(address)
        found = Labels.of(labels)
        with self._context.lock, ExitStack() as undo:
            number = self._reserve(wanted, name)
            title = name or f"endpoint-{number}"
            inside = self._namespace(netns, title, undo)
            near, far = links.create_veth(
                f"pcl{number}", ifname, peer_ns=inside, ns=self._context.node, peer_mac=mac
            )
            undo.callback(links.delete, near.index, ns=self._context.node)
            endpoint = self._bring_up(number, title, wanted, found, near, far.mac, inside, undo)
            self._configure(endpoint, inside, far.index, near.mac)
            undo.pop_all()
        return endpoint

    def attach(
        self,
        ifname: str,
        address: str | Iterable[str],
        *,
        labels: Labels | Mapping[str, str] | str,
        mac: str,
        name: str | None = None,
    ) -> Endpoint:
        """An existing device of the node whose far end somebody else has configured.

        mac: of the far end. The device stays when the endpoint is removed.
        """
        wanted = _addresses(address)
        found = Labels.of(labels)
        near = links.get(ifname, ns=self._context.node)
        with self._context.lock, ExitStack() as undo:
            number = self._reserve(wanted, name)
            endpoint = self._bring_up(
                number, name or f"endpoint-{number}", wanted, found, near, mac, None, undo
            )
            undo.pop_all()
        return endpoint

    def adopt(self, value: EndpointValue, slot: int, netns: str, *, made: bool) -> None:
        """Take over an endpoint that the kernel has; one whose device is gone is forgotten."""
        context = self._context
        self._next = max(self._next, value.id + 1)
        context.identities.acquire(value.identity.labels, number=value.identity.number)
        context.slots.acquire(value.identity.labels, slot=slot)
        if not links.exists(value.ifindex, ns=context.node):
            self._erase(value)
            context.slots.release(value.identity.labels)
            context.identities.release(value.identity.labels)
            return
        hooks = Hooks.adopt(value.ifindex, context.pin / "links" if context.pin else Path())
        inside = NetNS.adopt(netns) if netns else None
        self._by_id[value.id] = Endpoint(self, value, inside, hooks, made=made)
        self._write(value, slot, peer_redirect=made)

    def relabel(self, endpoint: Endpoint, labels: Labels | Mapping[str, str] | str) -> None:
        """See Endpoint.set_labels."""
        wanted = Labels.of(labels)
        with self._context.lock:
            old = endpoint.labels
            if wanted == old:
                return
            slot = self._acquire(wanted)
            identity = self._context.identities.find(wanted)
            assert identity is not None
            endpoint.value = attrs.evolve(endpoint.value, identity=identity)
            self._context.record()
            self._write(endpoint.value, slot)
            old_slot = self._context.slots.find(old)
            self._context.bump_epoch(old_slot or 0)
            self._release(old)

    def remove(self, endpoint: Endpoint) -> None:
        """See Endpoint.remove."""
        with self._context.lock:
            if endpoint.closed:
                return
            endpoint.closed = True
            del self._by_id[endpoint.id]
            self._erase(endpoint.value)
            self._context.record()
            self._release(endpoint.labels)
            if self._links_pin is not None:
                endpoint.hooks.unpin(self._links_pin)
            endpoint.hooks.close()
            if endpoint.made:
                links.delete(endpoint.ifindex, ns=self._context.node)
            endpoint.close_namespace()

    def close(self) -> None:
        """Remove all of them, or let go of them where they are pinned."""
        for endpoint in self:
            if self._context.pin is None:
                endpoint.remove()
            else:
                endpoint.hooks.close()
                endpoint.close_namespace(leave=True)

    @property
    def _links_pin(self) -> Path | None:
        return None if self._context.pin is None else self._context.pin / "links"

    def _reserve(self, wanted: tuple[Address, ...], name: str | None) -> int:
        for address in wanted:
            holder = self.by_address(address)
            if holder is not None:
                raise ConflictError(f"address {address} belongs to endpoint {holder.name}")
        if name is not None and any(one.name == name for one in self):
            raise ConflictError(f"an endpoint named {name} exists already")
        self._next += 1
        return self._next - 1

    def _namespace(self, netns: NetNS | str | None, title: str, undo: ExitStack) -> NetNS:
        if isinstance(netns, NetNS):
            inside = NetNS.open(f"/proc/self/fd/{netns.fd}")
        elif netns is not None:
            inside = NetNS.open(netns)
        elif self._context.pin is None:
            inside = NetNS.create()
        else:
            inside = NetNS.create(f"pycilium-{self._context.pin.name}-{title}")
        undo.callback(inside.close)
        return inside

    def _bring_up(
        self,
        number: int,
        title: str,
        wanted: tuple[Address, ...],
        labels: Labels,
        near: links.LinkInfo,
        mac: str,
        inside: NetNS | None,
        undo: ExitStack,
    ) -> Endpoint:
        """Programs first: they drop. Then the policy, then the endpoint, then its addresses."""
        context = self._context
        self._identities.refresh_host()
        hooks = Hooks.attach(context.object, near.index, context.node, pin=self._links_pin)
        undo.callback(hooks.close)
        if self._links_pin is not None:
            undo.callback(hooks.unpin, self._links_pin)
        slot = self._acquire(labels)
        undo.callback(self._release, labels)
        identity = context.identities.find(labels)
        assert identity is not None
        value = EndpointValue(number, title, wanted, identity, near.index, mac, near.mac)
        endpoint = Endpoint(self, value, inside, hooks, made=inside is not None)
        self._by_id[number] = endpoint
        undo.callback(self._by_id.pop, number, None)
        context.record()
        undo.callback(self._erase, value)
        self._write(value, slot, peer_redirect=near.kind == "veth" and inside is not None)
        links.set_up(near.index, ns=context.node)
        self._route(value)
        return endpoint

    def _acquire(self, labels: Labels) -> int:
        """Identity and slot of a label set; a new one becomes known to every policy set."""
        context = self._context
        new = context.identities.find(labels) is None
        context.identities.acquire(labels)
        try:
            slot = context.slots.acquire(labels)
        except BaseException:
            context.identities.release(labels)
            raise
        if new or not self._policies.entries(labels):
            context.record()
            self._policies.sync()
        return slot

    def _release(self, labels: Labels) -> None:
        context = self._context
        slot = context.slots.release(labels)
        context.identities.release(labels)
        if slot is not None:
            self._policies.forget(labels, slot)
            context.bump_epoch(slot)
            self._policies.sync()

    def _write(self, value: EndpointValue, slot: int, *, peer_redirect: bool = True) -> None:
        context = self._context
        row = rows.endpoint_value(value, slot, peer_redirect=peer_redirect)
        context.map("pcl_endpoints")[value.ifindex] = row
        for address in value.addresses:
            context.map("pcl_addresses")[rows.address_key(address)] = value.ifindex

    def _erase(self, value: EndpointValue) -> None:
        """Addresses first: from then on it is nobody's peer."""
        context = self._context
        context.map("pcl_addresses").remove(rows.address_key(a) for a in value.addresses)
        context.map("pcl_endpoints").remove([value.ifindex])
        slot = context.slots.find(value.identity.labels)
        if slot is not None:
            context.bump_epoch(slot)

    def _route(self, value: EndpointValue) -> None:
        """The node reaches the endpoint without asking for its MAC; the device must be up."""
        node, device = self._context.node, value.ifindex
        for address in value.addresses:
            routes.add(f"{address}/{address.max_prefixlen}", dev=device, ns=node)
            neighbours.add(str(address), value.mac, dev=device, ns=node)

    def _configure(self, endpoint: Endpoint, inside: NetNS, ifindex: int, gateway_mac: str) -> None:
        for address in endpoint.addresses:
            addresses.add(f"{address}/{address.max_prefixlen}", ifindex, ns=inside)
        links.set_up(ifindex, ns=inside)
        for address in endpoint.addresses:
            gateway = GATEWAY_IPV4 if address.version == 4 else GATEWAY_IPV6
            neighbours.add(gateway, gateway_mac, dev=ifindex, ns=inside)
            routes.add("default", via=gateway, dev=ifindex, onlink=True, ns=inside)


def _addresses(value: str | Iterable[str]) -> tuple[Address, ...]:
    texts = [value] if isinstance(value, str) else list(value)
    found = []
    for text in texts:
        try:
            found.append(ip_address(text))
        except ValueError:
            raise SpecError("address", text, "an IPv4 or IPv6 address without a prefix") from None
    if not found or len({one.version for one in found}) != len(found):
        raise SpecError("address", texts, "one address, or one of each family")
    for one in found:
        if one.is_multicast or one.is_unspecified or one.is_loopback or one.is_link_local:
            raise SpecError("address", str(one), "an address that other hosts can send to")
    return tuple(found)
