# SPDX-License-Identifier: Apache-2.0
"""What a peer is told of a path: the rules of the protocol, then the export policy, then the edge.

Every refusal has a sentence, which is what `why` prints.
"""

from __future__ import annotations

from typing import Any

import attrs

from pycilium.bgp import communities
from pycilium.bgp.attributes import Attributes, changed, intern
from pycilium.bgp.capabilities import Role
from pycilium.bgp.family import Family
from pycilium.bgp.negotiation import Negotiated
from pycilium.bgp.path import DEFAULT_LOCAL_PREF, Path, Source
from pycilium.bgp.peer import PeerOptions
from pycilium.bgp.policy import Decision
from pycilium.bgp.prefix import Prefix, address_text, parse_address

_DOWNHILL = (Role.PROVIDER, Role.PEER, Role.ROUTE_SERVER)
_UPHILL = (Role.CUSTOMER, Role.PEER, Role.ROUTE_SERVER_CLIENT)


@attrs.frozen
class Exporter:
    """One session's way out, for one family."""

    family: Family
    source: Source
    session: Negotiated
    options: PeerOptions

    @property
    def uses_prefix(self) -> bool:
        """Whether two prefixes of one path may fare differently."""
        policy = self.options.export_policy
        return policy is not None and policy.uses_prefix

    def wants(self, source: Source) -> bool:
        """Whether anything from a source can ever be sent."""
        if source is self.source:
            return False
        return source.local or self.options.export_policy is not None

    def decide(self, prefix: Prefix, path: Path) -> Decision:
        """The attributes to send, shared by all routes that have the same ones."""
        refused = self._refusal(path)
        if refused:
            return Decision(None, refused)
        allowed = self._policy(prefix, path)
        if allowed.attributes is None:
            return allowed
        fields = self._edge(path, allowed.attributes)
        hop = self._next_hop(fields.get("next_hop", allowed.attributes.next_hop))
        if isinstance(hop, Decision):
            return hop
        fields["next_hop"] = hop
        return Decision(intern(changed(allowed.attributes, fields)), allowed.by)

    def _refusal(self, path: Path) -> str:
        source = path.source
        if source is self.source:
            return "it was learned from this very peer"
        if not (source.local or source.external or self.session.external):
            return "internal peers are not told what an internal peer said"
        return self._forbidden(path.attributes)

    def _forbidden(self, one: Attributes) -> str:
        """What the route's own attributes forbid."""
        no_export = one.has(communities.NO_EXPORT) or one.has(communities.NO_EXPORT_SUBCONFED)
        if one.has(communities.NO_ADVERTISE):
            return "it has the community no-advertise"
        if self.session.external and no_export:
            return "it has the community no-export and the peer is external"
        if one.has(communities.LLGR_STALE) and not self.session.long_lived:
            return "it is long-lived stale and the peer does not know what that means"
        if one.otc is not None and self.session.role in _UPHILL:
            return f"it came down from AS {one.otc} and must not go up again (OTC)"
        return ""

    def _policy(self, prefix: Prefix, path: Path) -> Decision:
        policy = self.options.export_policy
        if policy is not None:
            return policy.decide(self.family, prefix, path.attributes)
        if path.source.local:
            return Decision(path.attributes, "announced here")
        return Decision(None, "without an export policy only own routes are sent")

    def _edge(self, path: Path, one: Attributes) -> dict[str, Any]:
        """What changes on the way to another AS, or stays inside this one."""
        if not self.session.external:
            return {"local_pref": DEFAULT_LOCAL_PREF} if one.local_pref is None else {}
        fields: dict[str, Any] = {
            "as_path": one.as_path.prepend(self.session.local_asn),
            "local_pref": None,
            "originator_id": None,
            "cluster_list": (),
        }
        if one.extended_communities:
            kept = filter(communities.is_transitive, one.extended_communities)
            fields["extended_communities"] = tuple(kept)
        before = path.attributes
        if not path.source.local and one.med == before.med:
            fields["med"] = None
        if not path.source.local and one.next_hop == before.next_hop:
            fields["next_hop"] = b""
        if one.otc is None and self.session.role in _DOWNHILL:
            fields["otc"] = self.session.local_asn
        return fields

    def _next_hop(self, hop: bytes) -> bytes | Decision:
        hop = hop or self._own_address()
        size = 4 if self.family is Family.IPV4 else 16
        if not hop:
            return Decision(None, self._no_address())
        if len(hop) < size:
            return Decision(None, f"its next hop {address_text(hop)} is no IPv6 address")
        if len(hop) > size and size == 4 and not self.session.extended_next_hop:
            return Decision(
                None,
                f"its next hop {address_text(hop)} is IPv6 and the peer did not agree to that",
            )
        if hop[:16] == self.session.peer_address:
            return Decision(None, "its next hop is the peer itself")
        return hop

    def _own_address(self) -> bytes:
        options, local = self.options, self.session.local_address
        given = options.next_hop if self.family is Family.IPV4 else options.next_hop6
        if given:
            return parse_address(given)
        if len(local) == (4 if self.family is Family.IPV4 else 16):
            return local
        if self.family is Family.IPV4 and self.session.extended_next_hop:
            return parse_address(options.next_hop6) if options.next_hop6 else local
        return b""

    def _no_address(self) -> str:
        if self.family is Family.IPV6:
            return "the session runs over IPv4 and no next_hop6 is set"
        return (
            "the session runs over IPv6, the peer takes no IPv6 next hop for IPv4 (RFC 8950) "
            "and no next_hop is set"
        )
