# SPDX-License-Identifier: Apache-2.0
"""Why: the kernel's own answer to a packet that nobody sent.

A twin of the loaded object, with tracing on, shares every map that holds policy and has
connections, counters and events of its own: the answer is the program's, and nothing that
lives is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any

import attrs

from pycilium.datapath.context import Context
from pycilium.datapath.endpoints import Endpoint, Endpoints
from pycilium.datapath.packets import ICMP, ICMPV6, TCP, UDP, Probe
from pycilium.datapath.rows import Address, address_of
from pycilium.datapath.services import Services
from pycilium.errors import SpecError
from pycilium.libbpf import Object, RingBuffer
from pycilium.model import Frontend, Nearest, RuleRef, Verdict
from pycilium.model.identity import RESERVED
from pycilium.model.policy import DEFAULT_DENY, PROTOCOL_NAMES, PROTOCOLS, Direction
from pycilium.policy import Subject, evaluate

_OWN = {
    "pcl_ct4", "pcl_ct6", "pcl_fragments", "pcl_counters", "pcl_event_counts", "pcl_events",
    "pcl_trace", "pcl_scratches", "pcl_manifest",
}  # fmt: skip
_NAMES = {"CT": "connection", "CT_CREATE": "remember"}
_TINY = {"pcl_ct4": 64, "pcl_ct6": 64, "pcl_fragments": 64, "pcl_events": 4096, "pcl_manifest": 1}


@attrs.frozen
class Step:
    """One thing that the program did."""

    name: str
    text: str


@attrs.frozen
class Explanation:
    """The kernel's verdict on one new connection, step by step."""

    question: str
    allowed: bool
    reason: str
    steps: tuple[Step, ...]
    rule: RuleRef | None
    verdict: Verdict | None
    disagreement: str = ""

    @property
    def nearest(self) -> Nearest | None:
        """Of a denial, the rule that came closest to allowing."""
        return self.verdict.nearest if self.verdict and not self.allowed else None

    def __bool__(self) -> bool:
        return self.allowed

    def __str__(self) -> str:
        lines = [self.question]
        lines += [f"├─ {step.name:<12} {step.text}" for step in self.steps]
        word = "ALLOWED" if self.allowed else f"DENIED ({self.reason})"
        lines.append(f"└─ {word}" + (f" by {self.rule}" if self.rule else ""))
        if self.nearest:
            lines.append(f"   nearest: {self.nearest}")
        if self.disagreement:
            lines.append(f"   WARNING: {self.disagreement}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(str(self))}</pre>"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "question": self.question,
            "allowed": self.allowed,
            "reason": self.reason,
            "rule": str(self.rule) if self.rule else None,
            "steps": [attrs.asdict(step) for step in self.steps],
            "nearest": str(self.nearest) if self.nearest else None,
            "disagreement": self.disagreement or None,
        }


@attrs.frozen
class _Question:
    source: Endpoint | Address
    destination: Address
    port: int
    protocol: int

    def __str__(self) -> str:
        name = PROTOCOL_NAMES.get(self.protocol, str(self.protocol))
        where = f"[{self.destination}]" if self.destination.version == 6 else str(self.destination)
        port = f":{self.port}" if self.protocol in (TCP, UDP) else ""
        source = self.source.name if isinstance(self.source, Endpoint) else self.source
        return f"{source} -> {where}{port}/{name}"


