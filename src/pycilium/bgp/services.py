# SPDX-License-Identifier: Apache-2.0
"""Services to routes: a VIP is announced while something serves it.

Pure: services, health and pools in, routes out; the caller announces them. Backends count as
healthy unless said otherwise. A VIP of several services (ports) is announced while any of them can
be served.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network

import attrs

from pycilium.bgp.route import CommunityText, Route, make_attributes
from pycilium.errors import SpecError
from pycilium.model.frontend import Address, Backend
from pycilium.model.service import ServiceLB, TrafficPolicy

Network = IPv4Network | IPv6Network
Health = Callable[[Backend], bool]


def _network(text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError as error:
        raise SpecError("pool", text, f"a prefix ({error})") from None


def _communities(values: Iterable[CommunityText]) -> tuple[CommunityText, ...]:
    return (values,) if isinstance(values, str) else tuple(values)


@attrs.frozen
class Pool:
    """VIPs of one prefix, and how they are announced.

    aggregate: the whole pool as one route while any of its VIPs is served, in place of one for each
    VIP. Raises SpecError for what is no prefix or community.
    """

    prefix: Network = attrs.field(converter=_network)
    communities: tuple[CommunityText, ...] = attrs.field(
        default=(), converter=_communities, kw_only=True
    )
    med: int | None = attrs.field(default=None, kw_only=True)
    local_pref: int | None = attrs.field(default=None, kw_only=True)
    aggregate: bool = attrs.field(default=False, kw_only=True)

    def __attrs_post_init__(self) -> None:
        self.route(self.prefix)

    def route(self, network: Network) -> Route:
        """A route with the pool's attributes."""
        found = make_attributes(
            communities=self.communities, med=self.med, local_pref=self.local_pref
        )
        return Route(str(network), attributes=found)


def _networks(values: Iterable[str | Network]) -> tuple[Network, ...]:
    return tuple(_network(str(one)) for one in values)


def _pools(values: Iterable[str | Pool]) -> tuple[Pool, ...]:
    return tuple(one if isinstance(one, Pool) else Pool(one) for one in values)


@attrs.frozen(kw_only=True)
class ServiceAnnouncer:
    """What of a node's services its peers should know.

    local: prefixes of this node's own pods, which tell local backends apart; needed for the policy
    LOCAL. pod_cidrs are announced as they are. Without pools every VIP is announced; with pools
    only those inside one, of several the one with the longest prefix.
    """

    policy: TrafficPolicy = TrafficPolicy.CLUSTER
    pools: tuple[Pool, ...] = attrs.field(default=(), converter=_pools)
    local: tuple[Network, ...] = attrs.field(default=(), converter=_networks)
    pod_cidrs: tuple[Pool, ...] = attrs.field(default=(), converter=_pools)

    def __attrs_post_init__(self) -> None:
        if self.policy is TrafficPolicy.LOCAL and not self.local:
            raise SpecError("local", self.local, "this node's pod prefixes beside the policy Local")

    def routes(self, services: Iterable[ServiceLB], healthy: Health | None = None) -> list[Route]:
        """What to announce now; give it to Speaker.announce(owner="services").

        healthy: of a backend; None for all of them.
        """
        served = {one.frontend.address for one in services if self._is_served(one, healthy)}
        by_pool: defaultdict[Pool, list[Network]] = defaultdict(list)
        for address in served:
            pool = self._pool(address)
            if pool is not None:
                by_pool[pool].append(ip_network(address))
        found = {one.prefix: one for one in self._own()}
        for pool, hosts in by_pool.items():
            for network in [pool.prefix] if pool.aggregate else hosts:
                found[str(network)] = pool.route(network)
        return list(found.values())

    def _own(self) -> Iterator[Route]:
        for pool in self.pod_cidrs:
            yield pool.route(pool.prefix)

    def _pool(self, address: Address) -> Pool | None:
        if not self.pools:
            return _EVERY[address.version]
        fitting = [p for p in self.pools if _inside(address, p.prefix)]
        return max(fitting, key=lambda pool: pool.prefix.prefixlen, default=None)

    def _is_served(self, service: ServiceLB, healthy: Health | None) -> bool:
        counted = filter(self._counts, service.backends)
        return any(healthy is None or healthy(one) for one in counted)

    def _counts(self, backend: Backend) -> bool:
        if self.policy is TrafficPolicy.CLUSTER:
            return True
        return any(_inside(backend.address, network) for network in self.local)


def aggregate(prefixes: Iterable[str]) -> list[str]:
    """The fewest prefixes that cover exactly the same addresses."""
    networks = [_network(one) for one in prefixes]
    four = collapse_addresses(one for one in networks if isinstance(one, IPv4Network))
    six = collapse_addresses(one for one in networks if isinstance(one, IPv6Network))
    return [*map(str, four), *map(str, six)]


def _inside(address: Address, network: Network) -> bool:
    return address.version == network.version and address in network


_EVERY = {4: Pool("0.0.0.0/0"), 6: Pool("::/0")}
