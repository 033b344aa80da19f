# SPDX-License-Identifier: Apache-2.0
"""A speaker from documents: bgp.yaml of pycilium's own, and Cilium's kinds.

docs/how-to/top-of-rack.md shows one. Raises SpecError with file, line and what is allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from socket import socket
from typing import TYPE_CHECKING, Any

import attrs

from pycilium.bgp.capabilities import Role
from pycilium.bgp.cilium_config import CILIUM_KINDS, Advertisement, CiliumDocuments
from pycilium.bgp.config_policy import read_policy
from pycilium.bgp.fields import Fields, located, need, number, seconds, texts
from pycilium.bgp.peer import DynamicPeers, Peer, PeerOptions
from pycilium.bgp.policy import RulePolicy
from pycilium.bgp.route import Route
from pycilium.bgp.services import Pool
from pycilium.bgp.sockets import MakeSocket
from pycilium.documents import Node
from pycilium.errors import SpecError
from pycilium.reader import read_documents

if TYPE_CHECKING:
    from pycilium.bgp.speaker import Speaker

_SPEAKER = ("asn", "routerId", "listen", "port")
_SECTIONS = ("speaker", "templates", "peers", "dynamic", "policies", "announce", "bmp")
_ROUTE = ("prefix", "nextHop", "communities", "med", "localPref", "asPath")
_ROLES = {one.name.lower().replace("_", "-"): one for one in Role}


@attrs.frozen
class Station:
    """Where BMP goes."""

    address: str
    port: int


@attrs.frozen(kw_only=True)
class Configuration:
    """All that documents say, checked."""

    asn: int
    router_id: str
    listen: bool | tuple[str, ...] = False
    port: int = 179
    peers: tuple[Peer, ...] = ()
    dynamic: tuple[DynamicPeers, ...] = ()
    routes: tuple[Route, ...] = ()
    advertisements: tuple[Advertisement, ...] = ()
    stations: tuple[Station, ...] = ()

    @classmethod
    def read(
        cls,
        sources: Iterable[str | Path],
        *,
        router_id: str | None = None,
        secrets: Mapping[str, str] | None = None,
        node_labels: Mapping[str, str] | None = None,
    ) -> Configuration:
        """From files.

        router_id: for Cilium's kinds, which do not have it unless in a CiliumBGPNodeConfigOverride.
        secrets: what an authSecretRef names. node_labels: what a nodeSelector must fit.
        """
        documents = [node for one in sources for node in _documents(Path(one))]
        kinds = [_kind(node) for node in documents]
        if any(kinds):
            return _cilium(documents, router_id, secrets or {}, node_labels or {})
        if len(documents) != 1:
            raise SpecError("documents", len(documents), "one bgp.yaml, or Cilium's kinds")
        return _native(documents[0], Path(documents[0].file).parent)

    def speaker(self, *, make_socket: MakeSocket = socket) -> Speaker:
        """A speaker with these peers."""
        from pycilium.bgp.speaker import Speaker

        return Speaker(
            asn=self.asn,
            router_id=self.router_id,
            listen=self.listen,
            port=self.port,
            peers=self.peers,
            dynamic=self.dynamic,
            make_socket=make_socket,
        )

    def announced(
        self,
        *,
        pod_cidrs: Iterable[str] = (),
        vips: Mapping[str, Mapping[str, str]] | None = None,
    ) -> list[Route]:
        """What to announce: the listed routes, and what advertisements say of these addresses.

        vips: addresses of services that are served, each with its service's labels.
        """
        found = {one.prefix: one for one in self.routes}
        for one in self.advertisements:
            chosen = [vip for vip, labels in (vips or {}).items() if one.selects(labels)]
            for prefix in pod_cidrs if one.is_pod_cidr else chosen:
                pool = Pool(prefix, communities=one.communities, local_pref=one.local_pref)
                found[str(pool.prefix)] = pool.route(pool.prefix)
        return list(found.values())


def _documents(path: Path) -> Iterable[Node]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError("file", str(path), f"a readable file ({error})") from None
    return list(read_documents(text, str(path)))


def _kind(node: Node) -> str:
    fields = node.value if isinstance(node.value, dict) else {}
    kind = fields["kind"].value if "kind" in fields else ""
    if kind and kind not in CILIUM_KINDS:
        raise fields["kind"].error(f"one of {', '.join(CILIUM_KINDS)}")
    return str(kind)


def _cilium(
    documents: list[Node],
    router_id: str | None,
    secrets: Mapping[str, str],
    labels: Mapping[str, str],
) -> Configuration:
    found = CiliumDocuments.read(documents, secrets, labels)
    router_id = router_id or found.router_id
    if router_id is None:
        raise SpecError("router_id", None, "--router-id, or a CiliumBGPNodeConfigOverride")
    return Configuration(
        asn=found.asn,
        router_id=router_id,
        listen=found.port is not None,
        port=found.port or 179,
        peers=tuple(found.peers),
        advertisements=tuple(found.advertisements),
    )


def _native(node: Node, folder: Path) -> Configuration:
    sections = node.mapping(*_SECTIONS)
    speaker = need(node, sections, "speaker")
    own = speaker.mapping(*_SPEAKER)
    policies = {
        name: read_policy(one, name) for name, one in _section(sections, "policies").items()
    }
    templates = {
        name: _options(one, PeerOptions(), policies, folder)
        for name, one in _section(sections, "templates").items()
    }

    def options(fields: Fields, where: Node, *own_keys: str) -> PeerOptions:
        base = PeerOptions()
        if "template" in fields:
            base = templates[fields["template"].one_of(list(templates))]
        return _options(where, base, policies, folder, *own_keys)

    return Configuration(
        asn=number(need(speaker, own, "asn")),
        router_id=need(speaker, own, "routerId").text(),
        listen=_listen(own["listen"]) if "listen" in own else False,
        port=number(own["port"], 1, 65535) if "port" in own else 179,
        peers=tuple(_peer(one, options) for one in _items(sections, "peers")),
        dynamic=tuple(_dynamic(one, options) for one in _items(sections, "dynamic")),
        routes=tuple(_route(one) for one in _items(sections, "announce")),
        stations=tuple(_station(one) for one in _items(sections, "bmp")),
    )


def _section(sections: Fields, name: str) -> Fields:
    return sections[name].mapping() if name in sections else {}


def _items(sections: Fields, name: str) -> list[Node]:
    return sections[name].items() if name in sections else []


def _listen(node: Node) -> bool | tuple[str, ...]:
    return node.flag() if isinstance(node.value, bool) else tuple(texts(node))


Options = Callable[..., PeerOptions]


def _peer(node: Node, options: Options) -> Peer:
    fields = node.mapping("address", "asn", "template", *_OPTIONS)
    address = need(node, fields, "address").text()
    asn = number(need(node, fields, "asn"))
    chosen = options(fields, node, "address", "asn", "template")
    return located(node, lambda: Peer(address, asn=asn, options=chosen))


def _dynamic(node: Node, options: Options) -> DynamicPeers:
    own = ("prefix", "asns", "limit", "template")
    fields = node.mapping(*own, *_OPTIONS)
    prefix = need(node, fields, "prefix").text()
    asns = [number(one) for one in need(node, fields, "asns").items()]
    limit = number(fields["limit"], 1, 65535) if "limit" in fields else 1000
    chosen = options(fields, node, *own)
    return located(node, lambda: DynamicPeers(prefix, asns=asns, options=chosen, limit=limit))


def _route(node: Node) -> Route:
    if isinstance(node.value, str):
        return located(node, lambda: Route(node.text()))
    fields = node.mapping(*_ROUTE)
    prefix = need(node, fields, "prefix").text()
    return located(
        node,
        lambda: Route(
            prefix,
            next_hop=fields["nextHop"].text() if "nextHop" in fields else None,
            communities=texts(fields["communities"]) if "communities" in fields else (),
            med=number(fields["med"]) if "med" in fields else None,
            local_pref=number(fields["localPref"]) if "localPref" in fields else None,
            as_path=str(fields["asPath"].plain()) if "asPath" in fields else "",
        ),
    )


def _station(node: Node) -> Station:
    fields = node.mapping("address", "port")
    port = number(fields["port"], 1, 65535) if "port" in fields else 11019
    return Station(need(node, fields, "address").text(), port)


def _options(
    node: Node,
    base: PeerOptions,
    policies: Mapping[str, RulePolicy],
    folder: Path,
    *own: str,
) -> PeerOptions:
    changed: dict[str, Any] = {}
    for key, field in node.mapping(*own, *_OPTIONS).items():
        if key == "passwordFile":
            changed["password"] = _secret(field, folder)
        elif key in ("import", "export"):
            changed[f"{key}_policy"] = policies[field.one_of(list(policies))]
        elif key in _OPTIONS:
            name, reader = _OPTIONS[key]
            changed[name] = reader(field)
    return located(node, lambda: attrs.evolve(base, **changed))


def _secret(node: Node, folder: Path) -> str:
    """A password's file, beside the document that names it; its content never shows."""
    try:
        return (folder / node.text()).read_text(encoding="utf-8").rstrip("\n")
    except (OSError, UnicodeDecodeError):
        raise node.error("a readable file") from None