class Explainer:
    """Asks the twin; made on the first question."""

    def __init__(self, context: Context, endpoints: Endpoints, services: Services) -> None:
        self._context = context
        self._endpoints = endpoints
        self._services = services
        self._twin: Object | None = None

    def explain(self, source: Any, destination: Any, port: str | None) -> Explanation:
        """See Datapath.explain."""
        question = self._question(source, destination, port)
        records = self._trace(question)
        steps = tuple(self._steps(records))
        last = records[-1] if records else None
        reason = self._reason(last.a if last else 0)
        allowed = bool(last and not reason.startswith("DROP"))
        rules = [r.c for r in records if r.step == self._step("POLICY")]
        rule = self._context.rules.find(rules[-1]) if rules else None
        if not allowed and rule is None and reason == "DROP_POLICY":
            rule = DEFAULT_DENY
        verdict = self._evaluate(question)
        policy_decided = allowed or reason.startswith("DROP_POLICY")
        return Explanation(
            str(question), allowed, reason, steps, rule, verdict,
            self._compare(allowed, verdict) if policy_decided else "",
        )  # fmt: skip

    def reset(self) -> None:
        """Forget the twin, after the object has been replaced."""
        if self._twin is not None:
            self._twin.close()
            self._twin = None

    def _compare(self, allowed: bool, verdict: Verdict | None) -> str:
        if verdict is None or verdict.allowed == allowed:
            return ""
        return f"the rules themselves say {verdict}; kernel and rules disagree: please report it"

    def _question(self, source: Any, destination: Any, port: str | None) -> _Question:
        sender = self._source(source)
        if isinstance(destination, Endpoint):
            family = sender.ip.version if isinstance(sender, Endpoint) else sender.version
            same = [a for a in destination.addresses if a.version == family]
            if not same:
                raise SpecError("destination", destination.name, f"an endpoint with IPv{family}")
            address, rest = same[0], port or "icmp"
        else:
            address, rest = _split(str(destination), port)
        number, protocol = _port(rest, address.version)
        return _Question(sender, address, number, protocol)

    def _source(self, source: Any) -> Endpoint | Address:
        if isinstance(source, Endpoint):
            return source
        for endpoint in self._endpoints:
            if endpoint.name == source:
                return endpoint
        try:
            address = ip_address(str(source))
        except ValueError:
            names = ", ".join(e.name for e in self._endpoints) or "none yet"
            raise SpecError("source", source, f"an endpoint ({names}) or an address") from None
        return self._endpoints.by_address(address) or address

    def _trace(self, question: _Question) -> list[Any]:
        twin = self._object()
        program, device, frame = self._probe(question)
        codec = self._context.spec.types["pcl_trace_record"]
        with RingBuffer(twin.maps["pcl_trace"]) as ring:
            ring.drain()
            loaded = twin.programs[program]
            self._context.node.run(lambda: loaded.test_run(frame, ctx={"ifindex": device}))
            records = [codec.decode(record) for record in ring.records(0)]
        for name in ("pcl_ct4", "pcl_ct6"):
            twin.maps[name].remove(list(twin.maps[name]))
        return records

    def _probe(self, question: _Question) -> tuple[str, int, bytes]:
        source = question.source
        if isinstance(source, Endpoint):
            same = [a for a in source.addresses if a.version == question.destination.version]
            if not same:
                family = f"an endpoint with IPv{question.destination.version}"
                raise SpecError("source", source.name, family)
            program, device, sender = "from_endpoint", source, same[0]
            macs = (source.mac, source.value.host_mac)
        else:
            receiver = self._endpoints.by_address(question.destination)
            if receiver is None:
                raise SpecError("source", str(source), "an endpoint, or an address that sends to one")
            program, device, sender = "to_endpoint", receiver, source
            macs = (receiver.value.host_mac, receiver.mac)
        probe = Probe(
            source=sender, destination=question.destination, source_mac=macs[0],
            destination_mac=macs[1], protocol=question.protocol, destination_port=question.port,
        )  # fmt: skip
        return program, device.ifindex, probe.build()

    def _object(self) -> Object:
        if self._twin is None:
            context = self._context
            shared = {n: m for n, m in context.object.maps.items() if n not in _OWN and not n.endswith(".rodata")}
            self._twin = context.spec.load(
                variables=context.config.variables(context.spec, trace=True),
                max_entries={**{n: m.max_entries for n, m in shared.items()}, **_TINY},
                reuse=shared,
            )
        return self._twin

    def _step(self, name: str) -> int:
        return int(self._context.spec.enums["pcl_step"][f"PCL_STEP_{name}"])

    def _reason(self, number: int) -> str:
        return str(self._context.spec.enums["pcl_reason"](number).name).removeprefix("PCL_")

    def _steps(self, records: list[Any]) -> Iterator[Step]:
        names = self._context.spec.enums["pcl_step"]
        tell: dict[str, Callable[[Any], str | None]] = {
            "PARSE": self._tell_parse,
            "CT": self._tell_connection,
            "SERVICE": self._tell_service,
            "BACKEND": self._tell_backend,
            "SOURCE": self._tell_side,
            "DESTINATION": self._tell_side,
            "POLICY": self._tell_policy,
            "CT_CREATE": lambda r: "one entry, with the verdict" if r.a == 0 else f"errno {-r.a}",
            "FORWARD": self._tell_forward,
            "VERDICT": self._tell_verdict,
        }
        for record in records:
            name = names(record.step).name.removeprefix("PCL_STEP_")
            text = tell[name](record)
            if text:
                yield Step(_NAMES.get(name, name.lower()), text)

    def _tell_parse(self, record: Any) -> str:
        if record.d:
            return "the packet is not what its headers say"
        name = PROTOCOL_NAMES.get(record.a, str(record.a))
        return f"{name} from port {record.b} to port {record.c}"

    def _tell_connection(self, record: Any) -> str:
        return ("new: no entry", "known", "known, but decided under an older policy")[record.a]

    def _tell_service(self, record: Any) -> str:
        if not record.a:
            return "the destination is no service"
        service = self._services.table.find(record.b)
        return f"{service or f'service {record.b}'}"

    def _tell_backend(self, record: Any) -> str:
        address = self._address(record.addr)
        endpoint = self._endpoints.by_address(address)
        name = f"{endpoint.name} " if endpoint else ""
        return f"{name}{address} port {record.b}"

    def _address(self, union: Any) -> Address:
        family = 4 if union.bytes[4:] == bytes(12) else 6
        return address_of(union.bytes, family)

    def _tell_side(self, record: Any) -> str:
        identity = self._context.identities.get(record.a)
        where = "another host or the node itself"
        for endpoint in self._endpoints:
            if endpoint.id == record.b:
                where = f"endpoint {endpoint.name}, policy slot {record.c}"
        return f"identity {identity}, {where}"

    def _tell_policy(self, record: Any) -> str:
        word = ("no entry", "allow", "deny")[record.b]
        rule = self._context.rules.find(record.c)
        peer = self._context.identities.get(record.d)
        side = "to" if record.a == Direction.EGRESS else "from"
        by = f": {rule}" if rule else ""
        return f"{Direction(record.a)} {side} {peer} -> {word}{by}"

    def _tell_forward(self, record: Any) -> str:
        if not record.a:
            return "to the node's network stack"
        for endpoint in self._endpoints:
            if endpoint.ifindex == record.a:
                return f"to {endpoint.name} (ifindex {record.a})"
        return f"to ifindex {record.a}"

    def _tell_verdict(self, record: Any) -> str | None:
        if not record.b:
            return None
        where = self._context.spec.enums["pcl_file"](record.b).name.removeprefix("PCL_FILE_").lower()
        return f"{self._reason(record.a)} at {where}.h:{record.c}"

    def _evaluate(self, question: _Question) -> Verdict | None:
        destination, port = self._translated(question)
        if destination is None:
            return None
        return evaluate(
            self._context.policies,
            self._subject(question.source),
            self._subject(destination),
            port if question.protocol in (TCP, UDP) else 8 if question.protocol == ICMP else 128,
            question.protocol,
            allow_host=self._context.config.allow_host,
        )

    def _translated(self, question: _Question) -> tuple[Address | None, int]:
        """A service's backends all have to agree; the first stands for them."""
        frontend = Frontend(question.destination, question.port, question.protocol)
        for service in self._services:
            if service.frontend == frontend and isinstance(question.source, Endpoint):
                if not service.backends:
                    return None, 0
                return service.backends[0].address, service.backends[0].port
        return question.destination, question.port

    def _subject(self, side: Endpoint | Address) -> Subject:
        endpoint = side if isinstance(side, Endpoint) else self._endpoints.by_address(side)
        if endpoint is not None:
            return Subject(endpoint.labels, endpoint.ip)
        address = ip_address(str(side))
        host = self._endpoints.is_host(address)
        return Subject(address=address, reserved=RESERVED[1 if host else 2], enforced=False)


def _split(text: str, port: str | None) -> tuple[Address, str]:
    """"10.0.0.1:80/tcp", "[fd00::1]:80", "10.0.0.1/icmp" or an address with a port beside it."""
    head, _, protocol = text.partition("/")
    if port is not None:
        return _address(text), port
    if protocol.startswith("icmp"):
        return _address(head), protocol
    address, colon, number = head.rpartition(":")
    if not colon or (address.count(":") and not address.startswith("[")):
        raise SpecError("destination", text, '"address:port/protocol" or "address/icmp"')
    return _address(address.strip("[]")), f"{number}/{protocol or 'tcp'}"


def _address(text: str) -> Address:
    try:
        return ip_address(text)
    except ValueError:
        raise SpecError("destination", text, "an address") from None


def _port(text: str, version: int) -> tuple[int, int]:
    number, _, name = text.partition("/")
    if number.startswith("icmp"):
        return 0, ICMP if version == 4 else ICMPV6
    protocol = PROTOCOLS.get((name or "tcp").lower(), -1)
    if protocol not in (TCP, UDP) or not number.isdigit() or not 0 < int(number) < 65536:
        raise SpecError("port", text, '"80/tcp", "53/udp" or "icmp"')
    return int(number), protocol
