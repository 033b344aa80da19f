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
        "((policy.priority, rule.order, _rank(rule)), rule, policy.audit)",
        "((0, rule.order, _rank(rule)), rule, policy.audit)",
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
    Bug("audit mode denies", "src/pycilium/policy/resolve.py",
        "return (AUDIT, full[1]) if denied else enforced", "return full",
        "tests/policy/test_differential.py"),
    Bug("audit mode lets an enforced denial through", "src/pycilium/policy/resolve.py",
        "denied = enforced[0] == ALLOW and full[0] in (NONE, DENY)",
        "denied = full[0] in (NONE, DENY)",
        "tests/policy/test_differential.py"),
    Bug("a pod that is made anew stays unreachable for its old clients",
        "bpf/include/pcl/connection.h",
        "fresh->sides[1].ifindex != entry->sides[1].ifindex)\n\t\treturn PCL_UNKNOWN;",
        "fresh->sides[1].ifindex != entry->sides[1].ifindex)\n"
        "\t\treturn PCL_DROP(PCL_DROP_WRONG_DEVICE);",
        "tests/programs/test_connections.py", "goes_on"),
    Bug("a policy change reaches new connections only (cilium#15878)",
        "src/pycilium/datapath/sets.py",
        "self._core.bump(*numbers)", "pass",
        "tests/network/test_invariants.py", "p5"),
    Bug("an identity is given to others at once (CVE-2024-42488)",
        "src/pycilium/model/identity.py",
        "if number not in self._by_number and number not in self._asleep:",
        "if number not in self._by_number:",
        "tests/model/test_identity.py"),
    Bug("a label filter takes the namespace away", "src/pycilium/model/label_filter.py",
        'if label.source == "port" or label.key == NAMESPACE_KEY:',
        'if label.source == "port":',
        "tests/model/test_label_filter.py"),
    Bug("a service bypasses the policy of its backend (CVE-2025-30163)",
        "bpf/include/pcl/connection.h",
        "if (!(entry->flags & PCL_CT_HAIRPIN))", "if (!(entry->flags & PCL_CT_TRANSLATED))",
        "tests/network/test_differential.py", "agree"),
    Bug("an extension header hides the port (CVE-2024-47825)", "bpf/include/pcl/parse.h",
        "packet->policy_port_be = packet->tuple.dport_be;",
        "packet->policy_port_be = packet->l4_offset > 54 ? bpf_htons(80) : packet->tuple.dport_be;",
        "tests/network/test_invariants.py", "d4"),
    Bug("an entry of somebody's identity is changed in place (cilium#28645)",
        "src/pycilium/datapath/sets.py",
        "if any(key[_IDENTITY] in visible for key in (*added, *gone)):", "if False:",
        "tests/network/test_invariants.py", "p5"),
    Bug("a freed slot is used at once", "src/pycilium/lb/room.py",
        "if self.next_slot + count <= self.slots.size:", "if not self.free_slots:",
        "tests/lb/test_table.py", "maps_hold"),
    Bug("a backend's number is used again (cilium PR18113)", "src/pycilium/lb/room.py",
        "return index, self.next_backend - 1", "return index, index + 1",
        "tests/lb/test_table.py", "a_number_never"),
    Bug("a connection follows its index to another server", "bpf/include/pcl/connection.h",
        "return backend && backend->id == entry->backend_id ?", "return backend ?",
        "tests/programs/test_services.py", "stands_for_another"),
    Bug("connections stay with a backend that has left", "bpf/include/pcl/service.h",
        "return state >= PCL_BACKEND_ACTIVE && state <= PCL_BACKEND_QUARANTINED;", "return true;",
        "tests/network/test_services.py", "removed_backend"),
    Bug("a connection leaves a backend that ends", "bpf/include/pcl/service.h",
        "return state >= PCL_BACKEND_ACTIVE && state <= PCL_BACKEND_QUARANTINED;",
        "return state == PCL_BACKEND_ACTIVE;",
        "tests/network/test_services.py", "backend_that_ends"),
    Bug("affinity goes before the state (cilium#27096)", "bpf/include/pcl/service.h",
        "|| backend->state != PCL_BACKEND_ACTIVE)", ")",
        "tests/programs/test_services.py", "affinity_never"),
    Bug("a port used again finds the backend that ends", "bpf/include/pcl/connection.h",
        "state != PCL_BACKEND_ACTIVE ? PCL_UNKNOWN : PCL_OK", "0 ? PCL_UNKNOWN : PCL_OK",
        "tests/programs/test_services.py", "handshake"),
    Bug("source ranges that deny allow", "bpf/include/pcl/service.h",
        "return named != !!(service->flags & PCL_SERVICE_SOURCES_DENY);", "return named;",
        "tests/programs/test_services.py", "source_ranges"),
    Bug("ranges of the other family let everybody in", "src/pycilium/lb/frontends.py",
        "own = [_NOBODY[family]]", "pass",
        "tests/lb/test_manifests.py", "other_family"),
    Bug("backends of other nodes serve a local service", "src/pycilium/lb/choice.py",
        "if one.node and one.node == place.node", "if one.node",
        "tests/network/test_services.py", "only_backends"),
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
