# SPDX-License-Identifier: Apache-2.0
"""Balancer: the XDP load balancer alone, for VIPs whose backends answer clients themselves.

Every packet of a VIP goes to one backend, in a tunnel or to its MAC, and is otherwise as the
client sent it. Nothing else of pycilium is needed: no endpoint, no identity, no policy.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Self, SupportsBytes

from pycilium.datapath import xdp_device, xdp_plan
from pycilium.datapath.core import check_sizes, require_privileges
from pycilium.datapath.xdp_device import BalancerDevice
from pycilium.datapath.xdp_rings import RingMemory
from pycilium.datapath.xdp_services import BalancerServices
from pycilium.datapath.xdp_settings import (
    BalancerOptions,
    Forward,
    HashBy,
    Mode,
    VipSettings,
    choice,
)
from pycilium.datapath.xdp_statistics import Statistics, Tally
from pycilium.datapath.xdp_status import BalancerStatus, read_status
from pycilium.datapath.xdp_tester import Action, Fixture, MismatchError, Result, Tester
from pycilium.errors import ClosedError, SpecError
from pycilium.libbpf import Map, Object, ObjectSpec
from pycilium.model import Backend, ServiceLB
from pycilium.net import NetNS, sysctl

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pycilium.datapath.xdp_device import Attached
    from pycilium.model import Frontend

__all__ = [
    "Action",
    "Balancer",
    "BalancerDevice",
    "BalancerOptions",
    "BalancerServices",
    "BalancerStatus",
    "Fixture",
    "Forward",
    "HashBy",
    "MismatchError",
    "Mode",
    "Result",
    "Statistics",
    "VipSettings",
]
_FORWARDING = {4: "net/ipv4/conf/{}/forwarding", 6: "net/ipv6/conf/{}/forwarding"}


class BalancerCore:
    """What the balancer's parts share."""

    def __init__(
        self, node: NetNS, spec: ObjectSpec, loaded: Object, options: BalancerOptions
    ) -> None:
        self.node = node
        self.spec = spec
        self.object = loaded
        self.options = options
        self.lock = threading.RLock()
        self.flags: Any = spec.enums["pcl_xdp_vip_flags"]
        self.rings = RingMemory(loaded.maps["pcl_xdp_rings"])
        self.statistics = Tally(loaded.maps["pcl_xdp_hops"])
        self.attached: list[Attached] = []
        self.closed = False

    @property
    def maps(self) -> Mapping[str, Map]:
        """Maps by name."""
        return self.object.maps

    def require_open(self) -> None:
        """ClosedError after close()."""
        if self.closed:
            raise ClosedError("balancer is closed")

    def require_forwarding(self, families: set[int]) -> None:
        """The routing table answers XDP only for devices that forward."""
        if self.options.gateway is not None:
            return
        for one in self.attached:
            for family in sorted(families):
                name = _FORWARDING[family].format(one.device.name)
                if sysctl.read(name, ns=self.node).strip() == "0":
                    allowed = "1 (the way to a backend is a route), or a gateway in the options"
                    raise SpecError(name, 0, allowed)


class Balancer:
    """Made by open(), or by Datapath.open(programs="xdp"). Everything goes with close()."""

    def __init__(self, core: BalancerCore) -> None:
        self._core = core
        self.services = BalancerServices(core)
        self._tester: Tester | None = None

    @classmethod
    def open(
        cls,
        *,
        devices: Iterable[str],
        mode: Mode | str = Mode.AUTO,
        sizes: Mapping[str, int] | None = None,
        options: BalancerOptions | None = None,
    ) -> Balancer:
        """Load the program and put it on the devices, which pass everything until apply().

        sizes: entries by map name. Linux >= 6.1.
        Raises SpecError, PermissionDeniedError, NotSupportedError where a device cannot have
        the mode, ConflictError where it has another program, VerifierError and KernelError.
        """
        wanted, chosen = choice(Mode, "mode", mode), options or BalancerOptions()
        spec = ObjectSpec.bundled("xdp")
        checked = _check_sizes(spec, sizes)
        require_privileges("balancer")
        node = NetNS.current()
        try:
            found = xdp_device.find(node, devices)
            loaded = spec.load(variables=chosen.variables(), max_entries=checked)
        except BaseException:
            node.close()
            raise
        balancer = cls(BalancerCore(node, spec, loaded, chosen))
        try:
            for info in found:
                one = xdp_device.attach(node, loaded.programs["balance"], info, wanted)
                balancer._core.attached.append(one)
        except BaseException:
            balancer.close()
            raise
        return balancer

    @property
    def object(self) -> Object:
        """The loaded program and maps, still owned by this balancer."""
        return self._core.object

    def set_weight(
        self, service: ServiceLB | Frontend | str, backend: Backend | str, weight: int
    ) -> None:
        """A backend's share of new flows, beside the others' (1 from the start).

        weight: 0 to 65,535; 0 drains: its flows stay, new ones go elsewhere. Raises SpecError.
        """
        one = backend if isinstance(backend, Backend) else Backend.parse(backend)
        with self._core.lock:
            self._core.require_open()
            vip = self.services.find(service)
            if str(one) not in vip.members:
                allowed = f"one of {', '.join(vip.members)}"
                raise SpecError(f"backend of {vip.frontend}", str(one), allowed)
            if isinstance(weight, bool) or not isinstance(weight, int) or not 0 <= weight < 1 << 16:
                raise SpecError(f"weight of {one}", weight, "a whole number from 0 to 65535")
            self.services.commit(*xdp_plan.reweigh(self.services.state, vip, str(one), weight))

    def statistics(self) -> Statistics:
        """Packets and bytes by VIP and backend, since each was applied."""
        with self._core.lock:
            self._core.require_open()
            return self._core.statistics.read(list(self.services.state.vips.values()))

    def status(self) -> BalancerStatus:
        """Devices with their mode, how full the maps are, and packets by reason."""
        with self._core.lock:
            self._core.require_open()
            return read_status(self._core, self.services.state)

    def test(self, fixtures: Iterable[Fixture | SupportsBytes], *, repeat: int = 1) -> list[Result]:
        """What the program does with packets now, one after another; flows are remembered.

        repeat: how often each is run to be timed; 1: once, with the cost of the call.
        """
        with self._core.lock:
            self._core.require_open()
            if self._tester is None:
                self._tester = Tester(self._core)
            return [self._tester.run(one, repeat) for one in fixtures]

    def close(self) -> None:
        """Take the program off its devices and free everything."""
        with self._core.lock:
            if self._core.closed:
                return
            self._core.closed = True
            if self._tester is not None:
                self._tester.close()
            for one in self._core.attached:
                one.link.close()
            self._core.rings.close()
            self._core.object.close()
            self._core.node.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        where = ", ".join(f"{one.device.name} {one.device.mode.value}" for one in self._attached)
        return f"<Balancer on {where}: {len(self.services)} services>"

    @property
    def _attached(self) -> list[Attached]:
        return self._core.attached


def _check_sizes(spec: ObjectSpec, sizes: Mapping[str, int] | None) -> dict[str, int]:
    """Hops have the backends' numbers."""
    checked = check_sizes(spec, sizes)
    if "pcl_xdp_backends" in checked:
        checked.setdefault("pcl_xdp_hops", checked["pcl_xdp_backends"])
    return checked
