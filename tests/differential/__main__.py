# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.differential --minutes N [--seed S]`: new rule sets and packets until then."""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]


def main() -> int:
    """1 and the seed where the two disagree."""
    from network import test_differential as differential
    from pycilium.net import NetNS

    parser = argparse.ArgumentParser(prog="python -m tests.differential", description=__doc__)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--seed", type=int, help="of the first round")
    options = parser.parse_args()
    differential.PACKETS, differential.RULE_SETS = 20_000, 50
    end, rounds = time.monotonic() + options.minutes * 60, 0
    while rounds == 0 or time.monotonic() < end:
        given = options.seed if options.seed is not None and not rounds else None
        seed = random.SystemRandom().randrange(1 << 32) if given is None else given
        os.environ["PYCILIUM_SEED"] = str(seed)
        with NetNS.create() as node:
            try:
                differential.test_kernel_and_evaluator_agree(node)
            except AssertionError as error:
                print(error)
                return 1
        rounds += 1
    print(f"{rounds * differential.PACKETS:,} packets in {rounds} rounds: no difference")
    return 0


if __name__ == "__main__":
    sys.exit(main())
