# SPDX-License-Identifier: Apache-2.0
"""`pycilium lb`: the services of a pinned datapath, from Kubernetes manifests."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Any

import click

from pycilium.cli.adoption import MODES, Taken, give_back, take_over
from pycilium.cli.journal import Journal
from pycilium.cli.output import structured, table
from pycilium.cli.service_output import differences, show, to_dict
from pycilium.cli.sources import texts
from pycilium.documents import one_of
from pycilium.errors import SpecError
from pycilium.lb.manifests import read_services
from pycilium.model.service import ServiceLB

if TYPE_CHECKING:
    from pycilium.datapath import Datapath

_BPFFS = "/sys/fs/bpf"
_STATE = "/run/pycilium"
_OUTPUT = click.option(
    "--output", "-o", type=click.Choice(("table", "json", "yaml")), default="table"
)
_DRY = click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")


def _where(command: Any) -> Any:
    """The pinned datapath that a command is about."""
    for name, default, text in (
        ("--state", _STATE, "Where the journal for undo is kept."),
        ("--bpffs", _BPFFS, "The BPF file system."),
        ("--pin", "pycilium", "The datapath's name."),
    ):
        option: Callable[[Any], Any] = click.option(
            name, default=default, show_default=True, help=text
        )
        command = option(command)
    return command


@click.group()
def lb() -> None:
    """Services of a pinned datapath, from Service, EndpointSlice and Endpoints manifests."""


@lb.command()
@click.option(
    "--file", "-f", "files", multiple=True, required=True, metavar="SOURCE",
    help="A file, a folder, or - for standard input; may repeat.",
)  # fmt: skip
@click.option("--node-address", multiple=True, help="Where node ports are served; may repeat.")
@click.option("--go-on", is_flag=True, help="Leave out what is wrong or not supported.")
@_DRY
@_OUTPUT
@_where
def apply(
    files: tuple[str, ...],
    node_address: tuple[str, ...],
    go_on: bool,
    dry_run: bool,
    output: str,
    pin: str,
    bpffs: str,
    state: str,
) -> None:
    """Make these the services in force, all others gone.

    Makes the datapath if there is none. Exit code 1 if something was left out.
    """
    addresses = [_address(one) for one in node_address]
    found = read_services(texts(files), node_addresses=addresses, go_on=go_on)
    with _datapath(pin, bpffs, lasting=not dry_run) as datapath:
        problems = [*found.errors, *(datapath.services.refused(found.services) if go_on else ())]
        before = tuple(datapath.services)
        delta = datapath.services.plan(found.services, go_on=go_on)
        if delta and not dry_run:
            Journal(state, pin).push(before)
            datapath.services.apply(found.services, go_on=go_on)
        left_out = {id(one) for one in found.services if go_on and datapath.services.refused(one)}
        after = [one for one in found.services if id(one) not in left_out]
        _report(before, after, len(delta.entries), output)
    for problem in problems:
        click.echo(str(problem), err=True)
    sys.exit(1 if problems else 0)


@lb.command()
@_DRY
@_OUTPUT
@_where
def undo(dry_run: bool, output: str, pin: str, bpffs: str, state: str) -> None:
    """Restore what was in force before the last apply; repeat it for the one before that.

    Where nothing was applied since adopt, give the services back.
    """
    from pycilium.datapath import Datapath

    journal, taken = Journal(state, pin), Taken(state, pin)
    if journal.is_empty and taken.exists:
        give_back(taken, bpffs, dry_run=dry_run)
        return
    wanted = journal.last()
    with Datapath.adopt(pin, bpffs=bpffs) as datapath:
        before = tuple(datapath.services)
        delta = datapath.services.plan(wanted)
        if not dry_run:
            datapath.services.apply(wanted)
            journal.pop()
        _report(before, wanted, len(delta.entries), output)


@lb.command()
@click.option(
    "--from", "source", type=click.Choice(MODES), required=True, help="kube-proxy's mode."
)
@click.option("--go-on", is_flag=True, help="Leave to kube-proxy's rules what cannot be taken.")
@click.option(
    "--socket-lb",
    metavar="CGROUP",
    help="Where there is no datapath yet: make one that serves the processes of this cgroup.",
)
@_DRY
@_where
def adopt(
    source: str,
    go_on: bool,
    socket_lb: str | None,
    dry_run: bool,
    pin: str,
    bpffs: str,
    state: str,
) -> None:
    """Take services over from kube-proxy's rules, with no connection lost.

    Stop kube-proxy first: it would put its rules back. New connections are then served here;
    those that are open stay with the kernel's own connection tracking. Exit code 1 if something
    was left to kube-proxy's rules.
    """
    from pycilium.datapath import Datapath, is_pinned

    if is_pinned(pin, bpffs):
        opened = Datapath.adopt(pin, bpffs=bpffs)
    elif socket_lb is None:
        allowed = "a pinned datapath whose endpoints are served; or --socket-lb CGROUP makes one"
        raise SpecError("--pin", pin, allowed)
    else:
        opened = Datapath.open(pin=None if dry_run else pin, bpffs=bpffs, socket_lb=socket_lb)
    with opened as datapath:
        left = take_over(datapath, source, Taken(state, pin), go_on=go_on, dry_run=dry_run)
    if not dry_run:
        Journal(state, pin).clear()
    sys.exit(1 if left else 0)


@lb.command()
@click.option("--to", "target", type=click.Choice(MODES), required=True, help="kube-proxy's mode.")
@_DRY
@_where
def release(target: str, dry_run: bool, pin: str, bpffs: str, state: str) -> None:
    """Give the services of adopt back to kube-proxy's rules, with no connection lost."""
    taken = Taken(state, pin)
    if taken.mode != target:
        raise SpecError("--to", target, f"{taken.mode}, from which they were taken")
    give_back(taken, bpffs, dry_run=dry_run)


