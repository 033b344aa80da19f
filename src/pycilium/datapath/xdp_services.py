# SPDX-License-Identifier: Apache-2.0
"""The balancer's services: the whole desired state in, rows, rings and entries out.

Written in an order that never lies: rows of new backends, the rings that name them, then the
VIPs, then what is gone. A removed backend gets no packet after apply() has returned.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from pycilium.datapath import render, xdp_plan
from pycilium.datapath.core import write_pairs
from pycilium.datapath.wire import addr, be16
from pycilium.datapath.xdp_settings import HashBy, VipSettings
from pycilium.errors import MapFullError, SpecError
from pycilium.model import Change, Delta, Frontend, ServiceLB, SessionAffinity, TrafficPolicy

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pycilium.datapath.xdp import BalancerCore
    from pycilium.datapath.xdp_plan import Changes, Member, State, Vip

_PLAIN, _AFFINE = VipSettings(), VipSettings(hash_by=HashBy.SOURCE)
_ANY_PORT = {6: "PCL_XDP_VIP_ANY_TCP", 17: "PCL_XDP_VIP_ANY_UDP", 132: "PCL_XDP_VIP_ANY_SCTP"}


class BalancerServices:
    """Iterable over what was applied; `apply` and `plan` take the full desired state."""

    def __init__(self, core: BalancerCore) -> None:
        self._core = core
        self.state = xdp_plan.State(
            xdp_plan.Runs("pcl_xdp_rings", core.maps["pcl_xdp_rings"].max_entries),
            xdp_plan.Runs("pcl_xdp_backends", core.maps["pcl_xdp_backends"].max_entries),
        )

    def __iter__(self) -> Iterator[ServiceLB]:
        return iter([vip.service for vip in self.state.vips.values()])

    def __len__(self) -> int:
        return len(self.state.vips)

    def __repr__(self) -> str:
        return f"<BalancerServices {', '.join(map(str, self.state.vips))}>"

    def plan(
        self,
        desired: ServiceLB | Iterable[ServiceLB],
        *,
        settings: Mapping[Frontend | str, VipSettings] | None = None,
    ) -> Delta:
        """What apply() would change, with the map entries; touches nothing."""
        with self._core.lock:
            return self._delta(*self._prepare(desired, settings))

    def apply(
        self,
        desired: ServiceLB | Iterable[ServiceLB],
        *,
        settings: Mapping[Frontend | str, VipSettings] | None = None,
    ) -> Delta:
        """Make these the VIPs in force, all others gone; a second call writes nothing.

        settings: by frontend; the others are as VipSettings() says. A frontend made with port 0
        takes every port. Weights that were set stay. Raises SpecError and MapFullError before
        anything has changed.
        """
        with self._core.lock:
            state, changes = self._prepare(desired, settings)
            delta = self._delta(state, changes)
            self.commit(state, changes)
            return delta

    def find(self, service: ServiceLB | Frontend | str) -> Vip:
        """The VIP in force; SpecError where there is none."""
        frontend = service.frontend if isinstance(service, ServiceLB) else _frontend(service)
        if frontend not in self.state.vips:
            allowed = ", ".join(map(str, self.state.vips)) or "a service that was applied"
            raise SpecError("service", str(frontend), allowed)
        return self.state.vips[frontend]

    def commit(self, state: State, changes: Changes) -> None:
        """Write what differs, then believe it."""
        self._core.statistics.forget(changes)
        self._write_rows([(one, True) for one in changes.rows])
        for vip in changes.rings:
            ring, members = vip.ring()
            self._core.rings.write(vip.first, ring, members)
        entries, stale = self._entries(self.state, state, changes)
        write_pairs(self._core.maps["pcl_xdp_vips"], entries)
        self._core.maps["pcl_xdp_vips"].remove(stale)
        self._write_rows([(one, False) for one in changes.gone])
        self._core.statistics.adopt(changes)
        self.state = state

    def _prepare(
        self,
        desired: ServiceLB | Iterable[ServiceLB],
        settings: Mapping[Frontend | str, VipSettings] | None,
    ) -> tuple[State, Changes]:
        self._core.require_open()
        wanted = _checked(desired)
        chosen = _settings(wanted, settings or {})
        self._core.require_forwarding({one.frontend.address.version for one in wanted})
        state, changes = xdp_plan.plan(self.state, wanted, chosen)
        self._require_room(state)
        return state, changes

    def _require_room(self, state: State) -> None:
        table = self._core.maps["pcl_xdp_vips"]
        needed = len(state.vips) + len({one.address for one in state.vips})
        used = len(self.state.vips) + len({one.address for one in self.state.vips})
        if needed > table.max_entries:
            raise MapFullError(table.name, needed=needed - used, used=used, size=table.max_entries)

    def _write_rows(self, rows: list[tuple[tuple[Vip, Member], bool]]) -> None:
        """A row that goes keeps all but its generation: packets under way read it whole."""
        spec = self._core.spec.maps["pcl_xdp_backends"]
        assert spec.key is not None
        assert spec.value is not None
        pairs = {}
        for (vip, member), stays in rows:
            generation = member.generation
            if not stays:
                generation = generation % 0xFFFFFFFF + 1
            pairs[spec.key.encode(member.index)] = spec.value.encode(
                self._row(vip, member, generation)
            )
        write_pairs(self._core.maps["pcl_xdp_backends"], pairs)

    def _row(self, vip: Vip, member: Member, generation: int) -> dict[str, Any]:
        return {
            "addr": addr(member.backend.address),
            "generation": generation,
            "vip": vip.number,
            "family": member.backend.address.version,
            "flags": vip.settings.flags(self._core.flags),
        }

    def _entries(
        self, old: State, new: State, changes: Changes
    ) -> tuple[dict[bytes, bytes], list[bytes]]:
        """VIPs and what is known of their addresses, to write and to delete."""
        before, after = _addresses(old), _addresses(new)
        pairs = [(_key(vip.frontend), self._vip(vip)) for vip in changes.vips]
        pairs += [
            (_address_key(address), {"flags": self._address_flags(protocols)})
            for address, protocols in after.items()
            if before.get(address) != protocols
        ]
        spec = self._core.spec.maps["pcl_xdp_vips"]
        assert spec.key is not None
        assert spec.value is not None
        stale = [_key(vip.frontend) for vip in changes.removed]
        stale += [_address_key(address) for address in before if address not in after]
        return (
            {spec.key.encode(key): spec.value.encode(value) for key, value in pairs},
            [spec.key.encode(key) for key in stale],
        )

    def _vip(self, vip: Vip) -> dict[str, int]:
        return {
            "id": vip.number,
            "flags": vip.settings.flags(self._core.flags),
            "first": vip.first,
            "size": vip.settings.ring if vip.is_active else 0,
        }

    def _address_flags(self, protocols: frozenset[int]) -> int:
        names = self._core.flags
        flags = sum(getattr(names, _ANY_PORT[one]) for one in protocols)
        passing = self._core.options.unknown_ports == "pass"
        return int(flags) | (names.PCL_XDP_VIP_PASS_UNKNOWN if passing else 0)

    def _delta(self, state: State, changes: Changes) -> Delta:
        before = self.state
        return Delta(
            added=changes.added,
            changed=changes.changed,
            removed=len(changes.removed),
            entries=cache(lambda: tuple(self._texts(before, state, changes))),
        )

    def _texts(self, old: State, new: State, changes: Changes) -> Iterator[Change]:
        for vip, member in changes.rows:
            value = f"{member.backend} of {vip.frontend}, generation {member.generation}"
            yield Change("pcl_xdp_backends", str(member.index), value)
        for vip in changes.rings:
            last = vip.first + vip.settings.ring - 1
            yield Change("pcl_xdp_rings", f"{vip.first}..{last}", f"the table of {vip.frontend}")
        entries, stale = self._entries(old, new, changes)
        spec = self._core.spec.maps["pcl_xdp_vips"]
        yield from render.changes(spec, "pcl_xdp_vips", dict.fromkeys(stale, b""), entries)
        for _, member in changes.gone:
            yield Change("pcl_xdp_backends", str(member.index), f"{member.backend} is void")


def _checked(desired: Any) -> tuple[ServiceLB, ...]:
    several = [desired] if isinstance(desired, ServiceLB) else desired
    if not isinstance(several, (list, tuple)):
        raise SpecError("services", desired, "a ServiceLB or a list of them")
    for one in several:
        if not isinstance(one, ServiceLB):
            raise SpecError("services", one, "a ServiceLB")
        _require_plain(one)
    return tuple(several)


def _require_plain(service: ServiceLB) -> None:
    """What the balancer would not do is refused, never left out in silence."""
    if service.source_ranges:
        ranges = ", ".join(map(str, service.source_ranges))
        raise service.error("source_ranges", ranges, "none: the balancer takes every client")
    for field in ("external_traffic_policy", "internal_traffic_policy"):
        if getattr(service, field) is not TrafficPolicy.CLUSTER:
            raise service.error(field, getattr(service, field).value, "cluster: no backend is here")
    if service.health_check_node_port:
        value = service.health_check_node_port
        raise service.error("health_check_node_port", value, "0: the balancer answers no checks")


def _frontend(value: Frontend | str) -> Frontend:
    return value if isinstance(value, Frontend) else Frontend.parse(value)


def _settings(
    wanted: tuple[ServiceLB, ...], given: Mapping[Frontend | str, VipSettings]
) -> dict[Frontend, VipSettings]:
    found = {
        one.frontend: _AFFINE if one.session_affinity is SessionAffinity.CLIENT_IP else _PLAIN
        for one in wanted
    }
    for key, one in given.items():
        if _frontend(key) not in found:
            allowed = ", ".join(map(str, found)) or "the frontend of a service"
            raise SpecError("settings", str(key), allowed)
        if not isinstance(one, VipSettings):
            raise SpecError(f"settings of {key}", one, "VipSettings")
        found[_frontend(key)] = one
    return found


def _addresses(state: State) -> dict[Any, frozenset[int]]:
    """By address, the protocols whose every port is a VIP."""
    found: dict[Any, set[int]] = {}
    for frontend in state.vips:
        any_port = {frontend.protocol} if not frontend.port else set()
        found.setdefault(frontend.address, set()).update(any_port)
    return {address: frozenset(protocols) for address, protocols in found.items()}


def _address_key(address: Any) -> dict[str, Any]:
    return {"addr": addr(address), "family": address.version}


def _key(frontend: Frontend) -> dict[str, Any]:
    return {
        **_address_key(frontend.address),
        "port_be": be16(frontend.port),
        "protocol": frontend.protocol,
    }
