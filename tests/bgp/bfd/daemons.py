# SPDX-License-Identifier: Apache-2.0
"""BIRD and FRR's bfdd as peers, each in a namespace, with nothing but BFD."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from pycilium.net import NetNS, addresses, links, routes, sysctl

V4 = ("10.0.0.1", "10.0.0.254")
V6 = ("fd00::1", "fd00::fe")
FAR = "10.9.9.9"  # of the router, one hop behind


@attrs.frozen
class Scene:
    """Our namespace and the router's, on one link."""

    ours: NetNS
    router: NetNS
    device: int  # index of our end


@contextmanager
def scene() -> Iterator[Scene]:
    """10.0.0.1 and fd00::1 here, 10.0.0.254, fd00::fe and 10.9.9.9 there."""
    with NetNS.create() as ours, NetNS.create() as router:
        for ns in (ours, router):  # no wait for duplicate address detection
            sysctl.write("net.ipv6.conf.default.accept_dad", 0, ns=ns)
        near, far = links.create_veth("eth0", "eth0", peer_ns=router, ns=ours)
        for ns, link, own in ((ours, near, 0), (router, far, 1)):
            addresses.add(f"{V4[own]}/24", link.index, ns=ns)
            addresses.add(f"{V6[own]}/64", link.index, ns=ns)
            links.set_up(link.index, ns=ns)
        addresses.add(f"{FAR}/32", 1, ns=router)
        routes.add(f"{FAR}/32", dev=near.index, via=V4[1], ns=ours)
        yield Scene(ours, router, near.index)


class Bird:
    """A running BIRD."""

    def __init__(self, process: subprocess.Popen[bytes], control: Path) -> None:
        self.process = process
        self._control = control

    def state(self, peer: str) -> str:
        """The state in `show bfd sessions`."""
        return self._row(peer)[2]

    def timers(self, peer: str) -> tuple[float, float]:
        """Interval and detection time in seconds, as negotiated."""
        row = self._row(peer)
        return float(row[4]), float(row[5])

    def command(self, *words: str) -> str:
        done = subprocess.run(
            ["/usr/sbin/birdc", "-s", str(self._control), *words],
            capture_output=True, text=True, check=True, timeout=10,
        )  # fmt: skip
        return done.stdout

    def configure(self, text: str) -> None:
        """Load another configuration."""
        path = self._control.with_suffix(".conf")
        path.write_text(text)
        assert "Reconfigur" in self.command("configure")

    def _row(self, peer: str) -> list[str]:
        for line in self.command("show", "bfd", "sessions").splitlines():
            if line.split()[:1] == [peer]:
                return line.split()
        raise AssertionError(f"BIRD has no session with {peer}")


@contextmanager
def bird(ns: NetNS, directory: Path, text: str) -> Iterator[Bird]:
    """BIRD with a configuration."""
    assert Path("/usr/sbin/bird").exists(), "bird2 is needed"
    config, control = directory / "bird.conf", directory / "bird.ctl"
    config.write_text(text)
    process = ns.popen(["/usr/sbin/bird", "-f", "-c", str(config), "-s", str(control)])
    try:
        until(control.exists)
        yield Bird(process, control)
    finally:
        process.kill()
        process.wait()
        control.unlink(missing_ok=True)


def bird_configuration(*neighbours: str, timers: str = "interval 100 ms;", more: str = "") -> str:
    """One `protocol bfd`; neighbours as BIRD writes them, without the word."""
    named = "".join(f" neighbor {one};\n" for one in neighbours)
    options = f"{{ {timers} multiplier 3; {more} }}"
    return (
        "router id 10.0.0.254;\nprotocol device {}\n"
        f'protocol bfd {{\n interface "*" {options};\n multihop {options};\n{named}}}\n'
    )


class Frr:
    """A running bfdd with its zebra."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def command(self, *lines: str) -> str:
        words = [word for line in lines for word in ("-c", line)]
        done = subprocess.run(
            ["vtysh", "--vty_socket", str(self._directory), *words],
            capture_output=True, text=True, check=False, timeout=20,
        )  # fmt: skip
        return done.stdout + done.stderr

    def state(self, peer: str) -> str:
        """The state in `show bfd peers brief`."""
        for line in self.command("show bfd peers brief").splitlines():
            if peer in line.split():
                return line.split()[-1]
        return "absent"

    def number(self, peer: str, name: str) -> int:
        """A figure of `show bfd peer`, by its last mention."""
        shown = self.command(f"show bfd peer {peer}")
        return int(re.findall(rf"{name}: (\d+)", shown)[-1])


@contextmanager
def frr(ns: NetNS, *lines: str) -> Iterator[Frr]:
    """zebra and bfdd, with `lines` under `bfd`; they drop root, hence a directory of their own."""
    assert Path("/usr/lib/frr/bfdd").exists(), "frr is needed"
    processes: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        shutil.chown(directory, "frr", "frr")
        try:
            for daemon in ("zebra", "bfdd"):
                processes.append(ns.popen(_frr_command(daemon, directory)))
                until((directory / f"{daemon}.vty").exists)
            running = Frr(directory)
            running.command("configure terminal", "bfd", *lines)
            yield running
        finally:
            for process in reversed(processes):
                process.kill()
                process.wait()


def _frr_command(daemon: str, directory: Path) -> list[str]:
    config = directory / f"{daemon}.conf"
    config.touch()
    command = [
        f"/usr/lib/frr/{daemon}", "-f", str(config), "-z", str(directory / "zserv.api"),
        "--vty_socket", str(directory), "-i", str(directory / f"{daemon}.pid"), "-P", "0",
    ]  # fmt: skip
    if daemon == "bfdd":
        command += ["--bfdctl", str(directory / "bfdd.sock")]
    return command


def until(condition: object, seconds: float = 10.0) -> None:
    """Wait for a condition, or fail."""
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.02)


def kill(process: subprocess.Popen[bytes]) -> None:
    """As a crash would."""
    process.kill()
    process.wait()
