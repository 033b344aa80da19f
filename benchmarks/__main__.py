# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks NAME [--json] [--save] [--rounds N] [--quick]`, or `--all`."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from benchmarks import results
from benchmarks.report import Report
from pycilium.errors import PyciliumError

NAMES = ("packet", "lb", "program", "policy", "bfd", "bgp", "xdp", "node")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; 1 when it could not be measured, 2 for a wrong command line."""
    options = _parse(arguments)
    try:
        for name in NAMES if options.all else [options.name]:
            report = run(name, rounds=options.rounds, quick=options.quick)
            if options.save:
                results.save(report)
            print(report.to_json() if options.json else f"{report}\n", flush=True)
    except PyciliumError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    return 0


def run(name: str, *, rounds: int | None = None, quick: bool = False) -> Report:
    """Run one benchmark; `quick` measures almost nothing, but every row once."""
    module = importlib.import_module(f"benchmarks.{name}")
    report: Report = module.run(rounds=rounds, quick=quick)
    return report


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("name", nargs="?", choices=NAMES, help="what to measure")
    which.add_argument("--all", action="store_true", help="measure everything")
    parser.add_argument("--json", action="store_true", help="one JSON object per benchmark")
    parser.add_argument("--save", action="store_true", help="keep it in benchmarks/results")
    parser.add_argument("--rounds", type=_positive, metavar="N", help="interleaved rounds")
    parser.add_argument("--quick", action="store_true", help="check that it runs; no figures")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
