# SPDX-License-Identifier: Apache-2.0
"""Datapath: the programs, tables and attachments of one node, and the five nouns over them."""

from __future__ import annotations

import platform
import warnings
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from pycilium.datapath import cgroup, pins, status
from pycilium.datapath.config import NAT_PORTS, Config, EventLevel, HookKind
from pycilium.datapath.core import SET_MAP, Core, check_sizes, require_privileges
from pycilium.datapath.endpoints import Endpoints
from pycilium.datapath.explain import Explainer
from pycilium.datapath.flows import Flows
from pycilium.datapath.identities import Identities
from pycilium.datapath.node_devices import NodeDevices
from pycilium.datapath.node_devices import check as check_devices
from pycilium.datapath.policies import Policies
from pycilium.datapath.restore import manifest_of, restore
from pycilium.datapath.rules import Rules
from pycilium.datapath.services import Services
from pycilium.datapath.sockets import Sockets
from pycilium.datapath.twin import reload_programs
from pycilium.errors import SpecError
from pycilium.lb.maglev import check_size
from pycilium.libbpf import Object, ObjectSpec
from pycilium.model import LabelFilter
from pycilium.net import NetNS

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping

    from pycilium.datapath.endpoint import Endpoint
    from pycilium.datapath.explanation import Explanation
    from pycilium.datapath.flows import LostFlows
    from pycilium.datapath.xdp import Balancer
    from pycilium.datapath.xdp_settings import BalancerOptions, Mode
    from pycilium.model import Flow

_BPFFS = "/sys/fs/bpf"


