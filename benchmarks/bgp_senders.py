# SPDX-License-Identifier: Apache-2.0
"""Those that announce to BIRD: pycilium, BIRD, GoBGP, ExaBGP; each behind the same four words."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.bgp_speaker import prefixes
from benchmarks.errors import BenchmarkError
from pycilium.bgp import RouteGroup, write_mrt
from pycilium.bgp.as_path import AsPath
from pycilium.bgp.attributes import Attributes
from pycilium.bgp.prefix import parse_address
from pycilium.bgp.router import Router
from tests.bgp.lab import OURS, THEIRS, Bird, Daemon, Wire, bird_peer, tool

ROOT = Path(__file__).parents[1]
US, THEM = 64512, 64513
_EXABGP = """
process feed {{ run {python} {script}; encoder text; }}
neighbor {theirs} {{
  router-id {ours}; local-address {ours}; local-as 64512; peer-as 64513;
  family {{ ipv4 unicast; }}
  api {{ processes [ feed ]; }}
}}
"""
_FEED = """
import sys, time, pathlib
go = pathlib.Path({go!r})
while not go.exists():
    time.sleep(0.005)
texts = pathlib.Path({prefixes!r}).read_text().split()
for at in range(0, len(texts), 200):
    some = " ".join(texts[at : at + 200])
    sys.stdout.write("announce attributes next-hop {ours} nlri " + some + "\\n")
    sys.stdout.flush()
time.sleep(600)
"""
_GOBGP = """
[global.config]
  as = 64512
  router-id = "{ours}"
[[neighbors]]
  [neighbors.config]
    neighbor-address = "{theirs}"
    peer-as = 64513
"""


_LOST = 1_000
_GOBGP_API = "127.0.0.1:50051"


class Process:
    """A worker of bgp_speaker.py in a namespace."""

    def __init__(self, net: Wire, where: Path, *more: str) -> None:
        self._log = (where / "speaker.log").open("wb")
        env = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
        command = [sys.executable, "-m", "benchmarks.bgp_speaker", str(US), OURS, *more]
        self._process = net.here.popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, env=env
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, *words: Any) -> None:
        self._process.stdin.write(json.dumps(words).encode() + b"\n")
        self._process.stdin.flush()

    def hear(self) -> Any:
        line = self._process.stdout.readline()
        if not line:
            raise BenchmarkError(f"the speaker ended; see {self._log.name}")
        return json.loads(line)

    def ask(self, *words: Any) -> Any:
        self.tell(*words)
        return self.hear()

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()
        self._log.close()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class Sender:
    """announce() and withdraw() give the time at which they were asked to."""

    pid: int

    def announce(self) -> float:
        raise NotImplementedError

    def withdraw(self) -> float:
        raise NotImplementedError


class Pycilium(Sender):
    def __init__(self, process: Process, count: int, different: bool) -> None:
        self._process, self._different = process, different
        process.ask("prepare", count)
        process.ask("peer", THEIRS, THEM)

    def announce(self) -> float:
        return self._process.ask("announce", self._different)

    def withdraw(self) -> float:
        self._process.ask("prepare", 0)
        return self._process.ask("announce")


def bird_statics(count: int, different: bool) -> str:
    """A disabled protocol with as many routes; enabling it announces them."""
    meds = (f" {{ bgp_med = {i}; }}" if different else "" for i in range(count))
    lines = (f"route {p} blackhole{m};" for p, m in zip(prefixes(count), meds, strict=True))
    return "protocol static s4 { disabled; ipv4; " + "\n".join(lines) + " }\n"


class BirdSender(Sender):
    def __init__(self, net: Wire, where: Path, count: int, different: bool) -> None:
        session = bird_peer(asn=US, remote=THEM, local=OURS, neighbour=THEIRS, more="")
        body = session + bird_statics(count, different)
        self._bird = Bird(net.here, where / "sender", body, router_id=OURS)
        self.pid = self._bird.pid

    def announce(self) -> float:
        begin = time.monotonic()
        self._bird.ask("enable", "s4")
        return begin

    def withdraw(self) -> float:
        begin = time.monotonic()
        self._bird.ask("disable", "s4")
        return begin

    def close(self) -> None:
        self._bird.close()


class GoBgp(Sender):
    """Routes come from an MRT file: the fastest way in that its commands have.

    It loses about a thousand routes at the end of the file: the file holds so many more, and what
    counts is when 90 % of those that were asked for have come.
    """

    def __init__(self, net: Wire, where: Path, count: int) -> None:
        self._net, self._dump = net, where / "routes.mrt"
        self._write(count)
        (where / "gobgp.toml").write_text(_GOBGP.format(ours=OURS, theirs=THEIRS))
        command = [
            tool("gobgpd"),
            "-f",
            str(where / "gobgp.toml"),
            "--api-hosts",
            "127.0.0.1:50051",
        ]
        self._daemon = Daemon(net.here, command, where / "gobgp.log")
        self.pid = self._daemon.process.pid

    def _write(self, count: int) -> None:
        router = Router()
        one = Attributes(as_path=AsPath.of(64999), next_hop=parse_address("10.0.0.9"))
        router.announce([RouteGroup(prefixes(count + _LOST), one)])
        with self._dump.open("wb") as out:
            write_mrt(router, parse_address(OURS), out)

    def announce(self) -> float:
        begin = time.monotonic()
        command = [tool("gobgp"), "-u", "127.0.0.1", "mrt", "inject", "global", str(self._dump)]
        command += ["--nexthop", OURS]
        self._injecting = Daemon(self._net.here, command, self._dump.with_suffix(".log"))
        return begin

    def close(self) -> None:
        if hasattr(self, "_injecting"):
            self._injecting.stop()
        self._daemon.stop()


class ExaBgp(Sender):
    """Its documented fast way: a line for two hundred prefixes with shared attributes."""

    def __init__(self, net: Wire, where: Path, count: int) -> None:
        self._go, listed, script = where / "go", where / "prefixes", where / "feed.py"
        listed.write_text("\n".join(prefixes(count)))
        script.write_text(_FEED.format(go=str(self._go), prefixes=str(listed), ours=OURS))
        config = where / "exabgp.conf"
        config.write_text(
            _EXABGP.format(python=sys.executable, script=script, ours=OURS, theirs=THEIRS)
        )
        command = [str(Path(sys.executable).with_name("exabgp")), "server", str(config)]
        env = {"exabgp_daemon_user": "root", "exabgp_api_ack": "false", "exabgp_api_cli": "false",
               "exabgp_log_enable": "false"}  # fmt: skip
        self._daemon = Daemon(net.here, command, where / "exabgp.log", **env)
        self.pid = self._daemon.process.pid

    def announce(self) -> float:
        begin = time.monotonic()
        self._go.touch()
        return begin

    def close(self) -> None:
        self._daemon.stop()


@contextlib.contextmanager
def sender(
    kind: str, net: Wire, where: Path, count: int, *, different: bool = False
) -> Iterator[Sender]:
    """One of the four, with its session being made."""
    if kind == "pycilium":
        with Process(net, where) as process:
            one = Pycilium(process, count, different)
            one.pid = process.pid
            yield one
        return
    makers = {"BIRD": BirdSender, "GoBGP": GoBgp, "ExaBGP": ExaBgp}
    made = (
        BirdSender(net, where, count, different)
        if kind == "BIRD"
        else makers[kind](net, where, count)
    )
    try:
        yield made
    finally:
        made.close()
