# SPDX-License-Identifier: Apache-2.0
"""The command line, as its user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).parents[2]
POLICIES, CASES = "examples/policies", "examples/policies.cases.yaml"
BAD = "kind: NetworkPolicy\nspec: {podSelecto: {}}\n"


def run(*arguments: str, cwd: Path = ROOT, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pycilium", "policy", *arguments],
        cwd=cwd, input=text, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin", "HOME": str(cwd)},
    )  # fmt: skip


def test_cases_hold_and_are_reported(tmp_path: Path) -> None:
    report = tmp_path / "out.xml"
    done = run("test", POLICIES, "-c", CASES, "--junit", str(report))
    assert (done.returncode, done.stderr) == (0, "")
    assert "4 of 4 cases hold" in done.stdout
    assert ET.parse(report).getroot().attrib["tests"] == "4"


def test_a_case_that_does_not_hold(tmp_path: Path) -> None:
    cases = tmp_path / "cases.yaml"
    cases.write_text(
        (ROOT / CASES).read_text().replace("port: 22, expect: deny", "port: 22, expect: allow")
    )
    report = tmp_path / "out.xml"
    done = run("test", POLICIES, "-c", str(cases), "--junit", str(report))
    assert done.returncode == 1
    assert (
        "cases.yaml:12: and only there: web → db:22/tcp: expected allow, but DENIED" in done.stdout
    )
    assert ET.parse(report).getroot().attrib["failures"] == "1"


def test_no_case_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("peers: {a: {ip: 192.0.2.1}}\n")
    done = run("test", POLICIES, "-c", str(tmp_path / "c.yaml"))
    assert done.returncode == 2
    assert "cannot fail" in done.stderr


def test_validate_names_file_line_and_the_likely_word(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(BAD)
    (tmp_path / "b.yaml").write_text((ROOT / POLICIES / "shop.yaml").read_text())
    done = run("validate", str(tmp_path))
    assert done.returncode == 1
    assert "a.yaml:2: spec.podSelecto" in done.stderr
    assert "did you mean podSelector?" in done.stderr
    assert done.stdout == "2 policies, 1 error\n"


def test_matrix_in_every_form() -> None:
    rows = json.loads(run("matrix", POLICIES, "-p", CASES, "-o", "json").stdout)
    assert len(rows) == 4 * 3 * 2
    page = run("matrix", POLICIES, "-p", CASES, "-o", "html").stdout
    assert page.startswith("<!doctype html>")
    assert '<meta charset="utf-8">' in page
    assert "✓ all of 80/tcp, 5432/tcp" in run("matrix", POLICIES, "-p", CASES).stdout


def test_documents_of_other_kinds_are_left_out_and_counted(tmp_path: Path) -> None:
    shop = (ROOT / POLICIES / "shop.yaml").read_text()
    others = "apiVersion: apps/v1\nkind: Deployment\nspec: {replicas: 1}\n---\n"
    done = run("validate", "-", text=others + shop)
    assert (done.returncode, done.stdout) == (
        0, "2 policies, 0 errors, 1 other document left out\n",
    )  # fmt: skip
    for wrong in ("cilium.io/v2\nkind: Deployment", "v1\nkind: Servise", "v1"):
        done = run("validate", "-", text=f"apiVersion: {wrong}\n---\n{shop}")
        assert done.returncode == 1, wrong


def test_nothing_to_validate_is_an_error(tmp_path: Path) -> None:
    done = run("validate", str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "0 policies, 0 errors\n")


def test_a_peer_that_is_misspelt() -> None:
    done = run("explain", POLICIES, "-p", CASES, "--from", "wb", "--to", "db", "--port", "22")
    assert done.returncode == 2
    assert "did you mean web?" in done.stderr


def test_diff_of_git_revisions(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@example.com", *arguments],
            cwd=tmp_path, check=True, capture_output=True,
        )  # fmt: skip

    git("init", "-q")
    (tmp_path / "policies").mkdir()
    policy = tmp_path / "policies" / "shop.yaml"
    policy.write_text((ROOT / POLICIES / "shop.yaml").read_text())
    git("add", "-A")
    git("commit", "-qm", "one")
    policy.write_text(policy.read_text().replace("port: 5432", "port: 22"))
    peers = str(ROOT / CASES)
    done = run(
        "diff", "HEAD:policies", "policies", "-p", peers, "--port", "22", "--port", "5432",
        "-o", "markdown", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "1 newly allowed, 1 newly denied" in done.stdout
    assert "HEAD" not in done.stdout or "shop.yaml" in done.stdout
    assert run("validate", "HEAD:policies", cwd=tmp_path).stdout == "2 policies, 0 errors\n"
    same = run("diff", "HEAD:policies", "HEAD:policies", "-p", peers, cwd=tmp_path)
    assert same.returncode == 0
    assert run("diff", "nope:policies", "policies", "-p", peers, cwd=tmp_path).returncode == 2


def test_explain_and_suggest() -> None:
    asked = ("-p", CASES, "--from", "stranger", "--to", "db", "--port", "5432")
    explained = run("explain", POLICIES, *asked)
    assert explained.returncode == 1
    assert "├─ egress   stranger: no-metadata-server (has rules)" in explained.stdout
    assert "├─ ingress  db: db (denies the rest)" in explained.stdout
    assert "nearest: db (shop.yaml:8)" in explained.stdout
    suggested = run("suggest", POLICIES, *asked)
    assert suggested.returncode == 0
    combined = (ROOT / POLICIES / "shop.yaml").read_text() + "---\n" + suggested.stdout
    assert run("explain", "-", *asked, text=combined).returncode == 0


def test_a_deny_rule_cannot_be_allowed_away() -> None:
    asked = ("-p", CASES, "--from", "web", "--to", "metadata", "--port", "80")
    done = run("suggest", POLICIES, *asked)
    assert done.returncode == 1
    assert "no-metadata-server (shop.yaml:19) denies it" in done.stdout


def test_lint(tmp_path: Path) -> None:
    twice = (ROOT / POLICIES / "shop.yaml").read_text()
    (tmp_path / "a.yaml").write_text(twice)
    (tmp_path / "b.yaml").write_text(twice)
    done = run("lint", str(tmp_path))
    assert done.returncode == 1
    assert "[duplicate]" in done.stdout
    done = run("lint", POLICIES, "-p", CASES)
    assert (done.returncode, done.stdout) == (0, "nothing to remark on in 2 policies\n")


def test_convert() -> None:
    done = run("convert", POLICIES)
    assert done.returncode == 1
    assert "kind: CiliumNetworkPolicy" in done.stdout
    assert "no-metadata-server" in done.stderr


def test_what_is_missing_is_said() -> None:
    for arguments in (("validate", "nowhere"), ("test", POLICIES, "-c", "nowhere")):
        done = run(*arguments)
        assert done.returncode == 2
        assert "nowhere" in done.stderr
        assert "Traceback" not in done.stderr


def test_the_plugin_gives_the_policies(pytester_dir: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q"],  # the plugin comes by its entry point
        cwd=pytester_dir, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert "2 passed" in done.stdout, done.stdout + done.stderr


@pytest.fixture
def pytester_dir(tmp_path: Path) -> Path:
    (tmp_path / "pytest.ini").write_text(
        f"[pytest]\npycilium_policies = {ROOT / POLICIES}\npycilium_peers = {ROOT / CASES}\n"
    )
    (tmp_path / "test_it.py").write_text(
        "def test_web(policy_set, policy_peers):\n"
        "    assert policy_set.verdict(policy_peers['web'], policy_peers['db'], 5432)\n"
        "def test_stranger(policy_set, policy_peers):\n"
        "    assert not policy_set.verdict(policy_peers['stranger'], policy_peers['db'], 5432)\n"
    )
    return tmp_path
