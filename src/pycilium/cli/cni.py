# SPDX-License-Identifier: Apache-2.0
"""`pycilium cni`: put the plugin where a container runtime finds it, and take it away."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from pycilium.cli.output import table
from pycilium.cni.install import Change, Installation, Step, files, first_configuration
from pycilium.ipam import Pool

_STATE = "/var/lib/pycilium"
_CONF = "/etc/cni/net.d"
_DRY = click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")


def _where(command: Any) -> Any:
    for name, default, text in (
        ("--state", _STATE, "Where it is recorded what was installed."),
        ("--conf-dir", _CONF, "The runtime's network configurations."),
    ):
        option: Callable[[Any], Any] = click.option(
            name, default=default, show_default=True, help=text, type=click.Path(path_type=Path)
        )
        command = option(command)
    return command


@click.group()
def cni() -> None:
    """The CNI plugin: install it for a container runtime, remove it, see whether it works."""


@cni.command()
@click.option(
    "--bin-dir", default="/opt/cni/bin", show_default=True, help="The runtime's plugins.",
    type=click.Path(path_type=Path),
)  # fmt: skip
@click.option("--network", default="pycilium", show_default=True, help="The network's name.")
@click.option("--ipv4", metavar="PREFIX", help="Addresses for containers.")
@click.option("--ipv6", metavar="PREFIX", help="Addresses for containers.")
@click.option("--policies", default="", metavar="DIRECTORY", help="Policies to keep in force.")
@click.option("--chain", multiple=True, metavar="PLUGIN", help="A plugin behind it; may repeat.")
@click.option("--run-dir", default="/run/pycilium", show_default=True, help="The node's state.")
@_DRY
@_where
def install(
    bin_dir: Path,
    network: str,
    ipv4: str | None,
    ipv6: str | None,
    policies: str,
    chain: tuple[str, ...],
    run_dir: str,
    dry_run: bool,
    conf_dir: Path,
    state: Path,
) -> None:
    """Write the executable, then the configuration, each in one step."""
    Pool(ipv4=ipv4, ipv6=ipv6)  # refused here, and not at the first container
    pool = {key: value for key, value in (("ipv4", ipv4), ("ipv6", ipv6)) if value}
    keys: dict[str, Any] = {
        "state": run_dir,
        "socket": f"{run_dir}/cni.sock",
        "python": sys.executable,
        "pools": [pool],
    }
    if policies:
        keys["policies"] = policies
    wanted = files(bin_dir, conf_dir, network, keys, chained=chain)
    installation = Installation(state)
    _show(installation.plan(wanted) if dry_run else installation.install(wanted))


@cni.command()
@_DRY
@_where
def uninstall(dry_run: bool, conf_dir: Path, state: Path) -> None:  # noqa: ARG001
    """Remove what was installed; what it replaced comes back. Containers keep their network."""
    installation = Installation(state)
    _show(installation.plan_removal() if dry_run else installation.uninstall())


@cni.command()
@click.option("--run-dir", default="/run/pycilium", show_default=True, help="The node's state.")
@_where
def status(run_dir: str, conf_dir: Path, state: Path) -> None:
    """What is installed, whether the runtime uses it, who answers. Exit code 1: it is not used."""
    steps = Installation(state).status()
    first = first_configuration(conf_dir)
    used = any(one.path == first for one in steps)
    rows = [(str(one.path), _word(one.change)) for one in steps]
    rows.append((f"first in {conf_dir}", "none" if first is None else first.name))
    rows.append((f"{run_dir}/cni.sock", _answers(Path(run_dir) / "cni.sock")))
    click.echo(table(("what", "state"), ({"what": what, "state": one} for what, one in rows)))
    if not used or any(one.change is not Change.NONE for one in steps):
        raise click.exceptions.Exit(1)


def _word(change: Change) -> str:
    return "installed" if change is Change.NONE else change.value


def _answers(path: Path) -> str:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return "nobody answers: every call does its work alone"
    return "answers"


def _show(steps: Iterable[Step]) -> None:
    rows = [{"file": str(one.path), "change": one.change.value} for one in steps]
    click.echo(table(("file", "change"), rows))
