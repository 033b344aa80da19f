# SPDX-License-Identifier: Apache-2.0
"""Ports of the node that are a service's: no process may bind them, and none may have them.

A process that binds such a port would get nothing there, or take the service's clients away. So
the kernel refuses the bind (EADDRINUSE), and apply() refuses a service whose port is held.
"""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import attrs

from pycilium.datapath.wire import addr, address_of, be16
from pycilium.model import Frontend, ServiceKind
from pycilium.net import sock_diag

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pycilium.errors import SpecError
    from pycilium.libbpf import Map
    from pycilium.model import ServiceLB
    from pycilium.net import NetNS

_ON_THE_NODE = (ServiceKind.NODE_PORT, ServiceKind.HOST_PORT)
_ANY = {4: ip_address("0.0.0.0"), 6: ip_address("::")}


@attrs.frozen
class RefusedBind:
    """A port that processes asked for, and the service that has it."""

    frontend: Frontend
    service: str
    count: int

    def __str__(self) -> str:
        return f"{self.frontend} of {self.service}: {self.count} times"


@attrs.frozen
class Claim:
    """A key of pcl_claims: a port at an address, on the wildcard alone, or on every address."""

    frontend: Frontend
    every: bool = False

    def encode(self) -> dict[str, Any]:
        """struct pcl_claim_key."""
        one = self.frontend
        key = {"addr": addr(one.address), "port_be": be16(one.port)}
        return {
            "service": {**key, "protocol": one.protocol, "family": one.address.version},
            "every": int(self.every),
        }

    @classmethod
    def decode(cls, key: Any) -> Claim:
        """What encode() made."""
        one = key.service
        address = address_of(one.addr.bytes, one.family)
        return cls(Frontend(address, be16(one.port_be), one.protocol), bool(key.every))


def claims_of(service: ServiceLB) -> tuple[Claim, ...]:
    """What a service keeps from processes: nothing where it has addresses of its own only."""
    one = service.frontend
    if service.kind is ServiceKind.CLUSTER_IP:
        return ()
    if one.address.is_unspecified:
        return (Claim(one, every=True),)
    if service.kind in _ON_THE_NODE:
        return (Claim(one), Claim(attrs.evolve(one, address=_ANY[one.address.version])))
    return (Claim(one),)


class Claims:
    """`table` has a service's claims from the time before its frontend is written."""

    def __init__(self, table: Map, node: NetNS) -> None:
        self._table = table
        self._node = node
        self._held: Counter[Claim] = Counter()
        self._names: dict[Claim, str] = {}

    def refusals(self, services: Iterable[ServiceLB]) -> dict[ServiceLB, SpecError]:
        """Which services a process of the node stands in the way of, and which process."""
        waiting: dict[int, list[sock_diag.Bound]] = {}
        found = {}
        for service in services:
            protocol = service.frontend.protocol
            fresh = any(not self._held[one] for one in claims_of(service))
            if not fresh or protocol not in sock_diag.WAITING:
                continue
            if protocol not in waiting:
                waiting[protocol] = self._node.run(sock_diag.bound, protocol)
            holder = next((o for o in waiting[protocol] if _collides(service.frontend, o)), None)
            if holder is not None:
                found[service] = _held_by(service, holder)
        return found

    def take(self, services: Iterable[ServiceLB]) -> None:
        """From now on their ports cannot be bound. Raises SpecError where a process has one."""
        claiming = {one: claims_of(one) for one in services if claims_of(one)}
        fresh = {claim for claims in claiming.values() for claim in claims if not self._held[claim]}
        keys = [claim.encode() for claim in fresh]
        added = [key for key in keys if key not in self._table]
        # The look comes after the claims: no bind comes between. Counts of an adopted one stay.
        self._table.update((key, 0) for key in added)
        refused = self.refusals(claiming)
        if refused:
            self._table.remove(added)
            raise next(iter(refused.values()))
        self.restore(claiming)

    def restore(self, services: Iterable[ServiceLB]) -> None:
        """What stands in the kernel already: theirs are the claims that stand with it."""
        for one in services:
            claims = claims_of(one)
            self._held.update(claims)
            self._names |= dict.fromkeys(claims, one.name or str(one.frontend))

    def release(self, services: Iterable[ServiceLB]) -> None:
        """The opposite of take(); what nobody claims any more can be bound."""
        released = Counter(claim for one in services for claim in claims_of(one))
        if released:
            self._held -= released
            gone = [one for one in released if not self._held[one]]
            self._table.remove(one.encode() for one in gone)
            for one in gone:
                self._names.pop(one, None)

    def settle(self) -> None:
        """After a restart, when every service has taken its claims: these, and no others."""
        standing = {Claim.decode(key) for key in self._table}
        self._table.remove(one.encode() for one in standing if not self._held[one])

    def move(self, table: Map) -> None:
        """Go on with another descriptor of the same map."""
        self._table = table

    def refused(self) -> Iterator[RefusedBind]:
        """The ports that were asked for in vain since they were claimed."""
        for key, count in self._table.pairs():
            claim = Claim.decode(key)
            if count:
                yield RefusedBind(claim.frontend, self._names.get(claim, "a service"), count)


def _collides(frontend: Frontend, socket: sock_diag.Bound) -> bool:
    if socket.port != frontend.port:
        return False
    ours, theirs = frontend.address, socket.address
    mapped = getattr(theirs, "ipv4_mapped", None) or theirs
    if theirs.is_unspecified:
        return ours.version == theirs.version or (theirs.version == 6 and not socket.only_ipv6)
    return mapped.version == ours.version and (ours.is_unspecified or mapped == ours)


def _held_by(service: ServiceLB, holder: sock_diag.Bound) -> SpecError:
    at = Frontend(holder.address, holder.port, holder.protocol)
    allowed = f"a port that no process of the node has; {holder.holder} has {at}"
    return service.error("frontend", str(service.frontend), allowed)
