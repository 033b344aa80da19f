# SPDX-License-Identifier: Apache-2.0
"""Two namespaces on a wire, and real routing daemons in the second one."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pycilium.net import NetNS, addresses, links

T = TypeVar("T")
OURS, THEIRS = "10.0.0.1", "10.0.0.2"
OURS6, THEIRS6 = "fd00::1", "fd00::2"


class Wire:
    """Two namespaces: `here` is the speaker's, `there` the daemon's."""

    def __init__(self, here: NetNS, there: NetNS, near: int, far: int) -> None:
        self.here, self.there = here, there
        self.near, self.far = near, far

    def address_here(self, text: str) -> None:
        addresses.add(text, self.near, ns=self.here)

    def address_there(self, text: str) -> None:
        addresses.add(text, self.far, ns=self.there)


@contextmanager
def wire() -> Iterator[Wire]:
    with NetNS.create() as here, NetNS.create() as there:
        near, far = links.create_veth("wan", "lan", peer_ns=there, ns=here)
        for ns, link, texts in (
            (here, near, (f"{OURS}/24", f"{OURS6}/64")),
            (there, far, (f"{THEIRS}/24", f"{THEIRS6}/64")),
        ):
            ns.run(lambda: Path("/proc/sys/net/ipv6/conf/all/accept_dad").write_text("0"))
            ns.run(
                lambda name=link.name: Path(
                    f"/proc/sys/net/ipv6/conf/{name}/accept_dad"
                ).write_text("0")
            )
            links.set_up(link.index, ns=ns)
            for text in texts:
                addresses.add(text, link.index, ns=ns)
        yield Wire(here, there, near.index, far.index)


def until(question: Callable[[], T], seconds: float = 10.0) -> T:
    """The first true answer."""
    end = time.monotonic() + seconds
    while True:
        answer = question()
        if answer:
            return answer
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.02)


class Daemon:
    """A process in a namespace, its output in a file."""

    def __init__(self, ns: NetNS, command: list[str], log: Path, **env: str) -> None:
        self.log = log
        with log.open("ab") as out:
            self.process = ns.popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={**os.environ, **env}
            )

    def stop(self, how: int = signal.SIGTERM) -> None:
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(5)


BIRD = """
router id {router_id};
log "{log}" all;
protocol device {{ scan time 1; }}
{body}
"""
BIRD_PEER = """
protocol bgp {name} {{
  local {local} as {asn};
  neighbor {neighbour} as {remote};
  connect retry time 1;
  connect delay time 1;
  error wait time 1,2;
  {options}
  ipv4 {{ import all; export {export}; {channel} }};
  {more}
}}
"""


def bird_peer(
    options: str = "",
    *,
    name: str = "ours",
    asn: int = 64513,
    remote: int = 64512,
    local: str = THEIRS,
    neighbour: str = OURS,
    export: str = "all",
    channel: str = "",
    more: str = "ipv6 { import all; export all; };",
) -> str:
    return BIRD_PEER.format(**locals())


class Bird:
    """BIRD 2, asked through its control socket."""

    def __init__(
        self, ns: NetNS, where: Path, body: str, *, router_id: str = THEIRS, recover: bool = False
    ) -> None:
        where.mkdir(exist_ok=True)
        self.where = where
        self._socket = where / "bird.ctl"
        (where / "bird.conf").write_text(
            BIRD.format(router_id=router_id, log=where / "bird.log", body=body)
        )
        command = [tool("bird"), "-f", "-c", str(where / "bird.conf"), "-s", str(self._socket)]
        command += ["-P", str(where / "bird.pid"), *(["-R"] if recover else [])]
        self._daemon = Daemon(ns, command, where / "bird.out")
        self.pid = self._daemon.process.pid
        until(self._socket.exists)

    def ask(self, *words: str) -> str:
        """What birdc would print: lines "1234-text" go on, "1234 text" is the last one."""
        with socket.socket(socket.AF_UNIX) as one:
            one.settimeout(30)
            one.connect(str(self._socket))
            lines = one.makefile("rw", encoding="utf-8", errors="replace")
            lines.readline()  # the greeting
            lines.write(" ".join(words) + "\n")
            lines.flush()
            found = []
            for line in lines:
                coded = line[:4].isdigit()
                found.append(line[5:] if coded else line[1:])
                if coded and line[4] == " ":
                    break
            return "".join(found)

    def reconfigure(self, body: str, *, router_id: str = THEIRS) -> None:
        text = BIRD.format(router_id=router_id, log=self.where / "bird.log", body=body)
        (self.where / "bird.conf").write_text(text)
        self.ask("configure")

    def routes(self, *words: str) -> str:
        return self.ask("show", "route", "all", *words)

    def count(self, table: str = "master4", protocol: str = "ours") -> int:
        shown = self.ask("show", "route", "table", table, "protocol", protocol, "count")
        found = re.search(r"(\d+) of \d+ routes", shown)
        return int(found[1]) if found else 0

    def protocol(self, name: str = "ours") -> str:
        return self.ask("show", "protocols", "all", name)

    @property
    def is_up(self) -> bool:
        return "Established" in self.protocol()

    def log(self) -> str:
        return (self.where / "bird.log").read_text()

    def kill(self) -> None:
        self._daemon.stop(signal.SIGKILL)
        self._socket.unlink(missing_ok=True)

    def close(self) -> None:
        self._daemon.stop()

    def __enter__(self) -> Bird:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def tool(name: str) -> str:
    """A program that `make setup` installs; a missing one fails the test."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/lib/frr")
    assert found, f"{name} is missing: make setup installs it"
    return found
