# SPDX-License-Identifier: Apache-2.0
"""A speaker in a process of its own, told what to do by lines on standard input.

Its memory and processor time are those of the speaker alone. Times are CLOCK_MONOTONIC, which all
processes share.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import nullcontext
from pathlib import Path

from pycilium.bgp import BfdLiveness, Family, Peer, PeerOptions, Route, RouteGroup, Speaker
from pycilium.bgp.bfd import Monitor
from pycilium.bgp.liveness import Unwatch
from pycilium.bgp.prefix import prefix_text


def prefixes(count: int) -> list[str]:
    """/24 from 20.0.0.0 on."""
    return [f"{20 + (i >> 16)}.{i >> 8 & 255}.{i & 255}.0/24" for i in range(count)]


class Worker:
    """One speaker and the peers that it was told of."""

    def __init__(self, speaker: Speaker) -> None:
        self.speaker = speaker
        self.texts: list[str] = []

    async def peer(self, address: str, asn: int, hold_time: int = 90) -> float:
        options = PeerOptions(hold_time=hold_time, graceful_restart=0, connect_retry=0.5)
        begin = time.monotonic()
        await self.speaker.peer(Peer(address, asn=asn, options=options))
        return time.monotonic() - begin

    async def prepare(self, count: int) -> None:
        """The texts, which are not the speaker's to pay for."""
        self.texts = prefixes(count)

    async def announce(self, different: bool = False) -> float:
        """When the call was made."""
        texts = self.texts
        begin = time.monotonic()
        if different:
            self.speaker.announce([Route(text, med=i) for i, text in enumerate(texts)])
        else:
            self.speaker.announce([RouteGroup(texts)])
        return begin

    async def holds(self, count: int) -> float:
        """When the IPv4 table has come to hold so many."""
        table = self.speaker.router.tables[Family.IPV4]
        while len(table) != count:
            await asyncio.sleep(0.002)
        return time.monotonic()

    async def moved(self, address: str) -> float:
        """When no best path is of this peer any more."""
        table = self.speaker.router.tables[Family.IPV4]
        first = next(iter(table))
        while table.best(first) is None or table.best(first).source.name == address:
            await asyncio.sleep(0.002)
        while any(table.best(one).source.name == address for one in table):
            await asyncio.sleep(0.002)
        return time.monotonic()

    async def why(self, times: int) -> float:
        """Seconds for one."""
        some = list(self.speaker.router.tables[Family.IPV4])[::997][:times]
        texts = [prefix_text(Family.IPV4, one) for one in some]
        begin = time.perf_counter()
        for one in texts:
            self.speaker.why(one)
        return (time.perf_counter() - begin) / len(texts)

    async def usage(self) -> list[float]:
        """Resident octets, and seconds of processor time."""
        gc.collect()
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return [int(status.split("VmRSS:")[1].split()[0]) * 1024, time.process_time()]


class FirstOnly(BfdLiveness):
    """Both daemons are on one host there, and only one of them can have the port of BFD."""

    def watch(self, local: str, remote: str, changed: Callable[[bool], None]) -> Unwatch:
        if self._watched:
            return lambda: None
        return super().watch(local, remote, changed)


async def _lines() -> AsyncIterator[str]:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield line.decode()


async def main(asn: int, router_id: str, monitor: Monitor | None) -> None:
    liveness = FirstOnly(monitor, interval=0.1) if monitor is not None else None
    async with Speaker(asn=asn, router_id=router_id, listen=True, liveness=liveness) as speaker:
        worker = Worker(speaker)
        async for line in _lines():
            name, *arguments = json.loads(line)
            print(json.dumps(await getattr(worker, name)(*arguments)), flush=True)


if __name__ == "__main__":
    with Monitor.open() if sys.argv[3:] == ["bfd"] else nullcontext() as watching:
        asyncio.run(main(int(sys.argv[1]), sys.argv[2], watching))
