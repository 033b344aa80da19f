# SPDX-License-Identifier: Apache-2.0
"""`pycilium lb` and the kube-proxy replacement, as their users run them."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import yaml

from pycilium import Datapath
from pycilium.datapath import Endpoint, peek
from pycilium.net import NetNS

pytestmark = pytest.mark.root
ROOT = Path(__file__).parents[2]
VIP = "10.96.0.10"
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.10, ports: [{name: http, port: 80}]}
"""
SLICE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints:
- {addresses: [10.1.0.20], nodeName: n1}
ports: [{name: http, port: 8080}]
"""


@attrs.frozen
class Shell:
    """The command line in the node's namespace, over pins and a journal of the test's own."""

    node: NetNS
    bpffs: Path
    state: Path

    def run(self, *arguments: str, code: int = 0, text: str = "") -> str:
        where = ["--pin", "cli", "--bpffs", str(self.bpffs), "--state", str(self.state)]
        child = self.popen(["-m", "pycilium", "lb", *arguments, *where])
        out, errors = child.communicate(text, timeout=60)
        assert child.returncode == code, out + errors
        return str(out if code != 2 else errors)

    def popen(self, arguments: list[str]) -> subprocess.Popen[str]:
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        command = [sys.executable, *arguments]
        return self.node.run(lambda: subprocess.Popen(command, cwd=ROOT, text=True, **pipes))


@pytest.fixture
def shell(node: NetNS, bpffs: Path, tmp_path: Path) -> Iterator[Shell]:
    yield Shell(node, bpffs, tmp_path / "state")
    from pycilium.datapath import is_pinned

    if is_pinned("cli", bpffs):
        node.run(lambda: Datapath.adopt("cli", bpffs=bpffs)).destroy()


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    folder = tmp_path / "manifests"
    folder.mkdir()
    (folder / "service.yaml").write_text(SERVICE)
    (folder / "slice.yaml").write_text(SLICE)
    return folder


def test_apply_list_get_and_undo(shell: Shell, manifests: Path) -> None:
    dry = shell.run("apply", "-f", str(manifests), "--dry-run")
    assert "+ shop/web:http 10.96.0.10:80/tcp over 1 backends" in dry
    assert "1 added, 0 changed, 0 removed; 3 map entries" in dry
    assert "a pinned datapath" in shell.run("list", code=2)
    assert shell.run("apply", "-f", str(manifests)) == dry
    listed = shell.run("list")
    assert listed.splitlines()[1].split() == [
        "shop/web:http", "ClusterIP", "10.96.0.10:80/tcp", "1", "1",
    ]  # fmt: skip
    again = shell.run("apply", "-f", str(manifests))
    assert again == "0 added, 0 changed, 0 removed; 0 map entries\n"

    other = SLICE.replace("10.1.0.20]", "10.1.0.20, 10.1.0.21]")
    both = f"{SERVICE.replace('ports', 'sessionAffinity: ClientIP, ports')}\n---\n{other}"
    changed = shell.run("apply", "-f", "-", text=both)
    assert "~ shop/web:http 10.96.0.10:80/tcp over 2 backends" in changed
    found = json.loads(shell.run("get", "shop/web", "-o", "json"))
    assert found == [
        {
            "frontend": "10.96.0.10:80/tcp",
            "kind": "ClusterIP",
            "name": "shop/web:http",
            "session_affinity": "ClientIP",
            "backends": [
                {"address": "10.1.0.20:8080", "node": "n1"},
                {"address": "10.1.0.21:8080", "node": "n1"},
            ],
        }
    ]
    assert yaml.safe_load(shell.run("list", "-o", "yaml")) == found
    assert "10.1.0.21:8080  active  1       n1" in shell.run("get", VIP + ":80/tcp")
    assert "did you mean shop/web?" in shell.run("get", "shop/wb", code=2)

    assert "~ shop/web:http 10.96.0.10:80/tcp over 1 backends" in shell.run("undo", "--dry-run")
    shell.run("undo")
    (one,) = peek("cli", bpffs=shell.bpffs).services
    assert [str(b) for b in one.backends] == ["10.1.0.20:8080"]
    assert "- shop/web:http" in shell.run("undo")
    assert "a change to undo" in shell.run("undo", code=2)


def test_status_and_watch(shell: Shell, manifests: Path) -> None:
    shell.run("apply", "-f", str(manifests))
    status = json.loads(shell.run("status", "-o", "json"))
    assert (status["services"], status["backends"]) == (1, 1)
    assert status["maps"]["pcl_backends"]["used"] == 1
    assert "pcl_services" in shell.run("status")
    watcher = shell.popen(
        ["-m", "pycilium", "lb", "watch", "--pin", "cli", "--bpffs", str(shell.bpffs),
         "--timeout", "20", "--interval", "0.05"]
    )  # fmt: skip
    assert watcher.stdout is not None
    try:
        assert watcher.stdout.readline().startswith("+ shop/web:http")
        shell.run("apply", "-f", "-", text=SERVICE)
        assert watcher.stdout.readline() == "~ shop/web:http 10.96.0.10:80/tcp over 0 backends\n"
    finally:
        watcher.kill()
        watcher.communicate()


def test_what_is_wrong_is_left_out_only_when_asked(shell: Shell, manifests: Path) -> None:
    (manifests / "bad.yaml").write_text(SERVICE.replace("web", "bad").replace("10.96.0.10", "x"))
    (manifests / "node.yaml").write_text(
        SERVICE.replace("web", "node").replace("10.96.0.10", "10.96.0.11").replace(
            "port: 80", "port: 80, nodePort: 30080").replace("spec: {", "spec: {type: NodePort, ")
    )  # fmt: skip
    assert "bad.yaml:5: spec.clusterIP" in shell.run("apply", "-f", str(manifests), code=2)
    out = shell.run("apply", "-f", str(manifests), "--go-on", code=1)
    assert "2 added" in out
    kinds = {one.kind.value for one in peek("cli", bpffs=shell.bpffs).services}
    assert kinds == {"ClusterIP"}


def test_the_replacement_follows_its_directory(shell: Shell, manifests: Path) -> None:
    """Real connections: to the first backend, then to the second, then to none."""
    with shell.node.run(lambda: Datapath.open(pin="cli", bpffs=shell.bpffs)) as dp:
        web = dp.endpoints.create("10.1.0.10", labels={"app": "web"}, name="web")
        one, two = (dp.endpoints.create(f"10.1.0.2{n}", labels={"app": "db"}) for n in range(2))
        proxy = shell.popen(["examples/kube_proxy_replacement.py", str(manifests), "cli",
                             str(shell.bpffs)])  # fmt: skip
        assert proxy.stdout is not None
        try:
            assert "added=1" in proxy.stdout.readline()
            with listening(one) as first, listening(two) as second:
                assert connects(web)
                first.accept()[0].close()
                (manifests / "slice.yaml").write_text("kind: EndpointSlice\nendpoints: [")
                time.sleep(0.5)
                assert connects(web), "half a file changes nothing"
                first.accept()[0].close()
                (manifests / "slice.yaml").write_text(SLICE.replace("10.1.0.20", "10.1.0.21"))
                assert "changed=1" in proxy.stdout.readline()
                assert connects(web)
                second.accept()[0].close()
                (manifests / "slice.yaml").unlink()
                assert "changed=1" in proxy.stdout.readline()
                assert not connects(web)
        finally:
            proxy.kill()
            proxy.communicate()


def listening(endpoint: Endpoint) -> Any:
    one = endpoint.namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
    one.bind((str(endpoint.ip), 8080))
    one.listen()
    one.settimeout(1)
    return one


def connects(endpoint: Endpoint) -> bool:
    with endpoint.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as one:
        one.settimeout(0.5)
        return bool(one.connect_ex((VIP, 80)) == 0)


def test_the_example_is_as_short_as_it_says() -> None:
    example = ROOT / "examples" / "kube_proxy_replacement.py"
    assert len(example.read_text().splitlines()) <= 30
