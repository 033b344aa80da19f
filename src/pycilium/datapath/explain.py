# SPDX-License-Identifier: Apache-2.0
"""explain(): ask the kernel's own programs about a packet, without leaving a trace.

The answer and its rule are the kernel's. The evaluator, which works on the rules alone, adds
the nearest rule that would have allowed a denied packet; where it comes to another answer the
explanation says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from pycilium.datapath.endpoint import Endpoint
from pycilium.datapath.explanation import Explanation, Step
from pycilium.datapath.narrate import Narrator
from pycilium.datapath.packet import ICMP_ECHO, ICMPV6_ECHO, Question
from pycilium.datapath.target import Target, parse_target
from pycilium.datapath.twin import Twin, load_copy
from pycilium.datapath.wire import Address, address_of, mac_bytes, parse_address
from pycilium.errors import SpecError
from pycilium.policy import Subject, evaluate

if TYPE_CHECKING:
    from pycilium.datapath.core import Core
    from pycilium.datapath.endpoints import Endpoints
    from pycilium.datapath.identities import Identities
    from pycilium.datapath.node_devices import NodeDevices
    from pycilium.datapath.policies import Policies
    from pycilium.datapath.rules import Rules
    from pycilium.model import RuleRef, Verdict

_SOURCE_PORT = 40000
_SHOT = 2  # TC_ACT_SHOT
_BY_POLICY = {
    "PCL_FORWARDED", "PCL_TO_STACK", "PCL_AUDITED", "PCL_DROP_POLICY", "PCL_DROP_POLICY_DENY",
}  # fmt: skip


@attrs.frozen
class _Run:
    """Which program sees the packet, on which device."""

    program: str
    ifindex: int
    question: Question
    source: Endpoint | None


class Explainer:
    """Builds the packet, has it traced, and puts names to what happened."""

    def __init__(
        self,
        core: Core,
        endpoints: Endpoints,
        identities: Identities,
        policies: Policies,
        rules: Rules,
        devices: NodeDevices,
    ) -> None:
        self._core = core
        self._endpoints = endpoints
        self._identities = identities
        self._policies = policies
        self._rules = rules
        self._twin = Twin(core)
        self._devices = devices
        self._narrator = Narrator(core, endpoints, identities, rules, devices)
        self._step = core.spec.enums["pcl_step"]
        self._audit = core.spec.enums["pcl_policy_verdict"].PCL_POLICY_AUDIT

    def explain(self, source: Any, destination: Any, port: str | int | None) -> Explanation:
        """See Datapath.explain."""
        run = self._run(source, parse_target(destination, port, self._endpoints))
        trace = self._twin.run(run.program, run.question.frame(), run.ifindex)
        verdict = self._last(trace.records, self._step.PCL_STEP_VERDICT)
        reason = self._narrator.reason(verdict)
        allowed = trace.action != _SHOT
        rule = self._rule(trace.records, reason)
        foretold = self._evaluate(run, trace.records) if reason in _BY_POLICY else None
        nearest = foretold.nearest if foretold is not None and not allowed else None
        return Explanation(
            question=str(run.question),
            allowed=allowed,
            verdict=reason,
            place=self._narrator.place(verdict),
            rule=rule,
            steps=(
                *self._at_socket(run, trace.records),
                *self._narrator.tell(trace.records, run.question.destination.version),
            ),
            nearest=nearest,
            audited=reason == "PCL_AUDITED",
            disagreement=_compare(allowed, rule, foretold),
        )

    def measure(self, source: Any, destination: Any, port: str | int | None, repeat: int) -> float:
        """See Datapath.measure."""
        run = self._run(source, parse_target(destination, port, self._endpoints))
        with load_copy(self._core, trace=False) as loaded:
            program, frame = loaded.programs[run.program], run.question.frame()
            ctx = {"ifindex": run.ifindex}
            self._core.node.run(lambda: program.test_run(frame, ctx=ctx))
            known = self._core.node.run(lambda: program.test_run(frame, ctx=ctx, repeat=repeat))
            return known.nanoseconds

    def close(self) -> None:
        """Unload the traced programs."""
        self._twin.close()

    def _run(self, source: Any, target: Target) -> _Run:
        sender = self._sender(source)
        if isinstance(sender, Endpoint):
            return self._from_endpoint(sender, target)
        receiver = target.endpoint or self._endpoints.by_address(target.address(None))
        if receiver is not None:
            return self._to_endpoint(sender, receiver, target)
        if isinstance(sender, str) or not len(self._devices):
            allowed = "an endpoint of this node, where the source is none"
            raise SpecError("destination", str(target), allowed)
        return self._from_device(sender, target)

    def _from_device(self, sender: Address, target: Target) -> _Run:
        """At the first of the node's devices: each has the same program."""
        destination = target.address((sender,))
        if destination.version != sender.version:
            raise SpecError("source", str(sender), f"an IPv{destination.version} address")
        device = next(iter(self._devices))
        question = _question(sender, destination, target, bytes(6), mac_bytes(device.mac))
        return _Run("from_device", device.ifindex, question, None)

    def _from_endpoint(self, sender: Endpoint, target: Target) -> _Run:
        destination = target.address(sender.addresses)
        source = sender.address(destination.version)
        if source is None:
            family = f"an endpoint with an IPv{destination.version} address"
            raise SpecError("source", sender.name, family)
        macs = (mac_bytes(sender.mac), mac_bytes(sender.device.host_mac))
        question = _question(source, destination, target, *macs)
        return _Run("from_endpoint", sender.ifindex, question, sender)

    def _to_endpoint(self, sender: Address | str, receiver: Endpoint, target: Target) -> _Run:
        if isinstance(sender, str):
            destination = target.address(receiver.addresses)
            source = self._host_address(destination.version)
        else:
            source, destination = sender, target.address((sender,))
        macs = (mac_bytes(receiver.device.host_mac), mac_bytes(receiver.mac))
        question = _question(source, destination, target, *macs)
        return _Run("to_endpoint", receiver.ifindex, question, None)

    def _sender(self, source: Any) -> Endpoint | Address | str:
        if isinstance(source, Endpoint):
            if source.removed:
                raise SpecError("source", source.name, "an endpoint that still exists")
            return source
        named = self._endpoints.get(source) if isinstance(source, str) else None
        if named is not None:
            return named
        if source == "host":
            return "host"
        try:
            address = parse_address("source", source)
        except SpecError:
            names = ", ".join(one.name for one in self._endpoints) or "there is none yet"
            allowed = f'an endpoint ({names}), "host" or an address'
            raise SpecError("source", source, allowed) from None
        return self._endpoints.by_address(address) or address

    def _host_address(self, version: int) -> Address:
        for address in sorted(self._identities.node_addresses, key=int):
            if address.version == version and not (address.is_loopback or address.is_link_local):
                return address
        raise SpecError("source", "host", f"a node that has an IPv{version} address")

    def _at_socket(self, run: _Run, records: tuple[Any, ...]) -> tuple[Step, ...]:
        """What comes before any packet, where the sender's sockets are translated."""
        on = self._core.config.socket_lb and run.source is not None and run.source.netns_cookie
        found = (one for one in records if one.step == self._step.PCL_STEP_SERVICE and one.a == 1)
        return tuple(self._narrator.at_socket(one) for one in found) if on else ()

    def _last(self, records: tuple[Any, ...], step: int) -> Any:
        return next(one for one in reversed(records) if one.step == step)

    def _rule(self, records: tuple[Any, ...], reason: str) -> RuleRef | None:
        if reason not in _BY_POLICY:
            return None
        asked = [one for one in records if one.step == self._step.PCL_STEP_POLICY]
        if reason == "PCL_AUDITED":
            asked = [one for one in asked if one.b == self._audit][:1]
        return self._rules.find(asked[-1].c, allowed=asked[-1].b == 1) if asked else None

    def _evaluate(self, run: _Run, records: tuple[Any, ...]) -> Verdict | None:
        """What the rules alone say of the packet, behind the service if there was one."""
        question = run.question
        destination, port = question.destination, question.destination_port
        for one in records:
            if one.step == self._step.PCL_STEP_BACKEND:
                destination, port = address_of(one.addr.bytes, destination.version), one.b
        if destination == question.source:  # through a service to itself: always allowed
            return None
        return evaluate(
            self._policies.applied,
            self._subject(question.source, local=run.source is not None),
            self._subject(destination, local=True),
            port,
            question.protocol,
            allow_host=self._core.config.allow_host,
            cidr_matches_pods=self._core.config.cidr_matches_pods,
        )

    def _subject(self, address: Address, *, local: bool) -> Subject:
        endpoint = self._endpoints.by_address(address) if local else None
        if endpoint is not None:
            return Subject(endpoint.labels, address)
        if address in self._identities.node_addresses:
            return Subject(address=address, reserved="host", enforced=False)
        return Subject(address=address, reserved="world", enforced=False)


def _question(
    source: Address, destination: Address, target: Target, source_mac: bytes, mac: bytes
) -> Question:
    protocol, port = target.protocol, target.port
    if target.is_icmp:
        protocol, port = (1, ICMP_ECHO) if destination.version == 4 else (58, ICMPV6_ECHO)
    return Question(
        source=source,
        destination=destination,
        protocol=protocol,
        source_port=_SOURCE_PORT,
        destination_port=port,
        source_mac=source_mac,
        destination_mac=mac,
    )


def _compare(allowed: bool, rule: RuleRef | None, foretold: Verdict | None) -> str:
    if foretold is None:
        return ""
    named = foretold if foretold.audited is None else foretold.audited
    if foretold.allowed == allowed and rule in (None, named.rule):
        return ""
    kernel = f"the kernel says {'allowed' if allowed else 'denied'} by {rule}"
    return f"{kernel}, the rules say {foretold}: please report this"
