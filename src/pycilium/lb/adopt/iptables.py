# SPDX-License-Identifier: Apache-2.0
"""kube-proxy's iptables mode, from what iptables-save or ip6tables-save prints.

Read: KUBE-SERVICES, KUBE-NODEPORTS and KUBE-EXTERNAL-SERVICES to the chains KUBE-SVC-, -SVL-,
-EXT-, -FW-, -SEP- and the older -XLB-. The shapes are those of kube-proxy 1.18 to 1.34.
"""

from __future__ import annotations

from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address

from pycilium.errors import SpecError
from pycilium.lb.adopt.found import Adoption, Behind, Collector, service
from pycilium.lb.adopt.rules import Chains, Rule, parse
from pycilium.model.frontend import Backend, Frontend
from pycilium.model.service import ServiceKind

_PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
_KINDS = {
    " cluster IP": ServiceKind.CLUSTER_IP,
    " external IP": ServiceKind.EXTERNAL_IP,
    " loadbalancer IP": ServiceKind.LOAD_BALANCER,
}
_REFUSED = (" has no endpoints", " has no local endpoints")
_HEALTH = " health check node port"
_ENTRANCES = {"KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-EXTERNAL-SERVICES", "KUBE-PROXY-FIREWALL"}
_MARKS = {"KUBE-MARK-MASQ", "KUBE-MARK-DROP"}
_PORTAL = ("-d", "-p", "--dport")
_SHARE = ("--mode", "--probability")
_RECENT = ("--rcheck", "--seconds", "--reap", "--name", "--rsource", "--mask")


def read(text: str, *, family: int = 4, node: str = "", file: str = "iptables-save") -> Adoption:
    """Services of one family. node: this node's name, for backends that run here.

    Raises SpecError with file and line for what is no such text, or has nothing of kube-proxy's.
    """
    chains = parse(text, file)
    if not chains.get(("nat", "KUBE-SERVICES")):
        raise SpecError("rules", file, "a chain KUBE-SERVICES with rules in the table nat")
    return _Reader(chains, family, node).read()


