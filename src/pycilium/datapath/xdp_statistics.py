# SPDX-License-Identifier: Apache-2.0
"""Packets and bytes by VIP and backend, from what each CPU has counted."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import attrs

from pycilium.datapath.status import Counter

if TYPE_CHECKING:
    from pycilium.datapath.xdp_plan import Changes, Member, Vip
    from pycilium.libbpf import Map
    from pycilium.model import Backend, Frontend


@attrs.frozen
class BackendStatistics:
    """What one backend of a VIP was sent; weight 0: it is drained."""

    backend: Backend
    weight: int
    packets: int
    bytes: int


@attrs.frozen
class VipStatistics:
    """What was forwarded for a VIP, to the backends of now and to those that have gone."""

    frontend: Frontend
    packets: int
    bytes: int
    backends: tuple[BackendStatistics, ...]


class Statistics(tuple[VipStatistics, ...]):
    """A tuple of VipStatistics that prints as a table. Bytes are of the clients' IP packets."""

    __slots__ = ()

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """VIP, backend, weight, packets, bytes."""
        found = []
        for vip in self:
            found.append((str(vip.frontend), "", "", str(vip.packets), str(vip.bytes)))
            found += [
                ("", str(one.backend), str(one.weight), str(one.packets), str(one.bytes))
                for one in vip.backends
            ]
        return found

    def __str__(self) -> str:
        lines = [("vip", "backend", "weight", "packets", "bytes"), *self.rows()]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )

    def _repr_html_(self) -> str:
        rows = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in self.rows())
        return f"<table>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


class Tally:
    """Counters go on when a row is used again: what they began at is kept here."""

    def __init__(self, hops: Map) -> None:
        self._hops = hops
        self._began: dict[int, Counter] = {}
        self._gone: dict[Frontend, Counter] = {}

    def forget(self, changes: Changes) -> None:
        """Rows that are about to be used begin at what they have counted for others."""
        for _, member in changes.rows:
            if member.generation > 1:
                self._began[member.index] = self._raw(member.index)

    def adopt(self, changes: Changes) -> None:
        """What backends that have gone were sent stays with their VIP."""
        for vip, member in changes.gone:
            self._gone[vip.frontend] = _sum(self._of(vip.frontend), self._sent(member))
        for vip in changes.removed:
            self._gone.pop(vip.frontend, None)

    def read(self, vips: list[Vip]) -> Statistics:
        """One look at every backend of these VIPs."""
        return Statistics(self._vip(vip) for vip in vips)

    def _vip(self, vip: Vip) -> VipStatistics:
        backends = []
        total = self._of(vip.frontend)
        for member in vip.members.values():
            sent = self._sent(member)
            total = _sum(total, sent)
            row = BackendStatistics(member.backend, member.weight, sent.packets, sent.bytes)
            backends.append(row)
        return VipStatistics(vip.frontend, total.packets, total.bytes, tuple(backends))

    def _of(self, frontend: Frontend) -> Counter:
        return self._gone.get(frontend, Counter(0, 0))

    def _sent(self, member: Member) -> Counter:
        now, then = self._raw(member.index), self._began.get(member.index, Counter(0, 0))
        return Counter(now.packets - then.packets, now.bytes - then.bytes)

    def _raw(self, index: int) -> Counter:
        cpus = self._hops[index]
        return Counter(sum(one.packets for one in cpus), sum(one.bytes for one in cpus))


def _sum(one: Counter, other: Counter) -> Counter:
    return Counter(one.packets + other.packets, one.bytes + other.bytes)
