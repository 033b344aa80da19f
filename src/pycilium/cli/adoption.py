# SPDX-License-Identifier: Apache-2.0
"""Services out of kube-proxy's rules and back, around a datapath that serves them meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from pycilium.errors import ConflictError, SpecError
from pycilium.lb.adopt import Adoption, Removal, iptables, nftables
from pycilium.model.frontend import Frontend

if TYPE_CHECKING:
    from pycilium.datapath import Datapath

MODES = ("iptables", "iptables-legacy", "iptables-nft", "nftables")
_FAMILIES = {4: ("iptables", "ip"), 6: ("ip6tables", "ip6")}
_SECONDS = 600


@attrs.frozen
class Part:
    """The rules of one family that go; `mode` as on the command line."""

    mode: str
    family: int
    removals: tuple[Removal, ...]

    def remove(self) -> None:
        """All of them in one transaction for each table."""
        self._feed([(one.table, one.remove) for one in self.removals])

    def restore(self) -> None:
        """At their old places."""
        self._feed([(one.table, one.restore) for one in self.removals])

    def _feed(self, commands: list[tuple[str, str]]) -> None:
        if not commands:
            return
        if self.mode == "nftables":
            _run(["nft", "-f", "-"], "".join(f"{line}\n" for _, line in commands))
            return
        text = ""
        for table, lines in groupby(sorted(commands, key=_table), key=_table):
            text += "\n".join([f"*{table}", *(line for _, line in lines), "COMMIT\n"])
        wait = () if self.mode == "iptables-nft" else ("--wait", "60")
        _run([_tool(self.mode, self.family, "restore"), "--noflush", *wait], text)


class Taken:
    """A file for each pinned datapath: what was taken over, and the rules that are to come back."""

    def __init__(self, directory: str, pin: str) -> None:
        self.pin = pin
        self._path = Path(directory) / f"{pin}.adopted.json"

    @property
    def exists(self) -> bool:
        """Whether services have been taken over and not been given back."""
        return self._path.exists()

    @property
    def mode(self) -> str:
        """From which they were taken. Raises SpecError."""
        return str(self._read()["mode"])

    def load(self) -> tuple[list[Part], list[Frontend]]:
        """Raises SpecError where there is nothing, or no such file."""
        found = self._read()
        try:
            parts = [
                Part(found["mode"], one["family"], tuple(Removal(*row) for row in one["removals"]))
                for one in found["parts"]
            ]
            return parts, [Frontend.parse(one) for one in found["frontends"]]
        except (KeyError, TypeError) as error:
            raise SpecError("adoption", str(self._path), f"one of adopt's ({error})") from None

    def save(self, mode: str, parts: Iterable[Part], frontends: Iterable[Frontend]) -> None:
        """Whole or not at all, before anything is removed."""
        rows = [
            {"family": one.family, "removals": [attrs.astuple(r) for r in one.removals]}
            for one in parts
        ]
        content = {"mode": mode, "parts": rows, "frontends": [str(one) for one in frontends]}
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps(content))
        os.replace(fresh, self._path)  # noqa: PTH105 - the same as Path.replace, and its name

    def forget(self) -> None:
        """They have been given back."""
        self._path.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self._path.read_text())
        except FileNotFoundError:
            allowed = "services that adopt has taken over"
            raise SpecError("release", str(self._path), allowed) from None
        except ValueError as error:
            raise SpecError("adoption", str(self._path), f"one of adopt's ({error})") from None
        return found


def take_over(
    datapath: Datapath, mode: str, taken: Taken, *, go_on: bool, dry_run: bool
) -> list[str]:
    """Serve what the rules serve, then take away what leads to them; what was left, as text.

    Raises ConflictError where services are taken over already, SpecError for what cannot be.
    """
    if taken.exists:
        raise ConflictError(f"services are taken over already: {taken.pin}; release them first")
    node = datapath.services.node_name
    found = {family: adoption for family in _FAMILIES
             if (adoption := _read_rules(mode, family, node)) is not None}  # fmt: skip
    if not any(one.jumps for one in found.values()):
        raise SpecError("--from", mode, "rules of kube-proxy's that packets are led to")
    services = [service for one in found.values() for service in one.services]
    refused = datapath.services.refused(services)
    left = [*(str(u) for one in found.values() for u in one.unread), *map(str, refused)]
    for problem in left:
        click.echo(problem, err=True)
    if left and not go_on:
        allowed = "rules that can all be taken over; --go-on leaves these in force"
        raise SpecError("--from", f"{len(left)} problems", allowed)
    chosen = [one for one in services if not datapath.services.refused(one)]
    frontends = {one.frontend for one in chosen}
    parts = [Part(mode, family, one.removals(frontends)) for family, one in found.items()]
    wanted = [*(one for one in datapath.services if one.frontend not in frontends), *chosen]
    delta = datapath.services.plan(wanted)
    for one in chosen:
        click.echo(f"+ {one}")
    _show(part.removals for part in parts)
    click.echo(f"{len(chosen)} services; {len(delta.entries)} map entries")
    if not dry_run:
        taken.save(mode, parts, frontends)
        datapath.services.apply(wanted)
        for part in parts:
            part.remove()
    return left


def give_back(taken: Taken, bpffs: str, *, dry_run: bool) -> None:
    """The reverse: the rules first, then new connections are left to them."""
    from pycilium.datapath import Datapath

    parts, frontends = taken.load()
    for part in parts:
        for one in part.removals:
            click.echo(f"{one.table} {one.restore}".strip())
    if dry_run:
        return
    with Datapath.adopt(taken.pin, bpffs=bpffs) as datapath:
        for part in parts:
            part.restore()
        datapath.services.release(frontends)
    taken.forget()


def _show(several: Iterable[tuple[Removal, ...]]) -> None:
    for removals in several:
        for one in removals:
            click.echo(f"{one.table} {one.remove}".strip())


def _read_rules(mode: str, family: int, node: str) -> Adoption | None:
    """None where a family has nothing of kube-proxy's."""
    if mode == "nftables":
        command = ["nft", "-j", "list", "table", _FAMILIES[family][1], "kube-proxy"]
        text = _run(command, missing="No such file or directory")
        return nftables.read(text, family=family, node=node) if text else None
    tool = _tool(mode, family, "save")
    text = _run([tool])
    if ":KUBE-SERVICES" not in text:
        return None
    return iptables.read(text, family=family, node=node, file=tool)


def _tool(mode: str, family: int, verb: str) -> str:
    variant = mode.removeprefix("iptables")
    return f"{_FAMILIES[family][0]}{variant}-{verb}"


def _table(command: tuple[str, str]) -> str:
    return command[0]


def _run(command: list[str], text: str = "", *, missing: str = "") -> str:
    """What a tool prints; "" where it says that what was asked for is missing."""
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, check=False, timeout=_SECONDS
        )
    except FileNotFoundError:
        raise SpecError("--from", command[0], "a tool that is installed") from None
    if done.returncode and missing and missing in done.stderr:
        return ""
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it failed"])[0]
        raise SpecError("rules", " ".join(command), f"rules that the tool takes ({said})")
    return done.stdout