class _Reader:
    """One text's chains; what is behind a chain is read once."""

    def __init__(self, chains: Chains, family: int, node: str) -> None:
        self._chains = chains
        self._family = family
        self._node = node
        self._found = Collector()
        self._known: dict[str, Behind] = {}
        self._health = dict(map(self._health_port, self._filter("KUBE-NODEPORTS")))

    def read(self) -> Adoption:
        for chain in ("KUBE-SERVICES", "KUBE-NODEPORTS"):
            for rule in self._nat(chain):
                self._attempt(partial(self._portal, rule), rule)
        for chain in ("KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES"):
            for rule in self._filter(chain):
                self._attempt(partial(self._refusal, rule), rule)
        for rule in self._filter("KUBE-PROXY-FIREWALL"):
            self._attempt(partial(self._also, rule), rule)
        jumps = (
            rule.removal
            for (_, chain), rules in self._chains.items()
            for rule in rules
            if not chain.startswith("KUBE-") and rule.target in _ENTRANCES
        )
        return self._found.result(tuple(jumps))

    def _nat(self, chain: str) -> list[Rule]:
        return self._chains.get(("nat", chain), [])

    def _filter(self, chain: str) -> list[Rule]:
        return self._chains.get(("filter", chain), [])

    def _attempt(self, work: partial[None], rule: Rule) -> None:
        self._found.attempt(work, rule.origin, rule.text)

    def _portal(self, rule: Rule) -> None:
        """A rule that finds the packets of one frontend."""
        if rule.target in _MARKS | {"KUBE-NODEPORTS"}:
            return
        if rule.chain == "KUBE-NODEPORTS" and rule.options.get("-d") in ("127.0.0.0/8", "::1/128"):
            return  # the same port once more, for a counter of kube-proxy's
        rule.only(*_PORTAL)
        name, kind = self._named(rule)
        port = self._health.get(name.partition(":")[0], 0)
        behind = self._behind(rule, rule.target)
        one = service(self._frontend(rule), kind, name, behind, health_port=port)
        self._found.add(one, rule.removal)

    def _named(self, rule: Rule) -> tuple[str, ServiceKind]:
        if rule.chain == "KUBE-NODEPORTS":
            return rule.comment.removesuffix(":"), ServiceKind.NODE_PORT
        for words, kind in _KINDS.items():
            if rule.comment.endswith(words):
                return rule.comment.removesuffix(words).removesuffix(":"), kind
        raise rule.error("its comment does not say the kind")

    def _refusal(self, rule: Rule) -> None:
        """A frontend with nobody behind it, or nobody on this node."""
        rule.only(*_PORTAL, "--dst-type", "--reject-with")
        words = next((one for one in _REFUSED if rule.comment.endswith(one)), None)
        if words is None or rule.target not in ("REJECT", "DROP"):
            raise rule.error("its comment does not say whom it refuses")
        frontend, name = self._frontend(rule), rule.comment.removesuffix(words).removesuffix(":")
        if frontend in self._found:
            self._found.also(frontend, rule.removal)
            return
        inside, local = rule.chain == "KUBE-SERVICES", words == _REFUSED[1]
        kind = ServiceKind.EXTERNAL_IP  # or a balancer's: served alike, and here by nobody
        if inside:
            kind = ServiceKind.CLUSTER_IP
        elif "--dst-type" in rule.options:
            kind = ServiceKind.NODE_PORT
        self._found.add(service(frontend, kind, name, Behind(local=local)), rule.removal)

    def _also(self, rule: Rule) -> None:
        """Drops what the source ranges of KUBE-FW- let fall through."""
        frontend = self._frontend(rule.only(*_PORTAL))
        if frontend not in self._found:
            raise rule.error("it is about a service that is not known")
        self._found.also(frontend, rule.removal)

    def _health_port(self, rule: Rule) -> tuple[str, int]:
        port = rule.options.get("--dport", "")
        number = int(port) if port.isascii() and port.isdigit() and len(port) < 6 else 0
        return rule.comment.removesuffix(_HEALTH).partition(":")[0], number

    def _frontend(self, rule: Rule) -> Frontend:
        word, port = rule.options.get("-p", ""), rule.options.get("--dport", "")
        if word not in _PROTOCOLS:
            raise rule.error("a protocol other than tcp, udp and sctp")
        if not (port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) < 65536):
            raise rule.error("a destination port other than one number")
        return Frontend(self._address(rule), int(port), _PROTOCOLS[word])

    def _address(self, rule: Rule) -> IPv4Address | IPv6Address:
        if "-d" not in rule.options:
            if rule.chain != "KUBE-NODEPORTS" and "--dst-type" not in rule.options:
                raise rule.error("no destination")
            return ip_address("0.0.0.0" if self._family == 4 else "::")
        text, _, bits = rule.options["-d"].partition("/")
        try:
            found = ip_address(text)
        except ValueError:
            raise rule.error("a destination that is no address") from None
        if found.version != self._family or bits not in ("", str(found.max_prefixlen)):
            raise rule.error(f"a destination that is not one IPv{self._family} address")
        return found

    def _behind(self, rule: Rule, chain: str) -> Behind:
        """By the kind of chain that a rule jumps to."""
        if chain not in self._known:
            kind = "-".join(chain.split("-", 2)[:2])
            readers = {
                "KUBE-SVC": self._balanced,
                "KUBE-SVL": self._local,
                "KUBE-EXT": self._external,
                "KUBE-XLB": self._external,
                "KUBE-FW": self._firewall,
            }
            if kind not in readers or not self._nat(chain):
                raise rule.error("it jumps to a chain that is not known here")
            self._known[chain] = readers[kind](chain)
        return self._known[chain]

    def _local(self, chain: str) -> Behind:
        here = self._balanced(chain).here(self._node)
        return Behind(here.backends, here.affinity, local=True)

    def _external(self, chain: str) -> Behind:
        """KUBE-EXT-, and KUBE-XLB- which also balances: what clients outside the cluster get."""
        everyone, here, local = Behind(), Behind(), False
        for rule in self._nat(chain):
            if rule.target.startswith("KUBE-SVC-"):
                rule.only("-s", "--src-type")
                local |= bool({"-s", "--src-type"} & rule.options.keys())
                everyone = self._behind(rule, rule.target)
            elif rule.target.startswith("KUBE-SVL-"):
                local, here = True, self._behind(rule.only(), rule.target)
            elif rule.target not in _MARKS and not rule.target.startswith("KUBE-SEP-"):
                raise rule.error("an unknown step on the way from outside")
        if chain.startswith("KUBE-XLB-"):
            local, here = True, self._local(chain)
        found = everyone.and_local(here)
        return Behind(found.backends, everyone.affinity or here.affinity, local=local)

    def _firewall(self, chain: str) -> Behind:
        """KUBE-FW-: the source ranges in front of what follows."""
        found, ranges, open_to_all = None, [], False
        for rule in self._nat(chain):
            if rule.target in _MARKS or not rule.target:
                continue
            found = self._behind(rule.only("-s"), rule.target)
            if "-s" in rule.options:
                ranges.append(rule.options["-s"])
            else:
                open_to_all = True
        if found is None:
            raise self._nat(chain)[0].error("source ranges with nothing behind them")
        allowed = () if open_to_all else tuple(ranges)
        return Behind(found.backends, found.affinity, found.local, allowed)

    def _balanced(self, chain: str) -> Behind:
        """The endpoints that a chain chooses from, each with the same share."""
        affinity, shares = 0, []
        for rule in self._nat(chain):
            if rule.target in _MARKS or rule.target.startswith("KUBE-SVC-"):
                continue
            if not rule.target.startswith("KUBE-SEP-"):
                raise rule.error("a step that is no endpoint")
            if "--rcheck" in rule.options:
                affinity = _seconds(rule.only(*_RECENT))
            else:
                shares.append(rule.only(*_SHARE))
        for left, rule in zip(range(len(shares), 0, -1), shares, strict=True):
            _require_share(rule, left)
        return Behind(tuple(map(self._endpoint, shares)), affinity)

    def _endpoint(self, jump: Rule) -> Backend:
        for rule in self._nat(jump.target):
            if rule.target == "DNAT":
                rule.only("-p", "--to-destination", "--set", "--name", "--rsource", "--mask")
                return Backend.parse(rule.options.get("--to-destination", ""))
        raise jump.error("an endpoint without a destination")


def _seconds(rule: Rule) -> int:
    text = rule.options.get("--seconds", "")
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise rule.error("affinity without a number of seconds")
    return int(text)


def _require_share(rule: Rule, left: int) -> None:
    """Refuses what is not one of `left` equal parts of what the rules before let pass."""
    try:
        probability = float(rule.options.get("--probability", "1"))
    except ValueError:
        raise rule.error("a probability that is no number") from None
    if not abs(probability - 1 / left) < 1e-6:
        raise rule.error(f"a share other than 1 of {left}")
