# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.publish`: docs/benchmarks.md and its pictures from the kept results."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks import page, plots, results
from pycilium.errors import PyciliumError

DOCS = Path(__file__).parents[1] / "docs"


def publish(kept: Path = results.HERE, docs: Path = DOCS) -> Path:
    """Render the page and the pictures; returns the page."""
    found = results.load(kept)
    pictures = docs / "benchmarks"
    pictures.mkdir(parents=True, exist_ok=True)
    drawn = plots.draw(found, pictures)
    beside = {name: [f"benchmarks/{file}" for file in files] for name, files in drawn.items()}
    written = docs / "benchmarks.md"
    written.write_text(page.render(found, beside), encoding="utf-8")
    return written


def main() -> int:
    """Publish what is kept; 1 where there is nothing."""
    try:
        print(publish())
    except PyciliumError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
