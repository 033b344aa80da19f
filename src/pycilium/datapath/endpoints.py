# SPDX-License-Identifier: Apache-2.0
"""The endpoints of one node: created, attached, found again, taken away.

An endpoint comes to life in an order that never lets a packet through undecided: its device
is down or carries dropping programs until its identity's policy set stands in its slot, and
what fails on the way is taken back whole.
"""

from __future__ import annotations

import os
import secrets
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from pycilium.datapath import device as devices
from pycilium.datapath.endpoint import Endpoint
from pycilium.datapath.hooks import Attachments
from pycilium.datapath.wire import Address, address_key, mac_bytes, parse_address
from pycilium.errors import ConflictError, SpecError
from pycilium.model import Labels
from pycilium.net import NetNS, links

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pycilium.datapath.core import Core
    from pycilium.datapath.device import Device
    from pycilium.datapath.identities import Identities
    from pycilium.datapath.policies import Policies
    from pycilium.datapath.sockets import Sockets
    from pycilium.model import Identity

AddressLike = str | Address
NetNSLike = NetNS | str | int | os.PathLike[str]


class Endpoints:
    """Iterable; `[key]` finds one by id, name or address."""

    def __init__(
        self, core: Core, identities: Identities, policies: Policies, sockets: Sockets
    ) -> None:
        self._core = core
        self._sockets = sockets
        self._identities = identities
        self._policies = policies
        self._by_id: dict[int, Endpoint] = {}
        self._by_address: dict[Address, Endpoint] = {}
        self._last = 0
        identities.publish = self._publish_moved

    def create(
        self,
        address: AddressLike | list[AddressLike] | tuple[AddressLike, ...],
        *,
        labels: Any,
        name: str | None = None,
        netns: NetNSLike | None = None,
        ifname: str = "eth0",
        mac: str | None = None,
    ) -> Endpoint:
        """A veth pair into a namespace (None: a new one), configured, with its policy in force.

        address: one IPv4, one IPv6, or both. Raises SpecError, ConflictError where an address
        or name is taken, MapFullError and KernelError; after each of them nothing has changed.
        """
        self._core.require_open()
        given = (_addresses(address), labels, name, netns, ifname, mac)
        return self._core.node.session(self._create, *given)

    def _create(
        self,
        own: tuple[Address, ...],
        labels: Any,
        name: str | None,
        netns: NetNSLike | None,
        ifname: str,
        mac: str | None,
    ) -> Endpoint:
        with self._core.lock, ExitStack() as undo:
            number = self._admit(own, name, mac)
            parsed = self._labels(labels)
            inside, owned = self._namespace(netns, number)
            undo.callback(_leave, inside, owned)
            pair = (self._core.node, inside, f"pcl{number}", ifname, mac)
            device, index = devices.create_pair(*pair)
            undo.callback(links.delete, device.ifindex, ns=self._core.node)
            endpoint = self._admit_device(
                undo, number=number, name=name, own=own, labels=parsed, device=device,
                netns=inside, ifname=ifname, created=True, owns_netns=owned,
            )  # fmt: skip
            devices.silence_ipv6(device.name, own, self._core.node)
            devices.configure_inside(inside, index, device, ifname, own)
            devices.open_way(self._core.node, device, own)
            undo.pop_all()
            return endpoint

    def attach(
        self,
        *,
        ifname: str,
        address: AddressLike | list[AddressLike] | tuple[AddressLike, ...],
        mac: str,
        labels: Any,
        name: str | None = None,
        netns: NetNSLike | None = None,
    ) -> Endpoint:
        """Take charge of an interface of the node that exists already.

        mac: of the endpoint at its other end; netns: its namespace, if it is to be entered.
        Raises what create() raises.
        """
        own = _addresses(address)
        with self._core.lock, ExitStack() as undo:
            number = self._admit(own, name, mac)
            parsed = self._labels(labels)
            device = devices.find(self._core.node, ifname, mac)
            self._require_free(device)
            inside = None if netns is None else _open(netns)
            if inside is not None:
                undo.callback(_leave, inside, False)
            endpoint = self._admit_device(
                undo, number=number, name=name, own=own, labels=parsed, device=device,
                netns=inside, ifname=ifname, created=False, owns_netns=False,
            )  # fmt: skip
            undo.callback(devices.close_way, self._core.node, device, own)
            devices.open_way(self._core.node, device, own)
            undo.pop_all()
            return endpoint

    def remove(self, which: Endpoint | int | str | Address, *, missing_ok: bool = False) -> None:
        """Take an endpoint away: its entries first, then its device and namespace."""
        with self._core.lock:
            endpoint = which if isinstance(which, Endpoint) else self.get(which)
            if endpoint is None or endpoint.removed:
                if missing_ok:
                    return
                raise SpecError("endpoint", which, "an existing endpoint's id, name or address")
            self._core.require_open()
            self._withdraw(endpoint)
            self.dismantle(endpoint)
            self._identities.unsettle(endpoint.addresses)
            self._core.save()
            self._policies.leave(endpoint.identity)

    def set_labels(self, endpoint: Endpoint, labels: Any) -> None:
        """Give an endpoint other labels; its connections are decided anew."""
        with self._core.lock:
            self._require_member(endpoint)
            before, old_slot = endpoint.identity, endpoint.slot
            held = self._identities.hold(endpoint.addresses)
            endpoint.identity, endpoint.slot = self._rejoin(endpoint, self._labels(labels))
            self._core.save()
            self._write(endpoint)
            self._core.bump(old_slot)
            self._identities.let_go(held)
            self._policies.leave(before)

    def _labels(self, given: Any) -> Labels:
        """Those that count of what a user gave."""
        return self._core.config.label_filter.apply(Labels.of(given))

    def _rejoin(self, endpoint: Endpoint, labels: Labels) -> tuple[Identity, int]:
        try:
            return self._policies.join(labels, endpoint.addresses)
        except BaseException:
            self._identities.settle(endpoint.addresses, endpoint.labels)
            raise

    def get(self, which: int | str | Address) -> Endpoint | None:
        """By id, name or address; None where there is none."""
        if isinstance(which, int):
            return self._by_id.get(which)
        for endpoint in self._by_id.values():
            if which == endpoint.name or str(which) in map(str, endpoint.addresses):
                return endpoint
        return None

    def __getitem__(self, which: int | str | Address) -> Endpoint:
        found = self.get(which)
        if found is None:
            raise KeyError(which)
        return found

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    def __repr__(self) -> str:
        return f"<Endpoints {', '.join(one.name for one in self._by_id.values())}>"

    def by_address(self, address: Address) -> Endpoint | None:
        """The endpoint that has an address."""
        return self._by_address.get(address)

    def register(self, endpoint: Endpoint) -> None:
        """Remember an endpoint, new or adopted."""
        self._by_id[endpoint.id] = endpoint
        self._last = max(self._last, endpoint.id)
        for address in endpoint.addresses:
            self._by_address[address] = endpoint

    def forget(self, endpoint: Endpoint) -> None:
        """The opposite."""
        self._by_id.pop(endpoint.id, None)
        for address in endpoint.addresses:
            self._by_address.pop(address, None)

    def publish(self, endpoint: Endpoint) -> None:
        """Its entries: from here on its packets are judged by its policy."""
        self._write(endpoint)
        for address in endpoint.addresses:
            self._core.maps["pcl_addresses"][address_key(address)] = endpoint.ifindex
        self._core.bump(0)  # who was reached at these addresses through the stack is now here

    def _write(self, endpoint: Endpoint) -> None:
        number_of = self._identities.number_of
        numbers = {f"ipv{one}_identity": number_of(endpoint.address(one)) for one in (4, 6)}
        self._core.maps["pcl_endpoints"][endpoint.ifindex] = {**endpoint.value(), **numbers}
        for address in endpoint.addresses:
            self._identities.note_published(address, number_of(address))

    def _publish_moved(self, addresses: set[Address]) -> None:
        """Prefixes came or went around endpoints: who they are at these addresses changed."""
        for endpoint in dict.fromkeys(self._by_address[one] for one in addresses):
            self._write(endpoint)
            self._core.bump(endpoint.slot)

    def dismantle(self, endpoint: Endpoint) -> None:
        """Device first: without programs it must not carry a packet."""
        endpoint._removed = True  # noqa: SLF001 - one subject in two files
        node = self._core.node
        if endpoint.created:
            links.delete(endpoint.ifindex, ns=node)
        else:
            devices.close_way(node, endpoint.device, endpoint.addresses)
        endpoint._attachments.remove(node)  # noqa: SLF001
        if endpoint.netns is not None:
            _leave(endpoint.netns, endpoint.owns_netns)

    def let_go(self, endpoint: Endpoint) -> None:
        """Close descriptors and leave everything in the kernel: a pinned datapath closes."""
        endpoint._removed = True  # noqa: SLF001
        endpoint._attachments.close(self._core.node)  # noqa: SLF001
        if endpoint.netns is not None:
            endpoint.netns.close()

    def _admit(self, own: tuple[Address, ...], name: str | None, mac: str | None) -> int:
        """Everything that can be refused before a change; the new endpoint's number."""
        self._core.require_open()
        if mac is not None:
            mac_bytes(mac)
        for address in own:
            holder = self._by_address.get(address)
            if holder:
                raise ConflictError(f"address {address} is held by endpoint {_who(holder)}")
        if name is not None:
            _check_name(name)
            for one in self._by_id.values():
                if one.name == name:
                    raise ConflictError(f"name {name} is held by endpoint {_who(one)}")
        self._core.require_room("pcl_endpoints", len(self._by_id), 1)
        self._policies.read_node()
        used = len(self._by_address) + len(self._identities.local)
        self._core.require_room("pcl_addresses", used, len(own))
        return self._next_number()

    def _next_number(self) -> int:
        number = self._last + 1
        while links.exists(f"pcl{number}", ns=self._core.node):
            number += 1
        return number

    def _namespace(self, given: NetNSLike | None, number: int) -> tuple[NetNS, bool]:
        if given is not None:
            return _open(given), False
        if self._core.pins is None:
            return NetNS.create(), True
        named = _create_named(f"pcl-{self._core.name}-{number}")
        named.keep()
        return named, True

    def _admit_device(
        self,
        undo: ExitStack,
        *,
        number: int,
        name: str | None,
        own: tuple[Address, ...],
        labels: Labels,
        device: Device,
        netns: NetNS | None,
        ifname: str,
        created: bool,
        owns_netns: bool,
    ) -> Endpoint:
        """Programs, identity, policy, then the entries; each step knows its way back."""
        core = self._core
        pins = core.link_pins(number)
        attachments = Attachments.attach(
            core.config.hooks, core.node, core.object, device.ifindex, pins
        )
        undo.callback(attachments.remove, core.node)
        identity, slot = self._policies.join(labels, own)
        undo.callback(self._policies.leave, identity)
        undo.callback(self._identities.unsettle, own)
        endpoint = Endpoint(
            self, number=number, name=name or str(own[0]), addresses=own, identity=identity,
            slot=slot, device=device, attachments=attachments, netns=netns, ifname=ifname,
            created=created, owns_netns=owns_netns, netns_cookie=self._sockets.cookie_of(netns),
        )  # fmt: skip
        undo.callback(self._withdraw, endpoint)
        self.register(endpoint)
        core.save()
        self._sockets.admit(endpoint)
        self.publish(endpoint)
        return endpoint

    def _withdraw(self, endpoint: Endpoint) -> None:
        """Without entries its packets drop; connections that know it are judged anew."""
        self._core.maps["pcl_addresses"].remove(map(address_key, endpoint.addresses))
        self._core.maps["pcl_endpoints"].remove([endpoint.ifindex])
        self._core.bump(endpoint.slot)
        self._sockets.dismiss(endpoint)
        self.forget(endpoint)

    def _require_free(self, device: Device) -> None:
        for one in self._by_id.values():
            if one.ifindex == device.ifindex:
                raise ConflictError(f"interface {device.name} is held by endpoint {_who(one)}")

    def _require_member(self, endpoint: Endpoint) -> None:
        self._core.require_open()
        if self._by_id.get(endpoint.id) is not endpoint:
            raise SpecError("endpoint", endpoint, "an endpoint of this datapath")


