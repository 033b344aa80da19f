# SPDX-License-Identifier: Apache-2.0
"""One endpoint: a network attachment with addresses, labels and an identity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from pycilium.datapath.wire import Address, addr, be32, mac_bytes
from pycilium.errors import ClosedError, SpecError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycilium.datapath.device import Device
    from pycilium.datapath.endpoints import Endpoints
    from pycilium.datapath.hooks import Attachments
    from pycilium.libbpf import Object
    from pycilium.model import Identity, Labels
    from pycilium.net import NetNS

T = TypeVar("T")


class Endpoint:
    """Made by `datapath.endpoints.create` or `.attach`; `remove()` takes it away."""

    def __init__(
        self,
        owner: Endpoints,
        *,
        number: int,
        name: str,
        addresses: tuple[Address, ...],
        identity: Identity,
        slot: int,
        device: Device,
        attachments: Attachments,
        netns: NetNS | None,
        ifname: str,
        created: bool,
        owns_netns: bool,
        netns_cookie: int = 0,
    ) -> None:
        self._owner = owner
        self._attachments = attachments
        self._removed = False
        self.id = number
        self.name = name
        self.addresses = addresses
        self.identity = identity
        self.slot = slot
        self.device = device
        self.netns = netns
        self.ifname = ifname
        self.created = created
        self.owns_netns = owns_netns
        self.netns_cookie = netns_cookie  # 0: its sockets are not told apart

    @property
    def ip(self) -> Address:
        """Its first address."""
        return self.addresses[0]

    @property
    def labels(self) -> Labels:
        """The labels that gave it its identity."""
        return self.identity.labels

    @property
    def ifindex(self) -> int:
        """The device on the host's side."""
        return self.device.ifindex

    @property
    def mac(self) -> str:
        """The endpoint's own MAC address."""
        return self.device.mac

    @property
    def removed(self) -> bool:
        """Whether it is gone."""
        return self._removed

    def address(self, family: int) -> Address | None:
        """Its address of family 4 or 6, if it has one."""
        return next((one for one in self.addresses if one.version == family), None)

    @property
    def namespace(self) -> NetNS:
        """Its namespace, for sockets and processes; ClosedError where it is not held."""
        if self.netns is None:
            raise ClosedError(f"endpoint {self.name}: this process does not hold its namespace")
        return self.netns

    def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function inside the endpoint's namespace; the caller's thread stays."""
        if self._removed:
            raise ClosedError(f"endpoint {self.name} was removed")
        if self.netns is None:
            raise SpecError("endpoint", self.name, "one whose namespace is known")
        return self.netns.run(function, *arguments)

    def set_labels(self, labels: Any) -> None:
        """Change labels, and so identity; open connections are judged anew."""
        self._owner.set_labels(self, labels)

    def remove(self) -> None:
        """Take it away; what is gone already is fine."""
        self._owner.remove(self, missing_ok=True)

    def replace_programs(self, node: NetNS, loaded: Object) -> None:
        """Switch both hooks over to another object's programs."""
        self._attachments.update(node, loaded)

    def value(self) -> dict[str, Any]:
        """struct pcl_endpoint, but for the identities of its addresses."""
        ipv4, ipv6 = self.address(4), self.address(6)
        return {
            "policy_slot": self.slot,
            "peer_redirect": int(self.device.peer_redirect),
            "ipv4": be32(ipv4),  # type: ignore[arg-type]
            "ipv6": addr(ipv6) if ipv6 else bytes(16),
            "mac": mac_bytes(self.device.mac),
            "host_mac": mac_bytes(self.device.host_mac),
            "id": self.id,
        }

    def to_dict(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "id": self.id,
            "name": self.name,
            "addresses": [str(one) for one in self.addresses],
            "identity": self.identity.number,
            "slot": self.slot,
            "ifindex": self.ifindex,
            "mac": self.mac,
            "ifname": self.ifname,
            "created": self.created,
            "netns": self.netns.name if self.netns and self.owns_netns else None,
            "netns_cookie": self.netns_cookie,
        }

    def __repr__(self) -> str:
        addresses = ",".join(str(one) for one in self.addresses)
        state = " removed" if self._removed else ""
        return f"<Endpoint {self.id} {self.name} {addresses} {self.labels}{state}>"
