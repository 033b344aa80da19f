# SPDX-License-Identifier: Apache-2.0
"""The command `pycilium`: data on stdout, everything else on stderr, errors without traceback."""

from __future__ import annotations

import sys

from pycilium.errors import PyciliumError


def main() -> None:
    """Run the command line; exit code 2 for what pycilium refused."""
    try:
        from pycilium.cli.main import cli
    except ModuleNotFoundError as error:
        sys.exit(f"the command line needs {error.name}: pip install 'pycilium[cli]'")
    try:
        cli(prog_name="pycilium")
    except PyciliumError as error:
        print(f"pycilium: {error}", file=sys.stderr)  # noqa: T201 - the end of the command
        sys.exit(2)
