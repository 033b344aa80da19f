# SPDX-License-Identifier: Apache-2.0
"""The socket layer: services are translated where a process names them.

The programs share the service maps with the packet layer, so one `services.apply` feeds both.
They act for the namespaces of the node and of its endpoints, and leave alone the processes of
exempt cgroups. What a socket was told stays with that socket and goes with it.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from pycilium.datapath import cgroup, pins
from pycilium.datapath.claims import Claims
from pycilium.datapath.gone import GoneSockets
from pycilium.datapath.socket_namespaces import SocketNamespaces
from pycilium.errors import KernelError, NotSupportedError, SpecError
from pycilium.libbpf import Link, Object, ObjectSpec, features
from pycilium.libbpf.kinds import ADDRESS_HOOKS, BIND_HOOKS
from pycilium.model import Delta, SessionAffinity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pycilium.datapath.claims import RefusedBind
    from pycilium.datapath.core import Core
    from pycilium.datapath.endpoint import Endpoint
    from pycilium.libbpf import CgroupHook, Map
    from pycilium.model import ServiceLB
    from pycilium.net import NetNS

_SHARED = (
    "pcl_services", "pcl_slots", "pcl_backends", "pcl_affinity", "pcl_source_ranges",
    "pcl_addresses", "pcl_counters",
)  # fmt: skip
_OWN = ("pcl_peers", "pcl_sends", "pcl_namespaces", "pcl_exempt", "pcl_claims")


class Sockets:
    """Off unless the datapath was opened with socket_lb; then `cgroup` is where it stands."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._object: Object | None = None
        self._links: dict[str, Link] = {}
        self._namespaces: SocketNamespaces | None = None
        self._gone: GoneSockets | None = None
        self._claims: Claims | None = None
        self.find_namespace: Callable[[int], NetNS | None] = _nowhere
        self.read_node: Callable[[], None] = _nothing

    @property
    def cgroup(self) -> str | None:
        """The cgroup2 directory whose processes are served; None where the layer is off."""
        return self._core.config.socket_lb

    @property
    def hooks(self) -> tuple[str, ...]:
        """The calls whose programs are attached."""
        return tuple(name for name, link in self._links.items() if link.info().cgroup)

    @property
    def wanted_hooks(self) -> Mapping[str, CgroupHook]:
        """Those that stand there if nothing is wrong."""
        return ADDRESS_HOOKS | BIND_HOOKS if self._core.config.guard_ports else ADDRESS_HOOKS

    @property
    def refused_binds(self) -> tuple[RefusedBind, ...]:
        """Ports of services that processes of the node asked for, and did not get."""
        found = [] if self._claims is None else self._claims.refused()
        return tuple(sorted(found, key=str))

    @property
    def exempt(self) -> tuple[int, ...]:
        """Ids of the cgroups whose processes are left alone."""
        return () if self._object is None else tuple(sorted(self._object.maps["pcl_exempt"]))

    def __repr__(self) -> str:
        return f"<Sockets {self.cgroup or 'off'}>"

    def exclude(self, paths: Iterable[str | os.PathLike[str]]) -> Delta:
        """Leave the processes of exactly these cgroups alone, and of all below them.

        Their new connections and datagrams are translated per packet, where they come from an
        endpoint. Raises SpecError where a path is no cgroup2 directory or the layer is off.
        """
        if isinstance(paths, (str, os.PathLike)):
            raise SpecError("paths", paths, "a list of cgroup2 directories")
        wanted = {cgroup.number(cgroup.directory("paths", one)) for one in paths}
        with self._core.lock:
            self._core.require_open()
            table = self._require_loaded().maps["pcl_exempt"]
            standing = set(table)
            self._core.require_full(table, len(wanted))
            table.update((one, 1) for one in wanted - standing)
            table.remove(standing - wanted)
        return Delta(added=len(wanted - standing), removed=len(standing - wanted))

    def start(self) -> None:
        """Load, and attach to the cgroup; of a pinned datapath, pin everything."""
        if self.cgroup is None:
            return
        require_hooks(self.wanted_hooks)
        self._object = self._load({})
        self._begin().read_node()
        for name in self.wanted_hooks:
            self._attach(name)
        if self._core.pins is not None:
            _pin(self._object, self._core.pins)

    def adopt(self) -> None:
        """Open what is pinned; a program whose cgroup has come back is attached again."""
        if self.cgroup is None or self._core.pins is None:
            return
        self._object = pins.open_object(_spec(), self._core.pins, maps=(*_OWN, *_SHARED))
        self._begin()
        for name in self.wanted_hooks:
            link = _open_live(self._link_pin(name), cgroup.number(self.cgroup))
            if link is not None:
                self._links[name] = link
            else:
                with suppress(SpecError):  # the cgroup is gone: status() says so
                    self._attach(name)

    def settle(self, endpoints: Iterable[Endpoint]) -> None:
        """After a restart: exactly the node's namespace and those of these."""
        if self._namespaces is not None:
            self._namespaces.read_node()
            for one in endpoints:
                self.admit(one)
            self._namespaces.settle()

    def admit(self, endpoint: Endpoint) -> None:
        """From now on the sockets of its namespace are translated."""
        if self._namespaces is not None:
            self._namespaces.admit(endpoint.netns_cookie, endpoint.addresses)

    def dismiss(self, endpoint: Endpoint) -> None:
        """The opposite; what is open goes on."""
        if self._namespaces is not None:
            self._namespaces.dismiss(endpoint.netns_cookie, endpoint.addresses)

    def cookie_of(self, netns: NetNS | None) -> int:
        """What admit() wants of an endpoint's namespace."""
        return 0 if self.cgroup is None or netns is None else netns.cookie

    def refusals(self, services: Iterable[ServiceLB]) -> dict[ServiceLB, SpecError]:
        """The services whose port a process of the node has, each with what is wrong."""
        return {} if self._claims is None else self._claims.refusals(services)

    @contextmanager
    def claimed(self, services: Iterable[ServiceLB]) -> Iterator[None]:
        """Services that are about to come have their ports from now on, unless the block fails.

        Raises SpecError where a process of the node has one.
        """
        if self._namespaces is not None and any(map(_asks_for_node, services)):
            self._namespaces.read_node()
            self.read_node()
        if self._claims is None:
            yield
            return
        self._claims.take(services)
        try:
            yield
        except BaseException:
            self._claims.release(services)
            raise

    def release(self, services: Iterable[ServiceLB]) -> None:
        """The ports of services that have gone can be bound."""
        if self._claims is not None:
            self._claims.release(services)

    def services_found(self, services: Iterable[ServiceLB]) -> None:
        """After a restart: these stand in the kernel."""
        if self._claims is not None:
            self._claims.restore(services)

    def services_settled(self) -> None:
        """After a restart, when the services are what they should be: claims of no others."""
        if self._claims is not None:
            self._claims.settle()

    def end_parted(self, old: Sequence[ServiceLB], new: Sequence[ServiceLB]) -> None:
        """End the sockets that are connected to backends which their service no longer has."""
        if self._object is None:
            return
        if self._gone is None:
            self._gone = GoneSockets(self._object.maps["pcl_peers"], self.find_namespace)
        self._gone.end(old, new)

    def reload(self) -> None:
        """Load the programs anew and switch every hook over."""
        if self._object is None:
            return
        own = {name: self._object.maps[name] for name in _OWN}
        fresh = self._load(own)
        for name, link in self._links.items():
            link.update(fresh.programs[name])
        if self._core.pins is not None:
            pins.replace_programs(fresh, self._core.pins)
        self._object, old = fresh, self._object
        if self._namespaces is not None:
            self._namespaces.move(fresh.maps["pcl_namespaces"])
        if self._claims is not None:
            self._claims.move(fresh.maps["pcl_claims"])
        self._forget_gone()
        old.close()

    def close(self) -> None:
        """Close the descriptors: scoped, the hooks are gone; pinned, they stay."""
        for link in self._links.values():
            link.close()
        self._links.clear()
        self._forget_gone()
        self._claims = self._namespaces = None
        if self._object is not None:
            self._object.close()
            self._object = None

    def _begin(self) -> SocketNamespaces:
        assert self._object is not None
        maps, node = self._object.maps, self._core.node
        self._namespaces = SocketNamespaces(maps["pcl_namespaces"], node)
        if self._core.config.guard_ports:
            self._claims = Claims(maps["pcl_claims"], node)
        return self._namespaces

    def _forget_gone(self) -> None:
        if self._gone is not None:
            self._gone.close()
            self._gone = None

    def _require_loaded(self) -> Object:
        if self._object is None:
            raise SpecError("socket_lb", False, "a datapath that was opened with socket_lb")
        return self._object

    def _load(self, own: Mapping[str, Map]) -> Object:
        spec = _spec()
        shared = {name: self._core.maps[name] for name in _SHARED}
        sizes = {
            "pcl_namespaces": self._core.maps["pcl_endpoints"].max_entries + 1,
            "pcl_claims": self._core.maps["pcl_services"].max_entries * 2,
        }
        return spec.load(
            variables=self._core.config.variables(),
            max_entries={} if own else sizes,
            reuse={**shared, **own},
            disable_maps=spec.maps_beside((*_OWN, *_SHARED)),
        )

    def _attach(self, name: str) -> None:
        assert self._object is not None
        assert self.cgroup is not None
        link = Link.attach_cgroup(self._object.programs[name], self.cgroup, self.wanted_hooks[name])
        self._links[name] = link
        if self._core.pins is not None:
            self._link_pin(name).unlink(missing_ok=True)
            link.pin(self._link_pin(name))

    def _link_pin(self, name: str) -> Path:
        assert self._core.pins is not None
        return self._core.pins / "links" / f"socket-{name}"


