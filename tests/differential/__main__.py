# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.differential --minutes N [--seed S]`: new states and packets until then."""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]
ROUND = 20_000


def main() -> int:
    """1, the seed and the smallest state found where the two disagree."""
    from differential.arena import Arena
    from differential.machine import run

    parser = argparse.ArgumentParser(prog="python -m tests.differential", description=__doc__)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--seed", type=int, help="of the first round")
    options = parser.parse_args()
    end, total, given = time.monotonic() + options.minutes * 60, 0, options.seed
    while total == 0 or time.monotonic() < end:
        seed = random.SystemRandom().randrange(1 << 31) if given is None else given
        given = None
        with Arena.open() as arena:
            try:
                run(arena, ROUND, seed, shrink=True)
            except AssertionError as error:
                print(f"seed {seed}: {error}")
                return 1
            total += arena.packets + arena.mutated
    print(f"{total:,} packets: no difference")
    return 0


if __name__ == "__main__":
    sys.exit(main())