@lb.command(name="list")
@_OUTPUT
@_where
def list_(output: str, pin: str, bpffs: str, state: str) -> None:  # noqa: ARG001 - as its siblings
    """The services in force."""
    click.echo(show(_read(pin, bpffs), output))


@lb.command()
@click.argument("name")
@_OUTPUT
@_where
def get(name: str, output: str, pin: str, bpffs: str, state: str) -> None:  # noqa: ARG001
    """One service, by its name or by a frontend: each backend with its state."""
    services = _read(pin, bpffs)
    found = [one for one in services if name in _names(one)]
    if not found:
        known = sorted({one for service in services for one in _names(service) if one})
        raise SpecError("service", name, one_of(name, known))
    if output != "table":
        click.echo(structured([to_dict(one) for one in found], output))
        return
    click.echo(show(found, output))
    backends = [
        {"backend": b, "state": b.state.value, "weight": b.weight, "node": b.node, "zone": b.zone}
        for one in found
        for b in one.backends
    ]
    click.echo(table(("backend", "state", "weight", "node", "zone"), backends))


@lb.command()
@_OUTPUT
@_where
def status(output: str, pin: str, bpffs: str, state: str) -> None:  # noqa: ARG001
    """How many services and backends there are, how full the maps, what was dropped."""
    from pycilium.datapath import peek

    seen = peek(pin, bpffs=bpffs)
    services, backends = len(seen.services), sum(len(one.backends) for one in seen.services)
    drops = {n: c.packets for n, c in seen.counters.items() if n.startswith("PCL_DROP")}
    if output != "table":
        fill = {name: {"used": used, "size": size} for name, (used, size) in seen.fill.items()}
        content = {"services": services, "backends": backends, "maps": fill, "drops": drops}
        click.echo(structured(content, output))
        return
    rows: list[tuple[str, object]] = [("services", services), ("backends", backends)]
    rows += [(name, f"{used} of {size}") for name, (used, size) in seen.fill.items()]
    rows += [(name, f"{packets} packets") for name, packets in drops.items()]
    click.echo(table(("what", "count"), ({"what": name, "count": n} for name, n in rows)))


@lb.command()
@click.option("--timeout", type=float, help="Seconds after which it ends; else never.")
@click.option("--interval", type=click.FloatRange(min=0.05), default=1.0, show_default=True)
@_where
def watch(timeout: float | None, interval: float, pin: str, bpffs: str, state: str) -> None:  # noqa: ARG001
    """The services in force, and what changes, as it does."""
    end = None if timeout is None else time.monotonic() + timeout
    before: tuple[ServiceLB, ...] = ()
    while True:
        now = _read(pin, bpffs)
        for sign, one in differences(before, now):
            click.echo(f"{sign} {one}")
        before = now
        if end is not None and time.monotonic() + interval > end:
            return
        time.sleep(interval)


def _report(before: Any, after: Any, entries: int, output: str) -> None:
    changes = differences(before, after)
    if output != "table":
        rows = [{"change": sign, **to_dict(one)} for sign, one in changes]
        click.echo(structured({"changes": rows, "entries": entries}, output))
        return
    for sign, one in changes:
        click.echo(f"{sign} {one}")
    counts = ", ".join(
        f"{sum(sign == s for s, _ in changes)} {word}"
        for sign, word in (("+", "added"), ("~", "changed"), ("-", "removed"))
    )
    click.echo(f"{counts}; {entries} map entries")


def _datapath(pin: str, bpffs: str, *, lasting: bool) -> Datapath:
    """The pinned one; where there is none, a new one, which only stays where it shall last."""
    from pycilium.datapath import Datapath, is_pinned

    if is_pinned(pin, bpffs):
        return Datapath.adopt(pin, bpffs=bpffs)
    return Datapath.open(pin=pin if lasting else None, bpffs=bpffs)


def _read(pin: str, bpffs: str) -> tuple[ServiceLB, ...]:
    from pycilium.datapath import peek

    return peek(pin, bpffs=bpffs).services


def _names(service: ServiceLB) -> tuple[str, ...]:
    """Its name with and without the port's, and its frontend."""
    return service.name, service.name.partition(":")[0], str(service.frontend)


def _address(text: str) -> IPv4Address | IPv6Address:
    try:
        return ip_address(text)
    except ValueError:
        raise SpecError("--node-address", text, "an IP address") from None
