# SPDX-License-Identifier: Apache-2.0
"""Datapath: the loaded programs, their maps and the endpoints of one node."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Self

import attrs

from pycilium.datapath import manifest, status
from pycilium.datapath.config import Config, Events
from pycilium.datapath.context import Context
from pycilium.datapath.endpoints import Endpoint, Endpoints
from pycilium.datapath.explain import Explainer, Explanation
from pycilium.datapath.flows import EventCounts, Flows
from pycilium.datapath.hooks import PROGRAMS
from pycilium.datapath.identities import Identities
from pycilium.datapath.packets import Probe
from pycilium.datapath.policies import Policies
from pycilium.datapath.registry import RuleRegistry, SlotTable
from pycilium.datapath.services import Services
from pycilium.errors import ClosedError, ConflictError, SpecError
from pycilium.libbpf import Hook, Map, Object, ObjectSpec, Program, features
from pycilium.libbpf.explain import kernel_error
from pycilium.model import Flow
from pycilium.model.policy import PROTOCOLS
from pycilium.net import NetNS

OBJECT = "endpoint"


class Datapath:
    """Identity-based policy and services for the endpoints of one node.

    Made by open() or adopt(). Scoped, it dies with its `with`; pinned, it survives the process
    and adopt() takes it over.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._closed = False
        context.record = self._record
        self.identities = Identities(context)
        self.policies = Policies(context, self.identities)
        self.endpoints = Endpoints(context, self.identities, self.policies)
        self.services = Services(context)
        self._flows = Flows(context, self.endpoints, self.services)
        self._explainer = Explainer(context, self.endpoints, self.services)

    @classmethod
    def open(
        cls,
        *,
        pin: str | None = None,
        bpffs: str | os.PathLike[str] = "/sys/fs/bpf",
        sizes: Mapping[str, int] | None = None,
        events: Events | str = Events.VERDICTS,
        allow_host: bool = True,
        ipv4: bool = True,
        ipv6: bool = True,
        services: bool = True,
    ) -> Datapath:
        """Load the programs for the network namespace of the calling thread.

        pin: a name under which it survives this process, on the BPF file system at `bpffs`.
        sizes: entries of maps by name. Linux >= 6.1; TCX from 6.6.
        Raises SpecError, ConflictError, PermissionDeniedError, NotSupportedError, KernelError.
        """
        config = Config(
            sizes=sizes, events=events, allow_host=allow_host, ipv4=ipv4, ipv6=ipv6, services=services
        )
        directory = None if pin is None else _new_pin(Path(bpffs), pin)
        with ExitStack() as undo:
            if directory is not None:
                undo.callback(_remove_tree, directory)
            context = _load(config, directory)
            datapath = cls(context)
            undo.callback(datapath.close)
            if directory is not None:
                _pin_object(context.object, directory)
                datapath._record()
            datapath.identities.refresh_host()
            undo.pop_all()
        return datapath

    @classmethod
    def adopt(cls, name: str, *, bpffs: str | os.PathLike[str] = "/sys/fs/bpf") -> Datapath:
        """Take over a pinned datapath whose process has gone.

        Reads the kernel first; what it holds goes on, and only what differs from the manifest
        is written. Raises SpecError where there is none.
        """
        directory = Path(bpffs) / "pycilium" / name
        if not (directory / "maps" / "pcl_manifest").exists():
            raise SpecError("pin", name, f"a pinned datapath below {directory.parent}")
        spec = ObjectSpec.bundled(OBJECT)
        obj = _open_pins(spec, directory)
        held = manifest.read(obj.maps["pcl_manifest"])
        config = Config(**{**held["config"], "sizes": dict(held["config"]["sizes"])})
        context = Context(
            spec=spec, object=obj, node=NetNS.current(), config=config, pin=directory,
            slots=SlotTable(obj.maps["pcl_policies"].max_entries),
            rules=RuleRegistry((int(n), ref) for n, ref in held["rules"]),
        )  # fmt: skip
        datapath = cls(context)
        datapath._restore(held)
        return datapath

    @property
    def object(self) -> Object:
        """The loaded object: programs and maps."""
        return self._context.object

    @property
    def node(self) -> NetNS:
        """The namespace that it was opened in."""
        return self._context.node

    def explain(self, source: Any, destination: Any, port: str | None = None) -> Explanation:
        """Ask the loaded program about a new connection, without sending a packet.

        source: an endpoint, its name, or an address outside. destination: an endpoint with a
        port ("80/tcp", "icmp") beside it, or "10.96.0.10:80/tcp". Raises SpecError.
        """
        self._check_open()
        with self._context.lock:
            return self._explainer.explain(source, destination, port)

    def flows(self, timeout: float | None = 0.0) -> Iterator[Flow]:
        """Verdicts and drops as they happen; ends after `timeout` seconds without one."""
        self._check_open()
        return self._flows.read(timeout)

    def event_counts(self) -> EventCounts:
        """How many events there were, and how many the ring could not take."""
        return self._flows.counts()

    def counters(self) -> dict[str, tuple[int, int]]:
        """Packets and bytes by reason, since it was opened."""
        return status.counters(self._context)

    def status(self) -> status.Status:
        """Hooks, maps, drops, and what this kernel lacks."""
        self._check_open()
        return status.snapshot(
            self._context, endpoints=len(self.endpoints), services=len(self.services)
        )

    def measure(self, source: Endpoint, destination: str, *, repeat: int = 100_000) -> float:
        """CPU nanoseconds of an established packet from an endpoint to an outside address.

        The packet is not changed on that path, so that it can be repeated as it is.
        """
        address, _, rest = destination.rpartition(":")
        port, _, protocol = rest.partition("/")
        probe = Probe(
            source=source.ip, destination=ip_address(address), source_mac=source.mac,
            destination_mac=source.value.host_mac, protocol=PROTOCOLS[protocol or "tcp"],
            destination_port=int(port),
        )  # fmt: skip
        program = self.object.programs[PROGRAMS[Hook.RX]]
        opening, packet = probe.build(), attrs.evolve(probe, tcp_flags=0x10).build()
        ctx = {"ifindex": source.ifindex}
        self.node.run(lambda: program.test_run(opening, ctx=ctx))
        run = self.node.run(lambda: program.test_run(packet, ctx=ctx, repeat=repeat))
        return run.nanoseconds

    def reload(self) -> None:
        """Load the programs anew and put them in place of the old, without a packet between."""
        with self._context.lock:
            context = self._context
            old = context.object
            shared = {name: one for name, one in old.maps.items() if not name.endswith(".rodata")}
            fresh = context.spec.load(
                variables=context.config.variables(context.spec),
                max_entries={name: one.max_entries for name, one in shared.items()},
                reuse=shared,
            )
            for endpoint in self.endpoints:
                endpoint.hooks.update(fresh, context.node)
            if context.pin is not None:
                _pin_programs(fresh, context.pin)
            context.object = fresh
            self._explainer.reset()
            old.close()

    def close(self) -> None:
        """Scoped: everything goes. Pinned: this process lets go, the kernel goes on."""
        if self._closed:
            return
        self._closed = True
        self._explainer.reset()
        self.endpoints.close()
        self._flows.close()
        self._context.object.close()
        self._context.node.close()

    def destroy(self) -> None:
        """Remove a pinned datapath from the kernel, endpoints and all."""
        pin = self._context.pin
        for endpoint in self.endpoints:
            endpoint.remove()
        self.close()
        if pin is not None:
            _remove_tree(pin)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self.endpoints)} endpoints"
        return f"<Datapath {self._context.pin.name if self._context.pin else 'scoped'}: {state}>"

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the datapath is closed")

    def _record(self) -> None:
        context = self._context
        if context.pin is None:
            return
        manifest.write(
            context.map("pcl_manifest"),
            {
                "config": {**attrs.asdict(context.config), "events": context.config.events.value},
                "rules": context.rules.items(),
                "policies": context.policies,
                "services": self.services.table.services,
                "endpoints": [
                    {
                        "value": endpoint.value,
                        "slot": context.slots.find(endpoint.labels),
                        "netns": endpoint.netns_name,
                        "made": endpoint.made,
                    }
                    for endpoint in self.endpoints
                ],
            },
        )

    def _restore(self, held: Mapping[str, Any]) -> None:
        self._context.policies = held["policies"]
        for one in held["endpoints"]:
            self.endpoints.adopt(one["value"], one["slot"], one["netns"], made=one["made"])
        self.policies.restore()
        self.policies.verify()
        self.identities.refresh_host()
        self.services.restore(held["services"])


