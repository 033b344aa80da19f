# SPDX-License-Identifier: Apache-2.0
"""The C tools, over loopback, without real-time priority."""

import json
import socket
import subprocess

import pytest

from benchmarks import build
from benchmarks.errors import BenchmarkError

AS_IT_IS = "-1"


@pytest.fixture
def port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return str(taken.getsockname()[1])


@pytest.fixture
def server(port):
    process = subprocess.Popen(
        [build.tool("server"), port, AS_IT_IS], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout.readline() == b"ready\n"
        yield process


def run_client(*arguments):
    return subprocess.run(
        [build.tool("client"), *arguments], capture_output=True, text=True, check=False
    )


def test_client_reports_what_it_measured(server, port):
    result = run_client("127.0.0.1", port, "20", "20", AS_IT_IS)
    sample = json.loads(result.stdout)
    assert set(sample) == {"rate", "connect_p50", "connect_p99", "trip_p50", "udp_p50", "udp_p99"}
    assert all(value > 0 for value in sample.values())
    assert sample["connect_p50"] <= sample["connect_p99"]
    assert sample["udp_p50"] <= sample["udp_p99"]


def test_server_ends_with_its_input(server):
    server.stdin.close()
    assert server.wait(timeout=5) == 0


def test_client_fails_without_a_server(port):
    result = run_client("127.0.0.1", port, "1", "1", AS_IT_IS)
    assert result.returncode == 1
    assert "refused" in result.stderr


@pytest.mark.root
@pytest.mark.parametrize("batch", ["1", "300"])
def test_mapwrite_prints_nanoseconds(batch):
    output = subprocess.run(
        [build.tool("mapwrite"), "1000", batch], capture_output=True, text=True, check=True
    ).stdout
    assert int(output) > 1000 * 50


def test_a_build_is_made_once_and_again_when_the_source_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(build, "HERE", tmp_path)
    source = tmp_path / "tools" / "probe.c"
    source.parent.mkdir()
    source.write_text("int main(void) { return 0; }\n")
    first = build.tool("probe")
    assert build.tool("probe") == first
    source.write_text("int main(void) { return 1; }\n")
    assert build.tool("probe") != first


def test_what_does_not_compile_says_why(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(build, "HERE", tmp_path)
    source = tmp_path / "tools" / "broken.c"
    source.parent.mkdir()
    source.write_text("int main(void) { return nothing; }\n")
    with pytest.raises(BenchmarkError, match="nothing"):
        build.tool("broken")
    assert not [path for path in tmp_path.rglob("*broken*") if path != source]
