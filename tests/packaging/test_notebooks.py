# SPDX-License-Identifier: Apache-2.0
"""The notebooks of the documents run, and show what is saved in them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs" / "notebooks").glob("*.ipynb"))


# In a child: the client leaves sockets to the collector, which is an error here.
EXECUTE = """
import sys
import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
for cell in notebook.cells:
    if cell.cell_type == "code":
        cell.outputs = []
kernel = AsyncKernelManager(transport="ipc", connection_file=sys.argv[2])
NotebookClient(notebook, km=kernel, timeout=60).execute()
nbformat.write(notebook, sys.argv[3])
"""


def outputs(notebook: Any) -> list[list[Any]]:
    """What every cell shows, without the numbers of executions."""
    return [
        [one.get("text") or one.get("data") or one for one in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_shows_what_is_saved(path: Path, tmp_path: Path) -> None:
    saved = nbformat.read(path, as_version=4)
    nbformat.validate(saved)
    files = str(path), str(tmp_path / "kernel.json"), str(tmp_path / "again.ipynb")
    subprocess.run([sys.executable, "-c", EXECUTE, *files], check=True, timeout=120)
    again = nbformat.read(tmp_path / "again.ipynb", as_version=4)
    assert outputs(again) == outputs(saved)
    assert any(outputs(saved))


def test_there_is_a_notebook() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["policies"]
