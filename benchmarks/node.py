# SPDX-License-Identifier: Apache-2.0
"""A datapath that lives in a namespace of the run's own."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from benchmarks.kubeproxy import Service
from pycilium import Datapath, Policy, ServiceLB
from pycilium.net import NetNS


class Node:
    """Calls a Datapath inside its node's namespace, without moving the caller."""

    def __init__(self, namespace: NetNS, datapath: Datapath) -> None:
        self.namespace = namespace
        self.datapath = datapath

    @classmethod
    def open(cls, namespace: NetNS) -> Node:
        """Open a scoped datapath in the namespace."""
        return cls(namespace, namespace.run(Datapath.open))

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

    def endpoint(self, address: str, app: str, pod: NetNS) -> object:
        """An endpoint in an existing namespace, labelled app=`app`."""
        return self.namespace.run(
            lambda: self.datapath.endpoints.create(address, labels={"app": app}, netns=pod)
        )

    def apply_policies(self, policies: Sequence[Policy]) -> None:
        self.namespace.run(self.datapath.policies.apply, policies)

    def apply_services(self, wanted: Sequence[Service]) -> None:
        self.namespace.run(self.datapath.services.apply, service_objects(wanted))


def service_objects(wanted: Sequence[Service]) -> list[ServiceLB]:
    """The model values of services."""
    return [ServiceLB(one.frontend, backends=[one.endpoint]) for one in wanted]