def require_hooks(hooks: Mapping[str, CgroupHook]) -> None:
    """NotSupportedError, with the first call whose hook this kernel lacks."""
    for name, hook in hooks.items():
        if not features.have_cgroup_hook(hook):
            raise NotSupportedError(f"cgroup hook {name}", minimum_kernel="5.8")


def _asks_for_node(service: ServiceLB) -> bool:
    """Whether it matters which addresses the node has."""
    affinity = service.session_affinity is not SessionAffinity.NONE
    every = service.frontend.address.is_unspecified
    return bool(affinity or every or service.source_ranges)


def _nowhere(_cookie: int) -> NetNS | None:
    """Until the datapath says where its namespaces are."""
    return None


def _nothing() -> None:
    """Until the datapath says how its node is read."""


def _spec() -> ObjectSpec:
    return ObjectSpec.bundled("socket")


def _pin(loaded: Object, where: Path) -> None:
    for name in _OWN:
        loaded.maps[name].pin(where / "maps" / name)
    for name, program in loaded.programs.items():
        program.pin(where / "programs" / name)


def _open_live(path: Path, number: int) -> Link | None:
    """The pinned link, unless its cgroup has gone."""
    try:
        link = Link.from_pin(path)
    except KernelError:
        return None
    if number and link.info().cgroup == number:
        return link
    link.close()
    return None