def _load(config: Config, pin: Path | None) -> Context:
    if not features.have_bpf() or not features.have_net_admin():
        raise kernel_error(1, "open datapath")
    spec = ObjectSpec.bundled(OBJECT)
    loaded = spec.load(
        variables=config.variables(spec),
        max_entries=config.max_entries(),
        disable_maps=() if pin is not None else ("pcl_manifest",),
    )
    slots = SlotTable(loaded.maps["pcl_policies"].max_entries)
    return Context(
        spec=spec, object=loaded, node=NetNS.current(), config=config, pin=pin, slots=slots
    )


def _new_pin(bpffs: Path, name: str) -> Path:
    if not name or "/" in name or name.startswith("."):
        raise SpecError("pin", name, "a file name")
    if not features.have_bpffs(str(bpffs)):
        raise kernel_error(22, "pin", str(bpffs))
    directory = bpffs / "pycilium" / name
    if directory.exists():
        raise ConflictError(
            f"a datapath is pinned as {name} already: take it over with Datapath.adopt({name!r})"
        )
    for part in ("maps", "programs", "links"):
        (directory / part).mkdir(mode=0o700, parents=True)
    directory.chmod(0o700)
    return directory


def _pin_object(obj: Object, directory: Path) -> None:
    for name, one in obj.maps.items():
        if not name.endswith(".rodata"):
            one.pin(directory / "maps" / name)
    _pin_programs(obj, directory)


def _pin_programs(obj: Object, directory: Path) -> None:
    for name, program in obj.programs.items():
        path = directory / "programs" / name
        path.unlink(missing_ok=True)
        program.pin(path)


def _open_pins(spec: ObjectSpec, directory: Path) -> Object:
    maps = {
        path.name: Map.from_pin(path, like=spec.maps[path.name])
        for path in sorted((directory / "maps").iterdir())
        if path.name in spec.maps
    }
    programs = {p.name: Program.from_pin(p) for p in sorted((directory / "programs").iterdir())}
    return Object(spec.name, maps, programs)


def _remove_tree(directory: Path) -> None:
    """bpffs has no rmtree of files that are links: unlink, then rmdir."""
    for part in ("links", "programs", "maps"):
        if (directory / part).is_dir():
            for path in (directory / part).iterdir():
                path.unlink()
            (directory / part).rmdir()
    if directory.is_dir():
        directory.rmdir()
