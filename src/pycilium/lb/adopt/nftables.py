# SPDX-License-Identifier: Apache-2.0
"""kube-proxy's nftables mode, from what `nft -j list table ip kube-proxy` prints.

The rules do not tell an external IP from a load balancer's: an address with source ranges is
read as a load balancer's, every other one as an external IP. Both are served alike.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from ipaddress import ip_address
from typing import Any

from pycilium.errors import SpecError
from pycilium.lb.adopt.found import Adoption, Behind, Collector, Removal, UnreadableError, service
from pycilium.model.frontend import Backend, Frontend
from pycilium.model.service import ServiceKind

MAX_BYTES = 256 << 20
_TABLE = "kube-proxy"
_PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
_NAME = re.compile(r"[a-z]+-[0-9A-Z]+-([^/]+/[^/]+)/[a-z]+/([^/]*)")
_ENTRANCES = {
    "services", "firewall-check", "service-endpoints-check", "nodeport-endpoints-check",
    "cluster-ips-check",
}  # fmt: skip
_MASQUERADE = "mark-for-masquerade"
Json = Any


def read(text: str, *, family: int = 4, node: str = "", file: str = "nft") -> Adoption:
    """Services of one family. node: this node's name, for backends that run here.

    Raises SpecError for what is no such text, or has nothing of kube-proxy's.
    """
    if len(text) > MAX_BYTES:
        raise SpecError("rules", f"{len(text)} characters", f"at most {MAX_BYTES}", origin=file)
    try:
        objects = json.loads(text)["nftables"]
        reader = _Reader(objects, {4: "ip", 6: "ip6"}[family], node)
        if "services" not in reader.chains:
            raise SpecError("rules", file, f"a table {_TABLE} with a chain services")
        return reader.read()
    except SpecError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
        allowed = f"what nft -j list table prints ({type(error).__name__}: {error})"
        raise SpecError("rules", text, allowed, origin=file) from None


class _Reader:
    """One table's chains and maps by name; what is behind a chain is read once."""

    def __init__(self, objects: list[Json], word: str, node: str) -> None:
        self._word = word
        self._node = node
        self._found = Collector()
        self._known: dict[str, Behind] = {}
        self.chains: dict[str, list[Json]] = defaultdict(list)
        self._sets: dict[str, Json] = {}
        for one in objects:
            ((kind, value),) = one.items()
            if kind == "metainfo" or value.get("family") != word:
                continue
            if kind == "chain" and value["table"] == _TABLE:
                self.chains[value["name"]] = []
            elif kind == "rule" and value["table"] == _TABLE:
                self.chains[value["chain"]].append(value)
            elif kind in ("set", "map") and value["table"] == _TABLE:
                self._sets[value["name"]] = value

    def read(self) -> Adoption:
        works = {
            "service-ips": self._portal,
            "service-nodeports": self._portal,
            "no-endpoint-services": self._refusal,
            "no-endpoint-nodeports": self._refusal,
            "firewall-ips": self._firewall,
        }
        for name, work in works.items():
            for at, element in enumerate(self._sets.get(name, {}).get("elem", [])):
                origin, shown = f"map {name}, element {at}", json.dumps(element)
                self._found.attempt(partial(self._guarded, work, name, element), origin, shown)
        return self._found.result(tuple(self._jumps()))

    def _guarded(self, work: Any, name: str, element: Json) -> None:
        """Whatever shape JSON has that is not the known one."""
        try:
            key, comment, verdict = _split(element)
            work(name, key, comment, verdict)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            if isinstance(error, SpecError):
                raise
            why = f"not the shape that is known ({type(error).__name__}: {error})"
            raise UnreadableError(why, f"map {name}", json.dumps(element)) from None

    def _portal(self, name: str, key: list[Json], _comment: str, verdict: Json) -> None:
        target = verdict["goto"]["target"]
        frontend, behind = self._frontend(key), self._behind(target)
        kind = ServiceKind.CLUSTER_IP
        if name == "service-nodeports":
            kind = ServiceKind.NODE_PORT
        elif target.startswith("external-"):
            kind = ServiceKind.EXTERNAL_IP
            ranges = self._ranges(key)
            if ranges:
                kind = ServiceKind.LOAD_BALANCER
                behind = Behind(behind.backends, behind.affinity, behind.local, ranges)
        one = service(frontend, kind, _named(target), behind)
        self._found.add(one, self._removal(name, key, f"goto {target}"))

    def _refusal(self, name: str, key: list[Json], comment: str, verdict: Json) -> None:
        frontend, text = self._frontend(key), _verdict(verdict)
        removal = self._removal(name, key, text)
        if frontend in self._found:
            self._found.also(frontend, removal)
            return
        kind = ServiceKind.EXTERNAL_IP  # or a balancer's: served alike, and here by nobody
        if name == "no-endpoint-nodeports":
            kind = ServiceKind.NODE_PORT
        elif key[0] in self._sets.get("cluster-ips", {}).get("elem", []):
            kind = ServiceKind.CLUSTER_IP
        behind = Behind(local=text == "drop")
        self._found.add(service(frontend, kind, comment.removesuffix(":"), behind), removal)

    def _firewall(self, name: str, key: list[Json], _comment: str, verdict: Json) -> None:
        frontend = self._frontend(key)
        if frontend not in self._found:
            raise ValueError("it is about a service that is not known")
        self._found.also(frontend, self._removal(name, key, _verdict(verdict)))

    def _frontend(self, key: list[Json]) -> Frontend:
        *where, protocol, port = key
        text = where[0] if where else {"ip": "0.0.0.0", "ip6": "::"}[self._word]
        if type(port) is not int or not 0 < port < 65536:
            raise ValueError(f"{port} is no port")
        return Frontend(ip_address(text), port, _PROTOCOLS[protocol])

    def _removal(self, name: str, key: list[Json], verdict: str) -> Removal:
        shown, where = " . ".join(map(str, key)), f"{self._word} {_TABLE} {name}"
        remove = f"delete element {where} {{ {shown} }}"
        return Removal("", remove, f"add element {where} {{ {shown} : {verdict} }}")

    def _jumps(self) -> Iterator[Removal]:
        """The rules of base chains that lead to services and to refusals."""
        for chain, rules in self.chains.items():
            for rule in rules:
                target = rule["expr"][-1].get("jump", {}).get("target")
                if target in _ENTRANCES and chain.startswith(("nat-", "filter-")):
                    where = f"rule {self._word} {_TABLE} {chain}"
                    new = "ct state new " if len(rule["expr"]) > 1 else ""
                    yield Removal(
                        "",
                        f"delete {where} handle {rule['handle']}",
                        f"add {where} {new}jump {target}",
                    )

    def _behind(self, chain: str) -> Behind:
        if chain not in self._known:
            kind = chain.partition("-")[0]
            readers = {
                "service": self._balanced,
                "local": self._local,
                "external": self._external,
            }
            if not self.chains.get(chain):
                raise ValueError(f"chain {chain} has no rules")
            self._known[chain] = readers[kind](chain)
        return self._known[chain]

    def _local(self, chain: str) -> Behind:
        here = self._balanced(chain).here(self._node)
        return Behind(here.backends, here.affinity, local=True)

    def _external(self, chain: str) -> Behind:
        everyone, here, local = Behind(), Behind(), False
        for rule in self.chains[chain]:
            *conditions, last = rule["expr"]
            target = _target(last)
            if target == _MASQUERADE:
                continue
            if target.startswith("local-"):
                local, here = True, self._behind(target)
            elif target.startswith("service-"):
                local |= bool(conditions)
                everyone = self._behind(target)
            else:
                raise ValueError(f"an unknown step from outside to {target}")
        found = everyone.and_local(here)
        return Behind(found.backends, everyone.affinity or here.affinity, local=local)

    def _balanced(self, chain: str) -> Behind:
        """The endpoints that a chain chooses from; a second set of the same is affinity."""
        affinity, names = 0, []
        for rule in self.chains[chain]:
            *conditions, last = rule["expr"]
            if "vmap" in last and not conditions:
                names = _chosen(last["vmap"])
                continue
            target = _target(last)
            if target.startswith("endpoint-") and len(conditions) == 1:
                affinity = self._timeout(conditions[0]["match"]["right"])
            elif target != _MASQUERADE:
                raise ValueError(f"an unknown step to {target}")
        return Behind(tuple(map(self._endpoint, names)), affinity)

    def _timeout(self, reference: str) -> int:
        found = self._sets[reference.removeprefix("@")]["timeout"]
        if type(found) is not int:
            raise ValueError(f"{found} is no number of seconds")
        return found

    def _endpoint(self, chain: str) -> Backend:
        for rule in self.chains[chain]:
            if "dnat" in rule["expr"][-1]:
                destination = rule["expr"][-1]["dnat"]
                port = destination["port"]
                if type(port) is not int or not 0 < port < 65536:
                    raise ValueError(f"{port} is no port")
                return Backend(ip_address(destination["addr"]), port)
        raise ValueError(f"chain {chain} has no destination")

    def _ranges(self, key: list[Json]) -> tuple[str, ...]:
        """The source ranges in front of a frontend."""
        for element in self._sets.get("firewall-ips", {}).get("elem", []):
            found, _, verdict = _split(element)
            if found == key:
                (rule,) = self.chains[verdict["goto"]["target"]]
                (condition, last) = rule["expr"]
                match = condition["match"]
                if match["op"] != "!=" or "drop" not in last:
                    raise ValueError("source ranges in an unknown form")
                right = match["right"]
                several = right["set"] if isinstance(right, dict) and "set" in right else [right]
                return tuple(map(_prefix, several))
        return ()