def _addresses(given: object) -> tuple[Address, ...]:
    """One address, or one of each family."""
    several = list(given) if isinstance(given, (list, tuple)) else [given]
    own = tuple(parse_address("address", one) for one in several)
    if not own or len({one.version for one in own}) != len(own):
        raise SpecError("address", given, "one IPv4 address, one IPv6 address, or both")
    for one in own:
        if one.is_multicast or one.is_loopback or one.is_unspecified or one.is_link_local:
            raise SpecError("address", str(one), "a unicast address that can be routed to")
    return own


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name or len(name) > 253 or name.split() != [name]:
        raise SpecError("name", name, "1 to 253 characters without a space")


def _open(given: NetNSLike) -> NetNS:
    """A handle of our own: a namespace that was handed in stays open for its owner."""
    return NetNS.open(f"/proc/self/fd/{given.fd}" if isinstance(given, NetNS) else given)


def _create_named(name: str) -> NetNS:
    """The name may be held by what a killed creation left, or by another node's datapath."""
    try:
        return NetNS.create(name)
    except ConflictError:
        return NetNS.create(f"{name}-{secrets.token_hex(4)}")


def _leave(netns: NetNS, owned: bool) -> None:
    """Close the handle; a namespace of a pinned datapath also has a name to lose."""
    netns.close()
    if owned and not netns.name.startswith("anonymous-"):
        NetNS.delete(netns.name)


def _who(endpoint: Endpoint) -> str:
    return f"{endpoint.name} (id {endpoint.id})"
