# SPDX-License-Identifier: Apache-2.0
"""The executable: it asks who answers at the socket, and does without where nobody does."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest

from cni.lab import Container, Lab, addresses, reaches
from pycilium.cni import Server
from pycilium.cni.versions import SUPPORTED
from pycilium.durable import Lock
from pycilium.errors import ConflictError

AGENT = Path(__file__).with_name("agent_script.py")
SHIM = Path(__file__).parents[2] / "src" / "pycilium" / "cni" / "shim"


def run(config: bytes, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [SHIM], input=config, env=environment, capture_output=True, check=False, timeout=30
    )


def test_it_is_static_and_small() -> None:
    linked = subprocess.run(["ldd", SHIM], capture_output=True, text=True, check=False)
    assert "not a dynamic executable" in linked.stderr
    assert SHIM.stat().st_size < 1 << 20


def test_it_knows_the_versions_itself() -> None:
    done = run(b'{"cniVersion": "0.4.0"}', CNI_COMMAND="VERSION")
    answer = {"cniVersion": "0.4.0", "supportedVersions": list(SUPPORTED)}
    assert (done.returncode, json.loads(done.stdout)) == (0, answer)


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tmp_path / "s"))
        one.listen()
        one.settimeout(10)
        yield one


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"socket": "PATH"}', True),
        (
            '{ "a" : {"socket":"/x"}, "b":["socket", "}"], "c\\"d": "{", \n"socket"\t:\n"PATH" }',
            True,
        ),
        ('{"plugins": [{"socket": "PATH"}]}', False),
        ('{"x": "\\"socket\\": \\"PATH\\""}', False),
        ('{"socket": 5, "python": "/none"}', False),
        ('{"socket": "PATH', False),
        ('{"sockets": "PATH", "ssocket": "PATH"}', False),
    ],
)
def test_it_finds_the_socket_as_json_has_it(
    listener: socket.socket, text: str, found: bool
) -> None:
    path = listener.getsockname()
    text = text.replace("PATH", path)
    text = text if '"python"' in text else text.replace("{", '{"python": "/none", ', 1)
    received: list[bytes] = []

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            while part := connection.recv(4096):
                received.append(part)
            connection.sendall(b"7said so")

    thread = threading.Thread(target=answer)
    if found:
        thread.start()
    done = run(text.encode(), CNI_COMMAND="ADD", CNI_ARGS="A=B", HOME="/root")
    if found:
        thread.join()
        assert (done.returncode, done.stdout) == (7, b"said so")
        assert b"".join(received) == b"CNI_COMMAND=ADD\0CNI_ARGS=A=B\0\0" + text.encode()
    else:
        assert (done.returncode, json.loads(done.stdout)["code"]) == (1, 11)


def test_without_an_agent_it_becomes_python(tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_text('#!/bin/sh\nprintf "%s " "$@"; cat\n')
    program.chmod(0o755)
    config = json.dumps({"socket": str(tmp_path / "none"), "python": str(program)}).encode()
    done = run(config, CNI_COMMAND="ADD", PATH=os.environ["PATH"])
    assert (done.returncode, done.stdout) == (0, b"-m pycilium.cni " + config)


def test_an_agent_that_dies_in_the_middle_is_done_without(
    listener: socket.socket,
) -> None:
    def refuse() -> None:
        listener.accept()[0].close()

    thread = threading.Thread(target=refuse)
    thread.start()
    config = json.dumps({"socket": listener.getsockname(), "python": "/bin/echo"}).encode()
    done = run(config, CNI_COMMAND="DEL")
    thread.join()
    assert done.stdout == b"-m pycilium.cni\n"


@attrs.frozen
class Agent:
    """A process that has the node and stays; the lab's calls go through the executable to it."""

    lab: Lab
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=30)


@contextmanager
def agent(lab: Lab) -> Iterator[Agent]:
    path = lab.state / "agent" / "cni.sock"
    made = attrs.evolve(
        lab, command=(str(SHIM),), keys={"socket": str(path), "python": sys.executable, "wait": 5}
    )
    pipes = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
    env = {**os.environ, "PYTHONPATH": str(SHIM.parents[2])}
    command = [sys.executable, "-W", "error", str(AGENT), json.dumps(made.config()), str(path)]
    process = lab.node.popen(command, env=env, **pipes)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield Agent(made, process)
    finally:
        process.communicate(timeout=30)  # its standard input ends, and so does it


@pytest.mark.root
def test_an_agent_answers(lab: Lab, pods: list[Container]) -> None:
    web, db, other = pods
    with agent(lab) as one:
        path = Path(one.lab.keys["socket"])
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        first = one.lab.add(web, app="web")
        assert one.lab.add(web, app="web") == first
        address = addresses(one.lab.add(db, app="db"))[0]
        assert reaches(web, db, address, 5432)
        assert not reaches(web, db, address, 22)
        assert one.lab.error("ADD", other, CNI_ARGS=f"IP={address}")["code"] == 102
        one.lab.ok("CHECK", web, config=one.lab.config(prevResult=first))
        one.lab.ok("STATUS")
        one.lab.ok("DEL", web)
        one.lab.ok("DEL", web)
        one.lab.ok("GC", config=one.lab.config(**{"cni.dev/valid-attachments": []}))
        with pytest.raises(ConflictError, match="somebody answers at"):
            Server.open(None, path)  # type: ignore[arg-type]
        with pytest.raises(ConflictError, match=f"held by process {one.process.pid}"):
            Lock.acquire(lab.state / "ipam.lock")
    assert not path.exists()
    assert lab.is_clean()
    lab.node.run(lab.adopt().destroy)


@pytest.mark.root
def test_an_agent_is_killed_and_nobody_notices(lab: Lab, pods: list[Container]) -> None:
    web, db, other = pods
    with agent(lab) as one:
        one.lab.add(web, app="web")
        one.kill()
        address = addresses(one.lab.add(db, app="db"))[0]  # by itself
        assert reaches(web, db, address, 5432)
    with agent(lab) as two:
        assert addresses(two.lab.add(db)) == [address, "fd00:1::2"]
        assert not reaches(web, db, address, 22)
        for each in (web, db, other):
            two.lab.ok("DEL", each)
    assert lab.is_clean()
    lab.node.run(lab.adopt().destroy)


@pytest.mark.root
def test_many_callers_at_once_leave_nothing(lab: Lab, pods: list[Container]) -> None:
    """ADD and DEL of a few containers race each other, and the agent dies on the way."""
    failures: list[str] = []

    def churn(one: Lab, pod: Container, turns: int) -> None:
        for turn in range(turns):
            done = one.call("ADD" if turn % 2 == 0 else "DEL", pod, CNI_IFNAME=f"net{turn % 3}")
            if done.returncode and json.loads(done.stdout)["code"] != 11:
                failures.append(done.stdout)

    with agent(lab) as one:
        threads = [
            threading.Thread(target=churn, args=(one.lab, pod, 10)) for pod in (*pods, *pods)
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        one.kill()
        for thread in threads:
            thread.join()
        assert failures == []
        one.lab.ok("GC", config=one.lab.config(**{"cni.dev/valid-attachments": []}))
    assert lab.is_clean()
    lab.node.run(lab.adopt().destroy)
