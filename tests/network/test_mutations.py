# SPDX-License-Identifier: Apache-2.0
"""Seeded bugs: each must be caught by the tests that stand for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

pytestmark = pytest.mark.root
ROOT = Path(__file__).parents[2]


@attrs.frozen
class Bug:
    """One line made wrong, and where that must be seen."""

    name: str
    file: str
    right: str
    wrong: str
    tests: str
    keyword: str = ""


BUGS = [
    Bug("routing header type 0 passes", "bpf/include/pcl/parse.h",
        "walk->next == IPPROTO_ROUTING && header[2] == 0", "walk->next == IPPROTO_ROUTING && 0",
        "tests/programs/test_reasons.py", "routing"),
    Bug("a fragment may rewrite the tcp header", "bpf/include/pcl/parse.h",
        "if (offset < pcl_l4_minimum(packet->tuple.protocol))", "if (0)",
        "tests/programs/test_reasons.py", "fragment-over"),
    Bug("a known connection accepts any MAC", "bpf/include/pcl/connection.h",
        "&& pcl_mac_equal(eth->h_source, side->mac)", "",
        "tests/programs/test_connections.py", "another_mac"),
    Bug("verdicts never grow old", "bpf/include/pcl/connection.h",
        "return side->epoch == pcl_epoch(side->slot);", "return true;",
        "tests/programs/test_connections.py", "revocation"),
    Bug("deny rules allow", "bpf/include/pcl/policy.h",
        "if (verdict == PCL_POLICY_ALLOW)", "if (verdict != PCL_POLICY_NONE)",
        "tests/programs/test_reasons.py", "deny-rule"),
    Bug("tcp and udp share an entry", "bpf/include/pcl/conntrack.h",
        "key->v4.protocol = tuple->protocol;", "",
        "tests/programs/test_connections.py", "protocols"),
    Bug("the port is not in the checksum", "bpf/include/pcl/rewrite.h",
        "error = bpf_l4_csum_replace(skb, check, ports_from, ports_to, flags | 4);", "",
        "tests/programs/test_connections.py", "service_is_translated"),
    Bug("any source address passes", "bpf/include/pcl/connection.h",
        "return PCL_DROP(PCL_DROP_SOURCE_IP);", ";",
        "tests/programs/test_reasons.py", "of-another"),
    Bug("ingress is not asked", "bpf/include/pcl/policy.h",
        "if (responder->ifindex)", "if (0)",
        "tests/network/test_differential.py", "agree"),
    Bug("allow before deny", "src/pycilium/policy/resolve.py",
        "_RANK = {Action.DENY: 0, Action.ALLOW: 1,", "_RANK = {Action.DENY: 2, Action.ALLOW: 1,",
        "tests/policy/test_differential.py"),
    Bug("exceptions of a prefix are forgotten", "src/pycilium/policy/universe.py",
        "return not any(prefix_label(hole) in labels for hole in peer.excepts)",
        "return True",
        "tests/policy/test_differential.py"),
    Bug("a namespaced policy selects everywhere (CVE-2023-39347)",
        "src/pycilium/policy/kinds/cilium.py",
        "else subject.within(context.namespace)", "else subject",
        "tests/policy/test_kinds.py", "outside"),
    Bug("an empty list means all (CVE-2024-52529)", "src/pycilium/policy/kinds/cilium.py",
        "    if named:\n", "    if named and parts[named[0]].items():\n",
        "tests/policy/test_kinds.py", "nobody"),
    Bug("a pod claims the cluster's labels (CVE-2023-30851)", "src/pycilium/model/labels.py",
        'if ":" in key or key.startswith(TRUSTED_KEYS):', 'if ":" in key:',
        "tests/policy/test_kinds.py", "forge"),
    Bug("a broader rule strips L7", "src/pycilium/policy/resolve.py",
        "return REDIRECT if rule.l7 else ALLOW, rule.ref", "return ALLOW, rule.ref",
        "tests/policy/test_differential.py"),
    Bug("what a proxy must see passes without it", "bpf/include/pcl/policy.h",
        "if (verdict == PCL_POLICY_ALLOW)",
        "if (verdict == PCL_POLICY_ALLOW || verdict == PCL_POLICY_REDIRECT)",
        "tests/programs/test_reasons.py", "proxy"),
    Bug("pass ends the evaluation", "src/pycilium/policy/resolve.py",
        "painted.clear(_PASS)", "pass",
        "tests/policy/test_differential.py"),
    Bug("priorities are ignored", "src/pycilium/policy/resolve.py",
        "((policy.priority, rule.order, _rank(rule)), rule)",
        "((0, rule.order, _rank(rule)), rule)",
        "tests/policy/test_differential.py"),
    Bug("a named port is looked up at the wrong end", "src/pycilium/policy/resolve.py",
        "named = self._subject if self._direction is Direction.INGRESS else peer", "named = peer",
        "tests/policy/test_differential.py"),
    Bug("a prefix does not mean pods", "src/pycilium/datapath/identities.py",
        "return known.covering(address)", "return Labels()",
        "tests/conformance/test_kernel.py", "row"),
    Bug("IPv6 takes the IPv4 identity", "bpf/include/pcl/policy.h",
        "endpoint->ipv4_identity : endpoint->ipv6_identity",
        "endpoint->ipv4_identity : endpoint->ipv4_identity",
        "tests/network/test_differential.py", "agree"),
    Bug("nothing may be painted over", "src/pycilium/policy/ports.py",
        "return frozenset({None})", "pass",
        "tests/policy/test_differential.py"),
    Bug("a freed slot is used at once", "src/pycilium/lb/table.py",
        "if state.next_slot + count <= self._sizes.slots:", "if not state.free_slots:",
        "tests/lb/test_table.py", "maps_hold"),
]  # fmt: skip


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("mutant")
    for part in ("bpf", "src", "tests", "examples"):
        shutil.copytree(ROOT / part, where / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", where)
    return where


def suite_fails(copy: Path, bug: Bug) -> bool:
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "CI")}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-rf",
        "-p",
        "no:cacheprovider",
        bug.tests,
    ]
    command += ["-k", bug.keyword] if bug.keyword else []
    done = subprocess.run(command, cwd=copy, env=env, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return "FAILED" in done.stdout  # an error around a test is not a bug caught by it


def build(copy: Path, bug: Bug) -> None:
    if bug.file.startswith("bpf/"):
        script = copy / "src" / "pycilium" / "libbpf" / "_build.py"
        subprocess.run([sys.executable, str(script)], check=True, cwd=copy, capture_output=True)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name.replace(" ", "-"))
def test_the_bug_is_caught(copy: Path, bug: Bug) -> None:
    path = copy / bug.file
    text = path.read_text()
    assert text.count(bug.right) >= 1, "the line has changed: renew the bug"
    path.write_text(text.replace(bug.right, bug.wrong))
    try:
        build(copy, bug)
        assert suite_fails(copy, bug)
    finally:
        path.write_text(text)
        build(copy, bug)
