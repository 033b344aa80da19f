# SPDX-License-Identifier: Apache-2.0
"""Results that are kept: one JSON file for each benchmark, with commit and date."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.errors import BenchmarkError
from benchmarks.report import Report

HERE = Path(__file__).parent / "results"


def save(report: Report, directory: Path = HERE) -> Path:
    """Write NAME.json; another run of the same benchmark replaces it."""
    kept = {"commit": _commit(), "date": f"{datetime.now(UTC):%Y-%m-%d}"} | report.to_dict()
    directory.mkdir(exist_ok=True)
    file = directory / f"{report.name}.json"
    file.write_text(json.dumps(kept, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return file


def load(directory: Path = HERE) -> dict[str, dict[str, Any]]:
    """Every kept result by name. Raises BenchmarkError where there is none."""
    files = sorted(directory.glob("*.json"))
    if not files:
        raise BenchmarkError(f"{directory} holds no results: python -m benchmarks --all --save")
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}


def _commit() -> str:
    command = ["git", "-C", str(HERE.parent), "rev-parse", "--short", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"
