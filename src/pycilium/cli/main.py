# SPDX-License-Identifier: Apache-2.0
"""The root of all commands."""

from __future__ import annotations

import click

from pycilium import __version__
from pycilium.cli.lb import lb
from pycilium.cli.policy import policy


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """eBPF networking for Linux: identities, policies, services, explained."""


cli.add_command(lb)
cli.add_command(policy)
