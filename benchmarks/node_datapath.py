# SPDX-License-Identifier: Apache-2.0
"""A datapath that lives in a namespace of the run's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from benchmarks.errors import BenchmarkError
from pycilium import Datapath, Policy, ServiceLB
from pycilium.libbpf import RingBuffer
from pycilium.net import NetNS


class Node:
    """Calls a Datapath inside its node's namespace, without moving the caller."""

    def __init__(self, namespace: NetNS, datapath: Datapath) -> None:
        self.namespace = namespace
        self.datapath = datapath

    @classmethod
    def open(
        cls,
        namespace: NetNS,
        *,
        socket_lb: bool | Path = False,
        sizes: dict[str, int] | None = None,
        devices: Sequence[str] = (),
    ) -> Node:
        """Open a scoped datapath in the namespace."""
        opened = namespace.run(
            lambda: Datapath.open(socket_lb=socket_lb, sizes=sizes, devices=devices)
        )
        return cls(namespace, opened)

    def close(self) -> None:
        self.namespace.run(self.datapath.close)

    def __enter__(self) -> Node:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def endpoint(self, app: str, *addresses: str, pod: NetNS | None = None) -> int:
        """The device of a new endpoint, labelled app=`app`, in an existing namespace or its own."""
        create = self.datapath.endpoints.create
        made = self.namespace.run(lambda: create(addresses, labels={"app": app}, netns=pod))
        return made.ifindex

    def apply_policies(self, policies: Sequence[Policy]) -> None:
        self.namespace.run(self.datapath.policies.apply, policies)

    def events(self) -> RingBuffer:
        """The ring of verdicts and drops."""
        return RingBuffer(self.datapath.object.maps["pcl_events"])

    def require_rule(self, source: str, destination: str, policy: str) -> None:
        """Refuse to measure a connection that is not allowed by the policy of that name."""
        endpoint = next(one for one in self.datapath.endpoints if str(one.ip) == source)
        explained = self.namespace.run(self.datapath.explain, endpoint, destination)
        if not explained.allowed or not explained.rule or explained.rule.policy != policy:
            raise BenchmarkError(f"{policy} does not decide:\n{explained}")

    def apply_services(self, services: Sequence[ServiceLB]) -> None:
        self.datapath.services.apply(services)