def _split(element: Json) -> tuple[list[Json], str, Json]:
    """Key, comment and verdict of a map's element."""
    key, verdict = element
    comment = ""
    if isinstance(key, dict) and "elem" in key:
        comment, key = str(key["elem"].get("comment", "")), key["elem"]["val"]
    return list(key["concat"]), comment, verdict


def _target(statement: Json) -> str:
    verdict = statement.get("goto") or statement.get("jump")
    return str(verdict["target"])


def _verdict(verdict: Json) -> str:
    return "drop" if "drop" in verdict else f"goto {verdict['goto']['target']}"


def _chosen(vmap: Json) -> list[str]:
    """The chains that a random number below their count leads to."""
    rows = vmap["data"]["set"]
    generator = vmap["key"]["numgen"]
    if generator["mode"] != "random" or generator["mod"] != len(rows):
        raise ValueError("a choice other than one of equal shares")
    return [verdict["goto"]["target"] for _, verdict in rows]


def _prefix(value: Json) -> str:
    if isinstance(value, dict):
        return f"{value['prefix']['addr']}/{value['prefix']['len']}"
    return str(value)


def _named(chain: str) -> str:
    """namespace/name:port of a chain's name."""
    match = _NAME.fullmatch(chain)
    if match is None:
        raise ValueError(f"chain {chain} does not say whose it is")
    return f"{match[1]}:{match[2]}" if match[2] else match[1]