def _role(node: Node) -> Role:
    return _ROLES[node.one_of(list(_ROLES))]


_OPTIONS: dict[str, tuple[str, Callable[[Node], Any]]] = {
    "holdTime": ("hold_time", number),
    "connectRetry": ("connect_retry", seconds),
    "passive": ("passive", Node.flag),
    "families": ("families", texts),
    "port": ("port", number),
    "localAddress": ("local_address", Node.text),
    "password": ("password", Node.text),
    "passwordFile": ("password", Node.text),
    "ttlSecurity": ("ttl_security", number),
    "multihop": ("multihop", number),
    "gracefulRestart": ("graceful_restart", number),
    "longLived": ("long_lived", number),
    "addPathSend": ("add_path_send", number),
    "addPathReceive": ("add_path_receive", Node.flag),
    "extendedMessage": ("extended_message", Node.flag),
    "extendedNextHop": ("extended_next_hop", Node.flag),
    "routeRefresh": ("route_refresh", Node.flag),
    "role": ("role", _role),
    "strictRole": ("strict_role", Node.flag),
    "maxPrefixes": ("max_prefixes", number),
    "maxPrefixesRestart": ("max_prefixes_restart", number),
    "nextHop": ("next_hop", Node.text),
    "nextHop6": ("next_hop6", Node.text),
    "allowOwnAs": ("allow_own_as", number),
    "enforceFirstAs": ("enforce_first_as", Node.flag),
    "import": ("import_policy", Node.text),
    "export": ("export_policy", Node.text),
}
