# SPDX-License-Identifier: Apache-2.0
"""`pycilium bgp`: run a speaker, and ask and change a running one."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pycilium.bgp.control import DEFAULT, Control, ask
from pycilium.cli.output import table
from pycilium.errors import SpecError

if TYPE_CHECKING:
    from pycilium.bgp.config import Configuration

_SOCKET = click.option(
    "--socket", "-s", "path", default=str(DEFAULT), metavar="PATH", show_default=True,
    help="The control socket of a running speaker.",
)  # fmt: skip
_OUTPUT = click.option("--output", "-o", type=click.Choice(("table", "json")), default="table")


@click.group()
def bgp() -> None:
    """A BGP speaker: `run` starts one, the others talk to it."""


@bgp.command()
@click.option("--file", "-f", "files", multiple=True, required=True, metavar="FILE",
              help="bgp.yaml, or documents of Cilium's kinds; may repeat.")  # fmt: skip
@_SOCKET
@click.option("--router-id", metavar="ADDRESS", help="For Cilium's kinds.")
@click.option("--pod-cidr", "pod_cidrs", multiple=True, metavar="PREFIX",
              help="What PodCIDR advertisements announce.")  # fmt: skip
@click.option("--vip", "vips", multiple=True, metavar="ADDRESS[,KEY=VALUE...]",
              help="A service's address and its labels, for Service advertisements.")  # fmt: skip
@click.option("--secret", "secrets", multiple=True, metavar="NAME=FILE",
              help="What an authSecretRef names.")  # fmt: skip
@click.option("--check", is_flag=True, help="Read the documents, and no more.")
def run(
    files: tuple[str, ...],
    path: str,
    router_id: str | None,
    pod_cidrs: tuple[str, ...],
    vips: tuple[str, ...],
    secrets: tuple[str, ...],
    check: bool,
) -> None:
    """Speak BGP until a signal; SIGTERM withdraws, SIGUSR1 ends and leaves routes for a restart."""
    from pycilium.bgp.config import Configuration

    known = {name: Path(file).read_text().rstrip("\n") for name, file in map(_pair, secrets)}
    found = Configuration.read(files, router_id=router_id, secrets=known)
    routes = found.announced(pod_cidrs=pod_cidrs, vips=dict(map(_vip, vips)))
    if check:
        click.echo(f"AS {found.asn}, {len(found.peers)} peers, {len(routes)} routes")
        return
    asyncio.run(_speak(found, routes, Path(path)))


async def _speak(found: Configuration, routes: list[Any], path: Path) -> None:
    from pycilium.bgp.station import BmpStation

    ended = asyncio.Event()
    graceful = False

    def leave() -> None:
        nonlocal graceful
        graceful = True
        ended.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    loop.add_signal_handler(signal.SIGUSR1, leave)
    speaker = found.speaker()
    control = Control(speaker, path)
    await control.start()
    stations = [BmpStation(speaker, one.address, one.port) for one in found.stations]
    try:
        await speaker.start()
        speaker.announce(routes)
        for station in stations:
            station.start()
        await _report(speaker, ended)
    finally:
        for station in stations:
            await station.close()
        await speaker.close(graceful=graceful)
        await control.close()


async def _report(speaker: Any, ended: asyncio.Event) -> None:
    """Sessions that come and go, on standard error, until the end."""

    async def tell() -> None:
        async for event in feed:
            click.echo(f"{event.peer} {event.state} {event.reason}".rstrip(), err=True)

    feed = speaker.events()
    telling = asyncio.get_running_loop().create_task(tell())
    await ended.wait()
    feed.close()
    await telling


@bgp.command()
@_SOCKET
@_OUTPUT
def peers(path: str, output: str) -> None:
    """Every peer with its state, its last reason, and what was wrong with its messages."""
    found = list(ask({"command": "peers"}, Path(path)))
    if output == "json":
        click.echo(json.dumps(found, indent=2))
        return
    columns = ("peer", "asn", "state", "received", "sent", "flaps", "reason")
    click.echo(table(columns, found))
    for one in found:
        for text, count in one["problems"].items():
            click.echo(f"{one['peer']}: {count} times {text}")


@bgp.command()
@_SOCKET
@click.option("--output", "-o", type=click.Choice(("table", "json", "mrt")), default="table")
def routes(path: str, output: str) -> None:
    """Every path; mrt writes a TABLE_DUMP_V2 file to standard output."""
    if output == "mrt":
        for part in ask({"command": "dump"}, Path(path)):
            sys.stdout.buffer.write(base64.b64decode(part["mrt"]))
        return
    found: Iterator[dict[str, Any]] = ask({"command": "routes"}, Path(path))
    if output == "json":
        for one in found:
            click.echo(json.dumps(one, ensure_ascii=False))
        return
    columns = ("best", "prefix", "from", "next_hop", "as_path", "local_pref", "med", "communities")
    click.echo(table(columns, [{**one, "best": "*" if one["best"] else ""} for one in found]))


@bgp.command()
@click.argument("prefix")
@_SOCKET
def why(prefix: str, path: str) -> None:
    """Why a prefix is announced to each peer, or not."""
    for one in ask({"command": "why", "prefix": prefix}, Path(path)):
        click.echo(one["text"])


@bgp.command()
@click.argument("prefixes", nargs=-1, metavar="PREFIX...")
@click.option("--community", "communities", multiple=True, help="As in 64512:100; may repeat.")
@click.option("--med", type=click.IntRange(0, 0xFFFFFFFF))
@click.option("--mrt", "dump", metavar="FILE", help="Also the prefixes of an MRT table dump.")
@_SOCKET
def announce(
    prefixes: tuple[str, ...],
    communities: tuple[str, ...],
    med: int | None,
    dump: str | None,
    path: str,
) -> None:
    """Announce exactly these beside the configured ones; without any, withdraw the former ones."""
    wanted = [*prefixes, *(_of_dump(dump) if dump else ())]
    request = {
        "command": "announce",
        "prefixes": list(dict.fromkeys(wanted)),
        "communities": communities,
        "med": med,
    }
    for one in ask(request, Path(path)):
        click.echo(f"{one['added']} added, {one['changed']} changed, {one['removed']} removed")


def _of_dump(name: str) -> list[str]:
    from pycilium.bgp.mrt import read_mrt

    try:
        with Path(name).open("rb") as file:
            return [one.prefix for one in read_mrt(file)]
    except OSError as error:
        raise SpecError("mrt", name, f"a readable file ({error.strerror})") from None


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key or not value:
        raise SpecError("option", text, "KEY=VALUE")
    return key, value


def _vip(text: str) -> tuple[str, dict[str, str]]:
    address, *labels = text.split(",")
    return address, dict(map(_pair, labels))
