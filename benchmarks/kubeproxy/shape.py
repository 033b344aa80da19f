# SPDX-License-Identifier: Apache-2.0
"""What both modes ask of a service before they write its rules."""

from __future__ import annotations

import hashlib

import attrs

from pycilium import Backend, ServiceLB
from pycilium.model import BackendState, ServiceKind, SessionAffinity, TrafficPolicy

MASQUERADE = "0x4000"
PROTOCOLS = {6: "tcp", 17: "udp", 132: "sctp"}
# Every endpoint is in it: 10.1.0.0/16 the real ones, 10.2.0.0/15 the rest.
PODS = {4: "10.0.0.0/14", 6: "fd01::/16"}


@attrs.frozen
class Shape:
    """One ServiceLB as kube-proxy on a node sees it; node: its name."""

    service: ServiceLB
    node: str

    @property
    def protocol(self) -> str:
        return PROTOCOLS[self.service.frontend.protocol]

    @property
    def family(self) -> int:
        return self.service.frontend.address.version

    @property
    def name(self) -> str:
        """namespace/name:port, the same for all frontends of one port."""
        return self.service.name or f"default/{self.digest.lower()}"

    @property
    def digest(self) -> str:
        """Sixteen characters, as in the names of kube-proxy's chains."""
        return _digest(self.service.name or str(self.service.frontend), self.protocol)

    def endpoint_digest(self, backend: Backend) -> str:
        return _digest(self.name, self.protocol, str(backend))

    @property
    def outside(self) -> bool:
        """Whether clients outside the cluster use it."""
        return self.service.kind is not ServiceKind.CLUSTER_IP

    @property
    def policy(self) -> TrafficPolicy:
        """The one that holds for this frontend."""
        one = self.service
        return one.external_traffic_policy if self.outside else one.internal_traffic_policy

    @property
    def active(self) -> list[Backend]:
        return [one for one in self.service.backends if one.state is BackendState.ACTIVE]

    @property
    def local(self) -> list[Backend]:
        return [one for one in self.active if one.node == self.node]

    @property
    def eligible(self) -> list[Backend]:
        """Those that this frontend's clients from elsewhere may get."""
        return self.local if self.policy is TrafficPolicy.LOCAL else self.active

    @property
    def affinity(self) -> int:
        """Seconds; 0 for none."""
        kept = self.service.session_affinity is SessionAffinity.CLIENT_IP
        return self.service.affinity_timeout if kept else 0


def _digest(*parts: str) -> str:
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:16].upper()
