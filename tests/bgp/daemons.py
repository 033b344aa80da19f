# SPDX-License-Identifier: Apache-2.0
"""FRR, GoBGP and ExaBGP in a namespace, each asked in its own way."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bgp.lab import OURS, OURS6, THEIRS, Daemon, tool, until
from pycilium.net import NetNS


class Frr:
    """FRR's bgpd and zebra, asked through vtysh."""

    def __init__(self, ns: NetNS, where: Path) -> None:
        self._where = where
        self._daemons = []
        for name in ("zebra", "bgpd"):
            config = where / f"{name}.conf"
            config.touch()
            command = [f"/usr/lib/frr/{name}", "-f", str(config), "-z", str(where / "zserv.api")]
            command += ["--vty_socket", str(where), "-i", str(where / f"{name}.pid"), "-P", "0"]
            self._daemons.append(Daemon(ns, command, where / f"{name}.out"))
            until((where / f"{name}.vty").exists)

    def ask(self, *lines: str) -> str:
        words = [word for line in lines for word in ("-c", line)]
        done = subprocess.run(
            [tool("vtysh"), "--vty_socket", str(self._where), *words],
            capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
        return done.stdout + done.stderr

    def configure(self, text: str) -> None:
        """Lines as in frr.conf; a refused one fails the test."""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        said = self.ask("configure terminal", *lines)
        assert "%" not in said, said

    def neighbour(self, address: str = OURS) -> dict[str, Any]:
        shown = self.ask(f"show bgp neighbors {address} json")
        return json.loads(shown).get(address, {})

    @property
    def is_up(self) -> bool:
        return self.neighbour().get("bgpState") == "Established"

    def routes(self, family: str = "ipv4") -> dict[str, Any]:
        return json.loads(self.ask(f"show bgp {family} unicast json"))["routes"]

    def path(self, prefix: str, family: str = "ipv4") -> dict[str, Any]:
        return json.loads(self.ask(f"show bgp {family} unicast {prefix} json"))["paths"][0]

    def close(self) -> None:
        for one in reversed(self._daemons):
            one.stop()


@contextmanager
def frr(ns: NetNS) -> Iterator[Frr]:
    """They drop root, hence a directory of their own."""
    with tempfile.TemporaryDirectory() as name:
        where = Path(name)
        shutil.chown(where, "frr", "frr")
        one = Frr(ns, where)
        try:
            yield one
        finally:
            one.close()


class GoBgp:
    """gobgpd, asked through gobgp."""

    def __init__(self, ns: NetNS, where: Path, config: str) -> None:
        self._ns = ns
        (where / "gobgp.toml").write_text(config)
        command = [tool("gobgpd"), "-f", str(where / "gobgp.toml")]
        command += ["--api-hosts", "127.0.0.1:50051"]
        self._daemon = Daemon(ns, command, where / "gobgp.out")
        until(lambda: "rpc error" not in self.ask("global") and self.ask("global"))

    def ask(self, *words: str) -> str:
        process = self._ns.popen(
            [tool("gobgp"), *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        out, _ = process.communicate(timeout=30)
        return out.decode()

    def routes(self, family: str = "ipv4") -> dict[str, Any]:
        return json.loads(self.ask("global", "rib", "-a", family, "-j"))

    def neighbour(self, address: str = OURS) -> str:
        return self.ask("neighbor", address)

    def close(self) -> None:
        self._daemon.stop()

    def __enter__(self) -> GoBgp:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


GOBGP = f"""
[global.config]
  as = 64513
  router-id = "{THEIRS}"
[[neighbors]]
  [neighbors.config]
    neighbor-address = "{OURS}"
    peer-as = 64512
    auth-password = "s3cret"
  [neighbors.timers.config]
    connect-retry = 1
    hold-time = 9
  [neighbors.graceful-restart.config]
    enabled = true
    restart-time = 30
  [[neighbors.afi-safis]]
    [neighbors.afi-safis.config]
      afi-safi-name = "ipv4-unicast"
    [neighbors.afi-safis.mp-graceful-restart.config]
      enabled = true
    [neighbors.afi-safis.add-paths.config]
      receive = true
      send-max = 4
  [[neighbors.afi-safis]]
    [neighbors.afi-safis.config]
      afi-safi-name = "ipv6-unicast"
    [neighbors.afi-safis.mp-graceful-restart.config]
      enabled = true
"""

_MORE = "med 9 as-path [ 64513 4200000000 ]"
EXABGP = """
process hear {{ run {python} {script} {heard}; encoder json; }}
neighbor {ours} {{
  router-id {theirs}; local-address {theirs}; local-as 64513; peer-as 64512; hold-time 30;
  md5-password s3cret;
  family {{ ipv4 unicast; ipv6 unicast; }}
  capability {{ graceful-restart 30; route-refresh enable; extended-message enable;
    add-path send/receive; }}
  api {{ processes [ hear ]; receive {{ parsed; update; }} }}
  static {{
    route 192.0.2.0/24 next-hop {theirs} community [ 64513:5 ] large-community [ 1:2:3 ] {more};
  }}
}}
"""


class ExaBgp:
    """exabgp, which writes what it hears into a file."""

    def __init__(self, ns: NetNS, where: Path) -> None:
        self.heard = where / "heard"
        config = where / "exabgp.conf"
        script = where / "hear.py"
        script.write_text(
            "import sys\nout = open(sys.argv[1], 'a', buffering=1)\n"
            "for line in sys.stdin:\n    out.write(line)\n"
        )
        config.write_text(
            EXABGP.format(python=sys.executable, script=script,
                heard=self.heard, more=_MORE, ours=OURS,
                        theirs=THEIRS)
        )  # fmt: skip
        command = [str(Path(sys.executable).with_name("exabgp")), "server", str(config)]
        env = {"exabgp_daemon_user": "root", "exabgp_api_ack": "false", "exabgp_api_cli": "false"}
        self.daemon = Daemon(ns, command, where / "exabgp.out", **env)

    def said(self) -> str:
        return self.heard.read_text() if self.heard.exists() else ""

    def close(self) -> None:
        self.daemon.stop()

    def __enter__(self) -> ExaBgp:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


FRR_PEER = f"""
router bgp 64513
 bgp router-id {THEIRS}
 no bgp ebgp-requires-policy
 no bgp network import-check
 bgp graceful-restart
 timers bgp 3 9
 neighbor {OURS} remote-as 64512
 neighbor {OURS} timers connect 1
 neighbor {OURS} password s3cret
 neighbor {OURS} ttl-security hops 1
 neighbor {OURS} local-role provider
 neighbor {OURS6} remote-as 64512
 neighbor {OURS6} timers connect 1
 neighbor {OURS6} capability extended-nexthop
 address-family ipv4 unicast
  network 192.0.2.0/24
  neighbor {OURS} soft-reconfiguration inbound
  neighbor {OURS6} activate
 exit-address-family
 address-family ipv6 unicast
  neighbor {OURS6} activate
 exit-address-family
"""