class Datapath:
    """Made by open() or adopt(). Scoped, everything goes with close(); pinned, it stays.

    Works in the network namespace where it was opened, whichever thread calls.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._rules = Rules()
        self.identities = Identities(core)
        self.policies = Policies(core, self.identities, self._rules)
        self.sockets = Sockets(core)
        self.endpoints = Endpoints(core, self.identities, self.policies, self.sockets)
        self.services = Services(core, self.sockets)
        self.devices = NodeDevices(core)
        self.identities.node_changed = self.devices.node_changed
        self.sockets.read_node = self.policies.read_node
        self.sockets.find_namespace = self._namespace
        self._flows = Flows(
            core, self.endpoints, self.identities, self._rules, self.services, self.policies
        )
        parts = (self.endpoints, self.identities, self.policies, self._rules, self.devices)
        self._explainer = Explainer(core, *parts)
        core.describe = lambda: manifest_of(self, core)

    @overload
    @classmethod
    def open(
        cls,
        *,
        programs: Literal["endpoint"] = "endpoint",
        pin: str | None = None,
        bpffs: str | os.PathLike[str] = _BPFFS,
        sizes: Mapping[str, int] | None = None,
        events: EventLevel | str = EventLevel.VERDICTS,
        allow_host: bool = True,
        cidr_matches_pods: bool = True,
        label_filter: LabelFilter | str | Iterable[str] = (),
        ipv4: bool = True,
        ipv6: bool = True,
        services: bool = True,
        node_name: str | None = None,
        zone: str = "",
        socket_lb: bool | str | os.PathLike[str] = False,
        guard_ports: bool = True,
        devices: Iterable[str] = (),
        masquerade: bool = False,
        masquerade_exclude: Iterable[str] = (),
        nat_ports: tuple[int, int] = NAT_PORTS,
        maglev_size: int = 1021,
        hooks: HookKind | str | None = None,
    ) -> Datapath: ...

    @overload
    @classmethod
    def open(
        cls,
        *,
        programs: Literal["xdp"],
        devices: Iterable[str],
        mode: Mode | str = "auto",
        sizes: Mapping[str, int] | None = None,
        balancer: BalancerOptions | None = None,
    ) -> Balancer: ...

    @classmethod
    def open(
        cls,
        *,
        programs: str = "endpoint",
        devices: Iterable[str] = (),
        mode: Mode | str = "auto",
        balancer: BalancerOptions | None = None,
        pin: str | None = None,
        bpffs: str | os.PathLike[str] = _BPFFS,
        sizes: Mapping[str, int] | None = None,
        events: EventLevel | str = EventLevel.VERDICTS,
        allow_host: bool = True,
        cidr_matches_pods: bool = True,
        label_filter: LabelFilter | str | Iterable[str] = (),
        ipv4: bool = True,
        ipv6: bool = True,
        services: bool = True,
        node_name: str | None = None,
        zone: str = "",
        socket_lb: bool | str | os.PathLike[str] = False,
        guard_ports: bool = True,
        masquerade: bool = False,
        masquerade_exclude: Iterable[str] = (),
        nat_ports: tuple[int, int] = NAT_PORTS,
        maglev_size: int = 1021,
        hooks: HookKind | str | None = None,
    ) -> Datapath | Balancer:
        """Load the programs; without `devices` nothing is attached until there are endpoints.

        programs: "xdp" is the load balancer alone, on `devices`: see Balancer.open().
        pin: a name under which everything survives this process, on the BPF file system
        `bpffs`. sizes: entries by map name, "pcl_policy_set" for one policy set. allow_host:
        the node may reach its endpoints unless a rule denies it. cidr_matches_pods: prefixes in
        rules also mean endpoints and nodes, as in Kubernetes; else only the world, as in Cilium.
        label_filter: which labels make an identity; PolicySet.label_effect() tries one out.
        node_name, zone: where this is, for backends that name theirs; None: the host's name.
        socket_lb: translate services at the sockets of the node and its endpoints, for the
        processes of a cgroup2 directory; True: of all. Packets of what it does not reach are
        translated as without it. guard_ports: with it, processes of the node cannot bind a port
        of a service that the node serves, nor can a service have a port that a process has.
        devices: of the node, that face other nodes and the world: there clients outside reach
        NodePort, ExternalIP, LoadBalancer and HostPort services. masquerade: what endpoints
        send out by them, but to the prefixes `masquerade_exclude`, leaves under the device's
        first address. nat_ports: first and last port that stand for others there; none that the
        node's own connections have. maglev_size: slots of a service's Maglev table, a prime.
        hooks: "tcx" (None, where the kernel has it) or "clsact", which an endpoint is attached to
        in a tenth of the time.
        Linux >= 6.1.
        Raises SpecError, PermissionDeniedError, NotSupportedError, ConflictError where the
        name is pinned already, VerifierError and KernelError.
        """
        if programs != "endpoint" or balancer is not None:
            _require_xdp(programs, balancer)
            from pycilium.datapath.xdp import Balancer

            return Balancer.open(devices=devices, mode=mode, sizes=sizes, options=balancer)
        config = Config(
            events=EventLevel.of(events),
            allow_host=allow_host,
            cidr_matches_pods=cidr_matches_pods,
            label_filter=(
                label_filter if isinstance(label_filter, LabelFilter) else LabelFilter(label_filter)
            ),
            ipv4=ipv4,
            ipv6=ipv6,
            services=services,
            node_name=platform.node() if node_name is None else node_name,
            zone=zone,
            socket_lb=cgroup.choose(socket_lb),
            guard_ports=guard_ports,
            maglev_size=_prime(maglev_size),
            **check_devices(devices, masquerade, masquerade_exclude, nat_ports),
            hooks=HookKind.of(hooks),
        )
        if config.socket_lb and not services:
            raise SpecError("socket_lb", socket_lb, "False where services=False")
        spec = ObjectSpec.bundled("endpoint")
        checked = check_sizes(spec, sizes)
        where = None if pin is None else pins.directory(pin, bpffs)
        require_privileges("datapath")
        loaded = spec.load(
            variables=config.variables(),
            max_entries={name: size for name, size in checked.items() if name != SET_MAP},
            disable_maps=() if where else ("pcl_manifest",),
            disable_programs=config.left_out,
        )
        return cls._start(spec, loaded, config, where, checked)

    @classmethod
    def adopt(cls, name: str, *, bpffs: str | os.PathLike[str] = _BPFFS) -> Datapath:
        """Take over what open(pin=name) left in the kernel, by whatever end it came.

        Reads back first, deletes only what is proved to be stale, and writes only what
        differs. Raises SpecError where nothing is pinned, ConflictError where it is another
        version's.
        """
        spec = ObjectSpec.bundled("endpoint")
        where = pins.directory(name, bpffs)
        require_privileges("datapath")
        loaded = pins.open_object(spec, where)
        with ExitStack() as undo:
            undo.callback(loaded.close)
            node = NetNS.current()
            undo.callback(node.close)
            core = Core(node=node, spec=spec, loaded=loaded, config=Config(), pins=where, sizes={})
            content = core.manifest.read()
            core.config = Config.from_dict(content["config"])
            core.sizes = content["sizes"]
            datapath = cls(core)
            undo.callback(core.mark_closed)
            undo.callback(datapath.sockets.close)
            datapath.sockets.adopt()
            restore(datapath, core, content)
            undo.pop_all()
        return datapath

    @classmethod
    def _start(
        cls,
        spec: ObjectSpec,
        loaded: Object,
        config: Config,
        where: Any,
        sizes: dict[str, int],
    ) -> Datapath:
        with ExitStack() as undo:
            undo.callback(loaded.close)
            node = NetNS.current()
            undo.callback(node.close)
            if where is not None:
                pins.create(where)
                undo.callback(pins.remove, where)
            core = Core(node=node, spec=spec, loaded=loaded, config=config, pins=where, sizes=sizes)
            datapath = cls(core)
            undo.callback(core.mark_closed)
            undo.callback(datapath.sockets.close)
            datapath.policies.read_node()
            undo.callback(datapath.devices.remove)
            datapath.devices.start()
            datapath.sockets.start()
            if where is not None:
                core.save()
                pins.pin(loaded, where)
            undo.pop_all()
        return datapath

    @property
    def name(self) -> str:
        """The name it is pinned under, or "scoped"."""
        return self._core.name

    @property
    def node(self) -> NetNS:
        """The namespace where it was opened."""
        return self._core.node

    def flows(
        self, *, timeout: float | None = None, follow: bool = False
    ) -> Iterator[Flow | LostFlows]:
        """Verdicts and drops as they happen, and LostFlows where the ring was full.

        timeout: seconds after which the iteration ends, with `follow` seconds without a flow;
        None: never. 0 takes what is there.
        """
        self._core.require_open()
        return self._flows.stream(timeout, follow=follow)

    def explain(self, source: Any, destination: Any, port: str | int | None = None) -> Explanation:
        """What the kernel would do with a new connection, step by step, and by which rule.

        source: an endpoint or its name, an address, or "host"; an address outside also reaches
        what the node's devices serve. destination: an endpoint, a
        pair of endpoint and port, or text such as "10.96.0.10:80/tcp". port: "80/tcp",
        "53/udp", "icmp" or a TCP port. Raises SpecError. Nothing live is changed.
        """
        with self._core.lock:
            self._core.require_open()
            return self._explainer.explain(source, destination, port)

    def measure(
        self, source: Any, destination: Any, port: str | int | None = None, *, repeat: int = 10_000
    ) -> float:
        """Nanoseconds that one packet of an established connection costs in the program.

        The arguments are those of explain(); the destination must be one that goes to the
        host's stack: each pass to an endpoint takes a hop from the packet.
        """
        with self._core.lock:
            self._core.require_open()
            return self._explainer.measure(source, destination, port, repeat)

    def reload(self) -> None:
        """Load the programs anew and switch every hook over, without a packet between."""
        with self._core.lock:
            self._core.require_open()
            fresh = reload_programs(self._core)
            for endpoint in self.endpoints:
                endpoint.replace_programs(self._core.node, fresh)
            self.devices.replace_programs(fresh)
            self.sockets.reload()
            if self._core.pins is not None:
                pins.replace_programs(fresh, self._core.pins)
            old = self._core.replace(fresh)
            self._explainer.close()
            old.close()

    def counters(self) -> dict[str, status.Counter]:
        """Packets and bytes by the names of enum pcl_reason; what never happened is absent."""
        self._core.require_open()
        return status.read_counters(self._core)

    def status(self) -> status.Status:
        """Hooks, kernel features, how full the maps are, counters."""
        self._core.require_open()
        return status.Status(
            name=self.name,
            hooks=self._core.config.hooks.value,
            endpoints=len(self.endpoints),
            identities=len(self.identities),
            policies=len(self.policies),
            services=len(self.services),
            maps=status.read_fill(self._core, len(self.policies.sets)),
            counters=self.counters(),
            events=self._flows.counts(),
            features=status.read_features(),
            sockets=status.read_sockets(self.sockets),
            devices=status.read_devices(self.devices, self._core),
            refused_binds=self.sockets.refused_binds,
        )

    @property
    def object(self) -> Object:
        """The loaded programs and maps."""
        return self._core.object

    def close(self) -> None:
        """Scoped: take everything down. Pinned: let go of it, the kernel goes on."""
        with self._core.lock:
            if not self._core.mark_closed():
                return
            if self._core.pins:
                self.devices.let_go()
            end = self.endpoints.let_go if self._core.pins else self.endpoints.dismantle
            self._finish(end)

    def destroy(self) -> None:
        """Take everything down, pinned or not; what was not created here only loses its hooks."""
        with self._core.lock:
            if self._core.mark_closed():
                self._finish(self.endpoints.dismantle)
            if self._core.pins is not None:
                pins.remove(self._core.pins)

    def _finish(self, end: Any) -> None:
        for endpoint in self.endpoints:
            _end_one(end, endpoint)
        self.devices.remove()
        self._flows.close()
        self._explainer.close()
        self.sockets.close()
        self._core.object.close()
        self._core.node.close()

    def _namespace(self, cookie: int) -> NetNS | None:
        """By its cookie, among the node's and those of endpoints that this process holds."""
        if cookie == self._core.node.cookie:
            return self._core.node
        held = (one.netns for one in self.endpoints if one.netns_cookie == cookie)
        return next((one for one in held if one is not None), None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        state = " closed" if self._core.closed else ""
        return f"<Datapath {self.name}: {len(self.endpoints)} endpoints{state}>"

    def __del__(self) -> None:
        core = getattr(self, "_core", None)
        if core is not None and not core.closed:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2)
            self.close()


def _end_one(end: Any, endpoint: Endpoint) -> None:
    """One endpoint that cannot be taken down does not keep the others up."""
    try:
        end(endpoint)
    except OSError as error:
        message = f"{endpoint!r} is not fully taken down: {error}"
        warnings.warn(message, RuntimeWarning, stacklevel=4)


def _require_xdp(programs: str, balancer: Any) -> None:
    if programs not in ("endpoint", "xdp"):
        raise SpecError("programs", programs, "one of endpoint, xdp")
    if programs == "endpoint":
        raise SpecError("balancer", balancer, 'none, or programs="xdp"')


def _prime(size: int) -> int:
    check_size(size)
    return size
