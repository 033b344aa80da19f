# SPDX-License-Identifier: Apache-2.0
"""What a peer has said, before any policy, and the way in for one family."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from weakref import WeakValueDictionary

import attrs

from pycilium.bgp.attributes import Attributes, intern
from pycilium.bgp.capabilities import Role
from pycilium.bgp.communities import LLGR_STALE, NO_LLGR
from pycilium.bgp.family import Family
from pycilium.bgp.negotiation import Negotiated
from pycilium.bgp.path import Path, Source
from pycilium.bgp.peer import PeerOptions
from pycilium.bgp.policy import Decision
from pycilium.bgp.prefix import PATH_ID, Prefix
from pycilium.bgp.table import Table

_FROM_BELOW = (Role.PROVIDER, Role.ROUTE_SERVER)
_FROM_ABOVE = (Role.CUSTOMER, Role.PEER, Role.ROUTE_SERVER_CLIENT)


class AdjIn:
    """Prefix (with its path identifier in front, where there is one) → attributes.

    `stale` holds what the peer has not said again since its session ended, or since it began to
    say everything anew.
    """

    def __init__(
        self,
        family: Family,
        source: Source,
        session: Negotiated,
        options: PeerOptions,
        table: Table,
    ) -> None:
        self.family = family
        self.source = source
        self.session = session
        self.options = options
        self.routes: dict[Prefix, Attributes] = {}
        self.stale: set[Prefix] = set()
        self.rejected = 0
        self._table = table
        self._paths: WeakValueDictionary[tuple[Attributes, bytes], Path] = WeakValueDictionary()

    @property
    def has_paths(self) -> bool:
        """Whether path identifiers stand in front of prefixes."""
        return self.family in self.session.add_path_receive

    def would_hold(self, prefixes: list[Prefix]) -> int:
        """How many prefixes there would be with these."""
        known = len(self.routes)
        if known + len(prefixes) <= self.options.max_prefixes:
            return known + len(prefixes)
        return known + sum(one not in self.routes for one in set(prefixes))

    def announce(self, prefixes: list[Prefix], one: Attributes) -> list[Prefix]:
        """Routes with shared attributes; the prefixes that may have changed."""
        self.routes.update(dict.fromkeys(prefixes, one))
        if self.stale:
            self.stale.difference_update(prefixes)
        return self.offer(prefixes, one)

    def offer(self, keys: list[Prefix], one: Attributes) -> list[Prefix]:
        """Put routes through the policy into the table."""
        changed: list[Prefix] = []
        for path_id, prefixes in self._by_path_id(keys):
            changed += prefixes
            for decided, some in self._decide(prefixes, one):
                if decided is None:
                    self.rejected += len(some)
                    self._table.remove(some, self.source, path_id)
                else:
                    self._table.add(some, self._path(decided, path_id))
        return changed

    def withdraw(self, keys: Iterable[Prefix]) -> list[Prefix]:
        """Routes that are no more; what is unknown is passed over."""
        pop = self.routes.pop
        known = [key for key in keys if pop(key, None) is not None]
        self.stale.difference_update(known)
        changed: list[Prefix] = []
        for path_id, prefixes in self._by_path_id(known):
            self._table.remove(prefixes, self.source, path_id)
            changed += prefixes
        return changed

    def withdraw_stale(self) -> list[Prefix]:
        """What the peer did not say again."""
        return self.withdraw(list(self.stale))

    def keep_long(self) -> list[Prefix]:
        """Mark what is stale as long-lived stale, and drop what must not be (RFC 9494 §4.3)."""
        by_attributes: defaultdict[Attributes, list[Prefix]] = defaultdict(list)
        for key in self.stale:
            by_attributes[self.routes[key]].append(key)
        changed: list[Prefix] = []
        for one, keys in by_attributes.items():
            if one.has(NO_LLGR):
                changed += self.withdraw(keys)
                continue
            marked = intern(one.with_communities([LLGR_STALE]))
            self.routes.update(dict.fromkeys(keys, marked))
            changed += self.offer(keys, marked)
        return changed

    def decide(self, prefix: Prefix, one: Attributes) -> Decision:
        """The rules of the protocol, then the import policy."""
        refused = self._refusal(one)
        if refused:
            return Decision(None, refused)
        if one.otc is None and self.session.role in _FROM_ABOVE:
            one = attrs.evolve(one, otc=self.session.peer_asn)
        policy = self.options.import_policy
        return policy.decide(self.family, prefix, one) if policy else Decision(one, "no policy")

    def _refusal(self, one: Attributes) -> str:
        session = self.session
        seen = sum(number == session.local_asn for number in one.as_path)
        if seen > self.options.allow_own_as:
            return f"its AS_PATH holds our own AS {session.local_asn}"
        if one.originator_id is not None and one.originator_id == session.local_id:
            return "we are its originator"
        if session.local_id in one.cluster_list:
            return "it has been in our cluster"
        leaked = session.role in _FROM_BELOW or (
            session.role is Role.PEER and one.otc != session.peer_asn
        )
        if one.otc is not None and leaked:
            return f"a route leak: it came down from AS {one.otc} before (OTC)"
        return ""

    def _decide(
        self, prefixes: list[Prefix], one: Attributes
    ) -> Iterable[tuple[Attributes | None, list[Prefix]]]:
        policy = self.options.import_policy
        if policy is None or not policy.uses_prefix:
            return [(self.decide(prefixes[0], one).attributes, prefixes)]
        groups: defaultdict[Attributes | None, list[Prefix]] = defaultdict(list)
        for prefix in prefixes:
            groups[self.decide(prefix, one).attributes].append(prefix)
        return groups.items()

    def _by_path_id(self, keys: list[Prefix]) -> Iterable[tuple[bytes, list[Prefix]]]:
        if not keys:
            return ()
        if not self.has_paths:
            return ((b"", keys),)
        groups: defaultdict[bytes, list[Prefix]] = defaultdict(list)
        for key in keys:
            groups[key[:PATH_ID]].append(key[PATH_ID:])
        return groups.items()

    def _path(self, one: Attributes, path_id: bytes) -> Path:
        found = self._paths.get((one, path_id))
        if found is None:
            found = self._paths[one, path_id] = Path(self.source, intern(one), path_id)
        return found
