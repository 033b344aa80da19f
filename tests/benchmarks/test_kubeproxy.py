# SPDX-License-Identifier: Apache-2.0
import shutil
import subprocess

import pytest

from benchmarks import kubeproxy
from benchmarks.kubeproxy.shape import Shape

TARGET = ("10.1.0.20", 8080)


def load(command, *inputs, then):
    """Feed rules to the real tool in a namespace of its own, and list what the kernel holds."""
    for tool in ("unshare", command[0], then[0]):
        assert shutil.which(tool), f"{tool} is needed"
    script = "\n".join(
        f'"$0" {" ".join(command[1:])} <<"END" || exit 1\n{one}END' for one in inputs
    )
    result = subprocess.run(
        ["unshare", "--net", "sh", "-c", f"{script}\n{' '.join(then)}", command[0]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_target_is_the_last_service():
    wanted = kubeproxy.services(300, TARGET)
    assert len({one.frontend for one in wanted}) == 300
    assert len({Shape(one, "").digest for one in wanted}) == 300
    assert str(wanted[-1].backends[0]) == "10.1.0.20:8080"
    assert TARGET[0] not in {str(one.backends[0].address) for one in wanted[:-1]}


@pytest.mark.root
@pytest.mark.parametrize("mode", ["legacy", "nft"])
def test_iptables_takes_the_rules_and_one_more(mode):
    held = load(
        [f"iptables-{mode}-restore", "--noflush"],
        kubeproxy.iptables.nat_table(kubeproxy.services(3, TARGET)),
        kubeproxy.iptables.addition(kubeproxy.service(3)),
        then=[f"iptables-{mode}-save", "-t", "nat"],
    )
    assert held.count("-A KUBE-SERVICES -d") == 4
    assert held.count("DNAT") == 4
    assert held.index("service-1 cluster IP") < held.index("service-2 cluster IP")


@pytest.mark.root
def test_nftables_takes_the_rules_and_one_more():
    held = load(
        ["nft", "-f", "-"],
        *kubeproxy.nftables.batches(kubeproxy.services(3, TARGET), size=2),
        kubeproxy.nftables.addition(kubeproxy.service(3)),
        then=["nft", "list", "ruleset"],
    )
    assert held.count("dnat to") == 4
    assert "dnat to 10.1.0.20:8080" in held


def test_batches_say_the_same_as_one_transaction():
    wanted = kubeproxy.services(7, TARGET)
    assert "".join(kubeproxy.nftables.batches(wanted, size=3)) == kubeproxy.nftables.nat_table(
        wanted
    )
