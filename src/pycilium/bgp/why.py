# SPDX-License-Identifier: Apache-2.0
"""Why a prefix is, or is not, announced to each peer: one sentence each."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from pycilium.bgp.adj_out import AdjOut
from pycilium.bgp.family import Family
from pycilium.bgp.fsm import PeerMachine
from pycilium.bgp.path import Path, ranked
from pycilium.bgp.prefix import PATH_ID, Prefix, address_text, prefix_text
from pycilium.bgp.router import Router
from pycilium.bgp.session import State


@attrs.frozen
class Answer:
    """One peer: whether it has been sent the prefix, and why."""

    peer: str
    announced: bool
    reason: str

    def __str__(self) -> str:
        return f"{self.peer}: {'announced' if self.announced else 'not announced'}: {self.reason}"


@attrs.frozen
class Candidate:
    """One source of the prefix: whether it is in use, and why not."""

    source: str
    best: bool
    reason: str

    def __str__(self) -> str:
        return f"{self.source}: {'best' if self.best else 'not used'}: {self.reason}"


@attrs.frozen
class Explanation:
    """Candidates and answers; prints as a list of sentences."""

    prefix: str
    candidates: tuple[Candidate, ...]
    answers: tuple[Answer, ...]

    def __getitem__(self, peer: str) -> Answer:
        for one in self.answers:
            if one.peer == peer:
                return one
        raise KeyError(peer)

    def __str__(self) -> str:
        rows = [*map(str, self.candidates), *map(str, self.answers)]
        if not self.candidates:
            rows.insert(0, "nobody announces it, neither this speaker nor a peer")
        lines = [f"{'└─' if row is rows[-1] else '├─'} {row}" for row in rows]
        return "\n".join([self.prefix, *lines])

    def _repr_html_(self) -> str:
        from html import escape

        rows = (
            f"<tr><td>{escape(one.peer)}</td><td>{'✓' if one.announced else '✗'}</td>"
            f"<td>{escape(one.reason)}</td></tr>"
            for one in self.answers
        )
        head = "<tr><th>peer</th><th>announced</th><th>why</th></tr>"
        return f"<table><caption>{escape(self.prefix)}</caption>{head}{''.join(rows)}</table>"


def explain(
    router: Router, machines: Mapping[str, PeerMachine], family: Family, nlri: Prefix
) -> Explanation:
    """Ask the tables themselves; what a peer was sent is what its Adj-RIB-Out says."""
    paths = ranked(router.tables[family].paths(nlri), 256)
    candidates = [_candidate(number, path) for number, path in enumerate(paths)]
    candidates += _refused(router, family, nlri, {path.source.name for path in paths})
    answers = [_answer(router, one, family, nlri, paths) for one in machines.values()]
    return Explanation(prefix_text(family, nlri), tuple(candidates), tuple(answers))


def _candidate(number: int, path: Path) -> Candidate:
    return Candidate(path.source.name, number == 0, str(path.attributes))


def _refused(router: Router, family: Family, nlri: Prefix, used: set[str]) -> list[Candidate]:
    """Peers that said the prefix, of which nothing came into the table."""
    found = []
    for address, neighbour in router.neighbours.items():
        adj_in = neighbour.adj_in.get(family)
        if adj_in is None or address in used:
            continue
        for key in _keys(adj_in.routes, nlri) if adj_in.has_paths else [nlri]:
            one = adj_in.routes.get(key)
            if one is not None:
                decision = adj_in.decide(nlri, one)
                found.append(Candidate(address, False, f"refused on import: {decision.by}"))
    return found


def _keys(routes: Mapping[Prefix, object], nlri: Prefix) -> list[Prefix]:
    return [key for key in routes if key[PATH_ID:] == nlri]


def _answer(
    router: Router, machine: PeerMachine, family: Family, nlri: Prefix, paths: list[Path]
) -> Answer:
    address = machine.peer.address
    neighbour = router.neighbours[address]
    out = neighbour.adj_out.get(family)
    if machine.state is not State.ESTABLISHED or neighbour.session is None:
        return Answer(address, False, f"the session is {machine.state}: {machine.reason}")
    if out is None:
        return Answer(address, False, f"the family {family} was not negotiated with it")
    if not paths:
        return Answer(address, False, "there is no candidate")
    return _sent(address, out, nlri, paths[0])


def _sent(address: str, out: AdjOut, nlri: Prefix, path: Path) -> Answer:
    decision = out.exporter.decide(nlri, path)
    if decision.attributes is None:
        return Answer(address, False, decision.by)
    if nlri in out.too_large:
        limit = out.exporter.session.max_message
        return Answer(address, False, f"its attributes do not fit into {limit} octets")
    if not out.has_sent(nlri):
        return Answer(address, False, "it waits for the peer to read what was sent before")
    hop = address_text(decision.attributes.next_hop)
    return Answer(address, True, f"next hop {hop}, allowed by {decision.by}")
