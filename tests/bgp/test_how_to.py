# SPDX-License-Identifier: Apache-2.0
"""docs/how-to/top-of-rack.md: its three files, as they stand there, against each other."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bgp.daemons import frr
from bgp.lab import Bird, Wire, until

pytestmark = pytest.mark.root
ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "top-of-rack.md").read_text()


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return found


@contextmanager
def node(net: Wire, folder: Path, change: Callable[[str], str] = str) -> Iterator[None]:
    config = folder / "bgp.yaml"
    config.write_text(change(block("yaml")))
    words = ["run", "-f", str(config), "-s", str(folder / "run" / "bgp.sock")]
    process = net.here.popen(
        [sys.executable, "-m", "pycilium", "bgp", *words],
        stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def test_bird(net, tmp_path):
    with Bird(net.there, tmp_path / "bird", "") as bird:
        (bird.where / "bird.conf").write_text(block("bird"))
        bird.ask("configure")
        with node(net, tmp_path):
            until(lambda: bird.count(protocol="node1") == 2, 20)
            shown = bird.routes("protocol", "node1")
            assert "10.96.0.10/32" in shown
            assert "(64512,100)" in shown
            assert "BGP.med: 10" in shown


def test_frr(net, tmp_path):
    with frr(net.there) as router:
        router.configure(block("frr"))
        with node(net, tmp_path, lambda text: text.replace("correct horse", "correct-horse")):
            until(lambda: len(router.routes()) == 2, 20)
            assert router.path("10.96.1.0/24")["community"]["string"] == "64512:100"


def test_the_commands_and_their_options_exist():
    from pycilium.cli.bgp import bgp

    found = re.findall(r"pycilium bgp (\w+)([^\n`]*)", PAGE)
    assert len(found) >= 6
    for name, rest in found:
        options = {one for p in bgp.commands[name].params for one in p.opts}
        assert set(re.findall(r"\s(--?[a-z-]+)\b", rest)) <= options


def test_the_why_not_page_shows_what_is_printed(net):
    page = (ROOT / "docs" / "how-to" / "bgp-why-not.md").read_text()
    code = re.search(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[1]
    shown = re.search(r"^```text\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[1]
    process = net.here.popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert process.communicate(timeout=20)[0].decode() == shown
