# SPDX-License-Identifier: Apache-2.0
"""Trace records of the kernel, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pycilium.datapath.explanation import Step
from pycilium.datapath.wire import PROTOCOL_NAMES, address_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pycilium.datapath.core import Core
    from pycilium.datapath.endpoints import Endpoints
    from pycilium.datapath.identities import Identities
    from pycilium.datapath.node_devices import NodeDevices
    from pycilium.datapath.rules import Rules

_CONNTRACK = ("new connection", "known connection, its verdict holds", "known, decided anew")
_VERDICTS = (
    "denied by default: no rule allows it", "allowed", "denied",
    "for a proxy to decide, and none runs here",
    "allowed in audit mode, else denied",
)  # fmt: skip
_DIRECTIONS = ("ingress", "egress")
_ROUTES = (  # enum of BPF_FIB_LKUP_RET_* in linux/bpf.h
    "by {}", "to nowhere: a blackhole route", "to nowhere: an unreachable route",
    "to nowhere: a prohibit route", "no route there, or one to this node itself",
    "forwarding is off on the device where it came in",
    "by a tunnel that the route itself makes, which is not done",
    "by {}, whose neighbour is asked for first", "larger than the MTU of the way by {}",
    "no source address for the way",
)  # fmt: skip


class Narrator:
    """Turns records into steps; knows the names behind the numbers."""

    def __init__(
        self,
        core: Core,
        endpoints: Endpoints,
        identities: Identities,
        rules: Rules,
        devices: NodeDevices,
    ) -> None:
        self._steps = core.spec.enums["pcl_step"]
        self._reasons = core.spec.enums["pcl_reason"]
        self._files = core.spec.enums["pcl_file"]
        self._endpoints = endpoints
        self._identities = identities
        self._rules = rules
        self._devices = devices

    def tell(self, records: Iterable[Any], family: int) -> tuple[Step, ...]:
        """One step per record."""
        return tuple(self._tell(record, family) for record in records)

    def _tell(self, record: Any, family: int) -> Step:
        name = self._steps(record.step).name.removeprefix("PCL_STEP_").lower()
        facts = {"a": record.a, "b": record.b, "c": record.c, "d": record.d}
        text: str = getattr(self, f"_{name}")(record, family)
        return Step(name.replace("_", " "), text, facts)

    def at_socket(self, service: Any) -> Step:
        """What the socket layer does before the packet of a service record is made."""
        facts = {"service": service.b, "backends": service.c}
        if not service.c:
            return Step("socket", "connect() is refused: no backend; without it", facts)
        text = "connect() goes straight to a backend; a packet that names the service"
        return Step("socket", text, facts)

    def _parse(self, record: Any, family: int) -> str:
        protocol = PROTOCOL_NAMES.get(record.a, f"protocol {record.a}")
        target = address_of(record.addr.bytes, family)
        if record.d:
            return "not a packet that is carried"
        kind = "type" if record.a in (1, 58) else "port"
        return f"{protocol} to {target}, {kind} {record.c}"

    def _ct(self, record: Any, _family: int) -> str:
        return _CONNTRACK[record.a]

    def _service(self, record: Any, _family: int) -> str:
        if not record.a:
            return "the destination is no service"
        if record.a == 2:
            return "the address is a service's, and this port is none of it"
        return f"service {record.b} with {record.c} backend{'' if record.c == 1 else 's'}"

    def _backend(self, record: Any, family: int) -> str:
        address = address_of(record.addr.bytes, family)
        shown = f"[{address}]" if family == 6 else str(address)
        kept = ", by session affinity" if record.c else ""
        return f"{shown}:{record.b} (backend {record.a}{kept})"

    def _source(self, record: Any, _family: int) -> str:
        return self._side(record)

    def _destination(self, record: Any, _family: int) -> str:
        return self._side(record)

    def _side(self, record: Any) -> str:
        who = f"identity {self.identity(record.a)}"
        endpoint = self._endpoints.get(record.b) if record.b else None
        if endpoint is None:
            return f"{who}, reached through the host's stack"
        return f"{who}, endpoint {endpoint.name} (id {endpoint.id})"

    def _policy(self, record: Any, _family: int) -> str:
        rule = self._rules.find(record.c, allowed=record.b == 1)
        by = f" by {rule}" if record.c else " by default" if record.b in (1, 4) else ""
        peer = "from" if record.a == 0 else "to"
        return (
            f"{_DIRECTIONS[record.a]} {peer} {self.identity(record.d)}: {_VERDICTS[record.b]}{by}"
        )

    def _ct_create(self, record: Any, _family: int) -> str:
        return f"entry refused: error {record.a}" if record.a else "entry written"

    def _forward(self, record: Any, _family: int) -> str:
        if not record.a:
            return "to the host's stack"
        found = next((one for one in self._endpoints if one.ifindex == record.a), None)
        target = found.name if found else f"interface {record.a}"
        return f"to {target}{' by redirect_peer' if record.b else ''}"

    def _route(self, record: Any, _family: int) -> str:
        device = next((one.name for one in self._devices if one.ifindex == record.b), None)
        return _ROUTES[record.a].format(device or f"interface {record.b}")

    def _nat(self, record: Any, family: int) -> str:
        address = address_of(record.addr.bytes, family)
        shown = f"[{address}]" if family == 6 else str(address)
        return f"{shown}:{record.a} stands for the source"

    def _verdict(self, record: Any, _family: int) -> str:
        reason = self._reasons(record.a).name
        return f"{reason} at {self.place(record)}" if record.c else reason

    def reason(self, record: Any) -> str:
        """Name of the verdict record's reason."""
        name: str = self._reasons(record.a).name
        return name

    def place(self, record: Any) -> str:
        """Header and line of a drop, as event and trace give them."""
        return place(self._files, record.b, record.c)

    def identity(self, number: int) -> str:
        """Number and labels."""
        labels = self._identities.labels_of(number)
        return f"{number} ({labels})" if labels else str(number)


def place(files: Any, file: int, line: int) -> str:
    """Where in the C code: the header of the enum's name, and the line."""
    if not line:
        return ""
    name = files(file).name.removeprefix("PCL_FILE_").lower()
    return f"{name}.bpf.c:{line}" if name == "endpoint" else f"{name}.h:{line}"
