# SPDX-License-Identifier: Apache-2.0
"""The root of all commands; what a command needs is imported when it is called."""

from __future__ import annotations

from importlib import import_module

import click

from pycilium import __version__

_COMMANDS = {
    "bgp": "Speak BGP, and say what is announced to whom and why.",
    "cni": "The plugin for container runtimes: install, remove, status.",
    "doctor": "What is wrong with this machine, and how to mend it.",
    "explain": "What a code such as PYC-A1 means, or a tool's message.",
    "lb": "Services of a pinned datapath, from Kubernetes manifests.",
    "policy": "Ask, test and compare network policies.",
}


class _Commands(click.Group):
    """Commands by the module of their name in this package."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """All names, without an import."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import one."""
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"pycilium.cli.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """The list of --help, without an import."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """eBPF networking for Linux: identities, policies, services, BGP, explained."""
